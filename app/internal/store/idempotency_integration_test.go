//go:build integration

package store_test

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/securenotes/securenotes/app/internal/notes"
	"github.com/securenotes/securenotes/app/internal/store"
)

// TestKeyOfAnotherPepper checks that a request does not take an idempotency key from a concurrent
// request whose replica has another pepper: one note would be stored twice.
func TestKeyOfAnotherPepper(t *testing.T) {
	db, other, uri := postgres(t)
	user := newUser(t, db, "alice", 1)
	first := user.sealedNote()
	if err := db.CreateNote(ctx, user.id, now, first); err != nil {
		t.Fatal(err)
	}
	later := now.Add(time.Hour)
	key := notes.IdempotencyKey{Digest: strings.Repeat("d", 64), Request: "r2", Pepper: "p2", Expires: later}
	concurrent, err := other.Begin(ctx)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := concurrent.Exec(ctx, `INSERT INTO idempotency_keys (owner, key, note, created_at, expires_at, request, pepper_id)
		VALUES ($1, $2, $3, $4, $5, 'r1', 'p1')`, user.id.Owner, key.Digest, first.ID, now.UnixMicro(), later.UnixMicro()); err != nil {
		t.Fatal(err)
	}
	done := make(chan error, 1)
	go func() {
		_, err := db.CreateNoteIdempotent(ctx, user.id, now, user.sealedNote(), key)
		done <- err
	}()
	watcher := connect(t, uri) // a transaction sees only the sessions that existed when it began
	until(t, "the second request waits for the first", func() bool {
		var waiting int
		err := watcher.QueryRow(ctx, "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = current_database()").Scan(&waiting)
		return err == nil && waiting == 1
	})
	if err := concurrent.Commit(ctx); err != nil {
		t.Fatal(err)
	}
	if err := <-done; !errors.Is(err, store.ErrUnavailable) {
		t.Errorf("the second request: %v, want ErrUnavailable", err)
	}
	if list, err := db.Notes(ctx, user.id, now, "", 10); err != nil || len(list) != 1 {
		t.Errorf("%d notes, %v; want 1", len(list), err)
	}
}
