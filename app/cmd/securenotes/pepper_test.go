package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/securenotes/securenotes/app/config"
	"github.com/securenotes/securenotes/app/internal/accounts"
	"github.com/securenotes/securenotes/app/internal/deployment"
	"github.com/securenotes/securenotes/app/internal/store"
	"github.com/securenotes/securenotes/app/internal/vault"
)

// localDeployment returns the configuration of a service that stores everything in a directory.
func localDeployment(t *testing.T, dir string) *config.Config {
	t.Helper()
	c := &config.Config{
		APIVersion: config.APIVersion, Kind: config.Kind,
		Deployment: config.Deployment{ID: "d1", Namespace: "ns", Name: "notes"},
		Database:   config.Database{SQLite: &config.SQLite{Path: filepath.Join(dir, "notes.db")}},
		Keys:       config.Keys{Local: &config.Local{File: filepath.Join(dir, "master.key")}},
		Auth:       config.Auth{Registration: config.RegistrationOpen, TokenTTL: config.Duration(time.Hour), BcryptCost: 12, MinPasswordLength: 8},
	}
	if err := c.Complete(); err != nil {
		t.Fatal(err)
	}
	return cheapHashes(c)
}

// TestNothingStartsWithAnotherPepper checks that neither migrate nor the API runs with another
// pepper than that of the database's passwords, and that both run again once it is back.
func TestNothingStartsWithAnotherPepper(t *testing.T) {
	dir, ctx := t.TempDir(), context.Background()
	c := localDeployment(t, dir)
	attempts := map[string]func(*trust) error{
		"migrate": func(trusted *trust) error {
			_, err := migrate(ctx, c, trusted)
			return err
		},
		"serve": func(trusted *trust) error {
			api, err := start(ctx, c, trusted, io.Discard, prometheus.NewRegistry(), slog.New(slog.DiscardHandler))
			if err == nil {
				api.close(slog.New(slog.DiscardHandler))
			}
			return err
		},
	}
	trusted, err := newTrust(ctx, c)
	if err != nil {
		t.Fatal(err)
	}
	if err := attempts["migrate"](trusted); err != nil {
		t.Fatal(err)
	}
	own := trusted.secrets.(localSecrets)
	file, err := own.load()
	if err != nil {
		t.Fatal(err)
	}
	file.Pepper = config.NewPepper()
	raw, err := json.Marshal(file)
	if err != nil {
		t.Fatal(err)
	}
	planted := *trusted
	planted.secrets = localSecrets{filepath.Join(dir, "planted")}
	if err := os.WriteFile(filepath.Join(dir, "planted"), raw, 0o600); err != nil {
		t.Fatal(err)
	}
	for name, attempt := range attempts {
		if err := attempt(&planted); !errors.Is(err, deployment.ErrWrongPepper) {
			t.Errorf("%s with another pepper: %v", name, err)
		}
		if err := attempt(trusted); err != nil {
			t.Errorf("%s with its own: %v", name, err)
		}
	}
}

// TestStartFindsLostPeppers checks that a starting process logs how many passwords it cannot
// verify, and that no client learns whose they are.
func TestStartFindsLostPeppers(t *testing.T) {
	ctx := t.Context()
	c := localDeployment(t, t.TempDir())
	trusted, err := newTrust(ctx, c)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := migrate(ctx, c, trusted); err != nil {
		t.Fatal(err)
	}
	d, err := openData(ctx, c, trusted, store.RoleAPI)
	if err != nil {
		t.Fatal(err)
	}
	user := accounts.User{ID: uuid.NewString(), Username: "alice", PasswordHash: "hash", PepperID: "lost", CreatedAt: time.Now()}
	key, err := d.keys.Generate(ctx, user.ID)
	if err := errors.Join(err, d.store.CreateUser(ctx, user, key), d.store.Close()); err != nil {
		t.Fatal(err)
	}
	var said bytes.Buffer
	log := slog.New(slog.NewTextHandler(&said, nil))
	api, err := start(ctx, c, trusted, io.Discard, prometheus.NewRegistry(), log)
	if err != nil {
		t.Fatal(err)
	}
	defer api.close(log)
	if line := said.String(); !strings.Contains(line, "users cannot log in") || !strings.Contains(line, "pepper=lost users=1") {
		t.Errorf("the log says: %s", line)
	}
	server := httptest.NewServer(api.handler)
	defer server.Close()
	answer, err := server.Client().Post(server.URL+"/api/auth/login", "application/json", strings.NewReader(`{"username":"nobody","password":"wrong horse battery"}`))
	if err != nil {
		t.Fatal(err)
	}
	defer answer.Body.Close()
	if answer.StatusCode != http.StatusServiceUnavailable {
		t.Errorf("the login of an unknown user: %d, want 503", answer.StatusCode)
	}
}

// TestPlantedSecretsEndTheProcess checks that a planted value ends the process without a retry, so
// that the operator can read the reason, and that a passing error is retried.
func TestPlantedSecretsEndTheProcess(t *testing.T) {
	for name, tc := range map[string]struct {
		err  error
		want int
	}{
		"planted session keys": {err: fmt.Errorf("x: %w", vault.ErrNotRecorded), want: 1},
		"planted pepper":       {err: fmt.Errorf("x: %w", deployment.ErrWrongPepper), want: 1},
		"a sealed Vault":       {err: vault.ErrSealed, want: 2},
	} {
		ctx, cancel := context.WithCancel(context.Background())
		calls := 0
		err := retry(ctx, func(error) {}, func(context.Context) error {
			if calls++; calls == 2 {
				cancel()
			}
			return tc.err
		})
		cancel()
		if !errors.Is(err, tc.err) || calls != tc.want {
			t.Errorf("%s: tried %d times, want %d; %v", name, calls, tc.want, err)
		}
	}
}
