//go:build integration

package store_test

import (
	"errors"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/securenotes/securenotes/app/internal/accounts"
	"github.com/securenotes/securenotes/app/internal/envelope"
	"github.com/securenotes/securenotes/app/internal/store"
	"github.com/securenotes/securenotes/app/internal/storetest"
)

// TestRegistrationWaitsForARestoreThatBegins checks that a registration that began before a restore
// is not committed after the restore has found the database empty.
func TestRegistrationWaitsForARestoreThatBegins(t *testing.T) {
	server, uri := storetest.SharedDatabase(t)
	pod := storetest.Postgres(t, server, uri)(t)
	meta := store.Meta{DeploymentID: "d1", BelongsTo: "ns/name", Canary: envelope.StoredKey{ID: envelope.NewID(), Wrapped: wrappedAt(1)}, Sealed: sealedBytes(1)}
	if err := pod.ClaimMeta(ctx, meta); err != nil {
		t.Fatal(err)
	}
	pod.Expect(meta)
	restore, observer := connect(t, uri), connect(t, uri)
	tx, err := restore.Begin(ctx)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := tx.Exec(ctx, "UPDATE meta SET deployment_id = 'restoring:abcdefghijklmnop'"); err != nil {
		t.Fatal(err)
	}
	registered := make(chan error, 1)
	go func() {
		late := accounts.User{ID: uuid.NewString(), Username: "late", PasswordHash: "h", PepperID: "p", CreatedAt: now}
		registered <- pod.CreateUser(ctx, late, envelope.StoredKey{Owner: late.ID, ID: envelope.NewID(), Wrapped: wrappedAt(1)})
	}()
	deadline, tick := time.After(30*time.Second), time.NewTicker(5*time.Millisecond)
	defer tick.Stop()
	for waiting := 0; waiting == 0; {
		select {
		case err := <-registered:
			t.Fatalf("the registration ended beside the restore: %v", err)
		case <-deadline:
			t.Fatal("the registration waits for nothing")
		case <-tick.C:
		}
		if err := observer.QueryRow(ctx, "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'").Scan(&waiting); err != nil {
			t.Fatal(err)
		}
	}
	if err := tx.Commit(ctx); err != nil {
		t.Fatal(err)
	}
	if err := <-registered; !errors.Is(err, store.ErrRestored) {
		t.Errorf("%v, want ErrRestored", err)
	}
	if n, err := pod.CountUsers(ctx); n != 0 || err != nil {
		t.Errorf("%d users, %v", n, err)
	}
}
