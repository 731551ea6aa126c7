package main

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/securenotes/securenotes/app/config"
	"github.com/securenotes/securenotes/app/internal/envelope"
	"github.com/securenotes/securenotes/app/internal/envelope/envelopetest"
	"github.com/securenotes/securenotes/app/internal/store"
)

// devNotes returns a directory of serve --dev with a user's notes, and a configuration file for a
// manual rotation.
func devNotes(t *testing.T, notes int) (dir, file string, c *config.Config) {
	t.Helper()
	dir = filepath.Join(t.TempDir(), "data")
	client, url, stop := devServer(t, dir)
	credentials := `{"username":"alice","password":"correct horse battery"}`
	post(t, client, url+"/api/auth/register", "", credentials)
	token := post(t, client, url+"/api/auth/login", "", credentials)["token"].(string)
	for i := range notes {
		post(t, client, url+"/api/notes", token, fmt.Sprintf(`{"content":"note %d"}`, i))
	}
	stop()
	c = &config.Config{
		Deployment: config.Deployment{ID: "dev", Namespace: "dev", Name: "dev"},
		TLS:        &config.TLS{CertFile: filepath.Join(dir, "tls.crt"), KeyFile: filepath.Join(dir, "tls.key")},
		Database:   config.Database{SQLite: &config.SQLite{Path: filepath.Join(dir, "notes.db")}},
		Keys:       config.Keys{Local: &config.Local{File: filepath.Join(dir, "master.key")}},
		Auth: config.Auth{
			Registration: config.RegistrationOpen, TokenTTL: config.Duration(time.Hour), BcryptCost: 12, MinPasswordLength: 8,
		},
	}
	raw, err := config.Marshal(c)
	if err != nil {
		t.Fatal(err)
	}
	file = filepath.Join(dir, "config.yaml")
	if err := os.WriteFile(file, raw, 0o600); err != nil {
		t.Fatal(err)
	}
	return dir, file, cheapHashes(c)
}

func rotateLocal(t *testing.T, dir string) int {
	t.Helper()
	provider, err := envelopetest.OpenLocal(filepath.Join(dir, "master.key"))
	if err != nil {
		t.Fatal(err)
	}
	to, err := provider.Rotate()
	if err != nil {
		t.Fatal(err)
	}
	return to
}

// TestRotationByHand runs the commands of a rotation with their flags, and checks that verify --all
// finds what verify does not.
func TestRotationByHand(t *testing.T) {
	dir, file, c := devNotes(t, 5)
	rotation := func(to int, command string, flags ...string) int {
		return run(context.Background(), append([]string{command, "--config", file, "--to-version", fmt.Sprint(to), "--strategy", "Reencrypt"}, flags...))
	}
	for _, flags := range [][]string{nil, {"--max-notes-per-second", "1000000"}, {"--urgent"}} {
		to := rotateLocal(t, dir)
		if code := rotation(to, "verify"); code != config.ExitRetryable {
			t.Errorf("verify before the rotation ended with %d", code)
		}
		for _, refused := range [][]string{{"--max-notes-per-second", "-1"}, {"--max-notes-per-second", "1000001"}} {
			if code := rotation(to, "reencrypt", refused...); code != config.ExitConfiguration {
				t.Errorf("%v ended with %d", refused, code)
			}
		}
		if code := rotation(to, "reencrypt", "--urgent", "--max-notes-per-second", "5"); code == 0 {
			t.Error("a limit and urgent were accepted together")
		}
		if code := rotation(to, "reencrypt", flags...); code != 0 {
			t.Fatalf("reencrypt %v ended with %d", flags, code)
		}
		if code := rotation(to, "verify", "--all"); code != 0 {
			t.Errorf("verify --all after reencrypt %v ended with %d", flags, code)
		}
	}
	damageLastNote(t, c)
	if code := rotation(4, "verify"); code != 0 {
		t.Errorf("verify ended with %d", code)
	}
	if code := rotation(4, "verify", "--all"); code != config.ExitRetryable {
		t.Errorf("verify --all of a damaged note ended with %d", code)
	}
}

// damageLastNote flips a bit in the content of the only user's last note.
func damageLastNote(t *testing.T, c *config.Config) {
	t.Helper()
	db, err := store.Open(t.Context(), c.Database, nil, store.RoleJob)
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	tables, _, err := db.SealedColumns(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	keys, err := db.AllKeys(t.Context(), envelope.StoredKey{}, 10)
	if err != nil || len(keys) != 1 {
		t.Fatalf("%d keys, %v", len(keys), err)
	}
	rows, _, err := db.SealedRows(t.Context(), tables[0], keys[0].Owner, keys[0].ID, "", 100)
	if err != nil || len(rows) != 5 {
		t.Fatalf("%d notes, %v", len(rows), err)
	}
	rows[4].Values[0][20] ^= 1
	if n, err := db.ReplaceSealed(t.Context(), keys[0].KEKVersion, tables[0], keys[0].Owner, keys[0].ID, keys[0].ID, rows[4:]); n != 1 || err != nil {
		t.Fatalf("%d notes damaged, %v", n, err)
	}
}

// TestMetricsOfARotation scrapes a service whose rotation has started and stalled.
func TestMetricsOfARotation(t *testing.T) {
	dir, _, c := devNotes(t, 3)
	db, err := store.Open(t.Context(), c.Database, nil, store.RoleJob)
	if err != nil {
		t.Fatal(err)
	}
	if err := db.RaiseFence(t.Context(), rotateLocal(t, dir)); err != nil {
		t.Fatal(err)
	}
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	c.Listen, c.MetricsListen = "127.0.0.1:0", listener.Addr().String()
	listener.Close()
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- serve(ctx, c, 0, newLog(c.Log, os.Stderr)) }()
	defer func() {
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	}()
	served := func() string {
		response, err := http.Get("http://" + c.MetricsListen + "/metrics")
		if err != nil {
			return err.Error()
		}
		defer response.Body.Close()
		raw, err := io.ReadAll(response.Body)
		if err != nil {
			return err.Error()
		}
		return string(raw)
	}
	const stale, oldest = "\nsecurenotes_stale_rows{version=\"1\"} 3\n", "\nsecurenotes_oldest_master_key_version 1\n"
	deadline := time.Now().Add(30 * time.Second)
	for text := served(); !strings.Contains(text, stale) || !strings.Contains(text, oldest); text = served() {
		if time.Now().After(deadline) {
			t.Fatalf("/metrics says neither %q nor %q:\n%s", stale, oldest, text)
		}
		time.Sleep(20 * time.Millisecond)
	}
}
