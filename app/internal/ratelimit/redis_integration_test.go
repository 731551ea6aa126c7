//go:build integration

package ratelimit

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/securenotes/securenotes/app/config"
	"github.com/securenotes/securenotes/hack/testenv"
)

// openLogins returns the limits of one replica of a deployment, counted in Redis.
func openLogins(t *testing.T, server *testenv.Redis, deployment string) *Logins {
	t.Helper()
	uriFile := filepath.Join(t.TempDir(), "uri")
	if err := os.WriteFile(uriFile, []byte(server.URI+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	store, closeStore, err := OpenStore(config.RateLimits{Redis: &config.Redis{URIFile: uriFile, CAFile: server.CAFile}}, deployment, nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := closeStore(); err != nil {
			t.Error(err)
		}
	})
	return NewLogins(store, Rates{FailedLogins: 3, Registrations: 2})
}

func TestRedisCountsOverReplicas(t *testing.T) {
	ctx := context.Background()
	server := testenv.StartRedis(t)
	one, other, foreign := openLogins(t, server, "d1"), openLogins(t, server, "d1"), openLogins(t, server, "d2")
	for range 3 {
		if err := other.CheckLogin(ctx, "192.0.2.1", "alice"); err != nil {
			t.Fatalf("below the limit: %v", err)
		}
		if _, err := one.TakeLogin(ctx, "192.0.2.1", "alice"); err != nil {
			t.Fatal(err)
		}
	}
	err := other.CheckLogin(ctx, "192.0.2.1", "bob")
	if limited, ok := errors.AsType[*LimitedError](err); !ok || limited.RetryAfter <= 0 {
		t.Errorf("at the limit, on another replica: %v", err)
	}
	if err := other.CheckLogin(ctx, "192.0.2.2", "alice"); err != nil {
		t.Errorf("another address: %v", err)
	}
	if err := foreign.CheckLogin(ctx, "192.0.2.1", "alice"); err != nil {
		t.Errorf("another deployment in the same Redis: %v", err)
	}
	for range 3 { // counts that are undone
		undo, err := one.TakeLogin(ctx, "192.0.2.3", "carol")
		if err != nil {
			t.Fatal(err)
		}
		if err := undo(ctx); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := other.TakeLogin(ctx, "192.0.2.3", "carol"); err != nil {
		t.Errorf("after three that had not failed: %v", err)
	}
	for range codesPerHour {
		if err := one.TakeCode(ctx, "192.0.2.1", "u"); err != nil {
			t.Fatal(err)
		}
	}
	err = other.TakeCode(ctx, "192.0.2.1", "u")
	if _, ok := errors.AsType[*LimitedError](err); !ok {
		t.Errorf("one code too many: %v", err)
	}
	if err := one.CodeAccepted(ctx, "192.0.2.1", "u"); err != nil {
		t.Fatal(err)
	}
	if err := other.TakeCode(ctx, "192.0.2.1", "u"); err != nil {
		t.Errorf("after one was accepted: %v", err)
	}
}

// TestRedisAway: nobody can log in while Redis is unavailable. It is used again when it is back.
func TestRedisAway(t *testing.T) {
	ctx := context.Background()
	server := testenv.StartRedis(t)
	logins := openLogins(t, server, "d1")
	if _, err := logins.TakeLogin(ctx, "192.0.2.1", "alice"); err != nil {
		t.Fatal(err)
	}
	server.Stop(t)
	_, errTake := logins.TakeLogin(ctx, "192.0.2.1", "alice")
	for what, err := range map[string]error{
		"check": logins.CheckLogin(ctx, "192.0.2.1", "alice"), "count": errTake, "code": logins.TakeCode(ctx, "192.0.2.1", "u"),
	} {
		if !errors.Is(err, ErrUnavailable) || strings.Contains(err.Error(), "test-only") {
			t.Errorf("%s: %v, want ErrUnavailable", what, err)
		}
	}
	server.Start(t)
	// A new server does not have the scripts that were loaded into the previous one.
	if _, err := logins.TakeLogin(ctx, "192.0.2.1", "alice"); err != nil {
		t.Errorf("when it is back: %v", err)
	}
	if err := logins.CheckLogin(ctx, "192.0.2.1", "alice"); err != nil {
		t.Errorf("when it is back: %v", err)
	}
}

// TestRedisSecretsAreReadAgain: a new password is used for the next connection, without a restart.
func TestRedisSecretsAreReadAgain(t *testing.T) {
	ctx := context.Background()
	server := testenv.StartRedis(t)
	uriFile := filepath.Join(t.TempDir(), "uri")
	write := func(uri string) {
		t.Helper()
		if err := os.WriteFile(uriFile, []byte(uri), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write(server.URI)
	store, closeStore, err := OpenStore(config.RateLimits{Redis: &config.Redis{URIFile: uriFile, CAFile: server.CAFile}}, "d1", nil)
	if err != nil {
		t.Fatal(err)
	}
	defer closeStore()
	logins := NewLogins(store, Rates{FailedLogins: 3, Registrations: 2})
	changed := server.ChangePassword(t)
	if err := logins.CheckLogin(ctx, "192.0.2.1", "alice"); !errors.Is(err, ErrUnavailable) {
		t.Errorf("with the old password: %v", err)
	}
	write(changed)
	if err := logins.CheckLogin(ctx, "192.0.2.1", "alice"); err != nil {
		t.Errorf("with the new password: %v", err)
	}
}
