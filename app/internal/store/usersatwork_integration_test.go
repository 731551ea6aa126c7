//go:build integration

package store_test

import (
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/securenotes/securenotes/app/config"
	"github.com/securenotes/securenotes/app/internal/store"
	"github.com/securenotes/securenotes/app/internal/storetest"
)

// TestUsersAtWork checks that an API session counts while it executes a statement and for a while
// afterwards, and that sessions of Jobs, of other programs and of the API's background work do not
// count.
func TestUsersAtWork(t *testing.T) {
	server, uri := storetest.SharedDatabase(t)
	uriFile := filepath.Join(t.TempDir(), "uri")
	if err := os.WriteFile(uriFile, []byte(uri), 0o600); err != nil {
		t.Fatal(err)
	}
	open := func(role store.Role) store.Store {
		db, err := store.Open(t.Context(), config.Database{Postgres: &config.Postgres{URIFile: uriFile, CAFile: server.CAFile, MaxConnections: 8}}, nil, role)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = db.Close() })
		return db
	}
	job, sister, user := open(store.RoleJob), open(store.RoleJob), open(store.RoleAPI)
	locker, err := pgx.Connect(t.Context(), uri)
	if err != nil {
		t.Fatal(err)
	}
	defer locker.Close(t.Context())
	waiting := func() (sessions int) {
		if err := locker.QueryRow(t.Context(), "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = current_database()").Scan(&sessions); err != nil {
			t.Fatal(err)
		}
		return sessions
	}
	atWork := func(recently time.Duration) int {
		n, err := job.UsersAtWork(t.Context(), recently)
		if err != nil {
			t.Fatal(err)
		}
		return n
	}
	if n := atWork(0); n != 0 {
		t.Errorf("%d users at work, but there are none", n)
	}
	// A statement that reads the fence runs until the lock is released.
	lock, err := locker.Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := lock.Exec(t.Context(), "LOCK TABLE fence IN ACCESS EXCLUSIVE MODE"); err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 2)
	for i, db := range []store.Store{sister, user} {
		go func() { _, err := db.Fence(t.Context()); ended <- err }()
		for deadline := time.Now().Add(4 * time.Second); waiting() != i+1; time.Sleep(time.Millisecond) {
			if time.Now().After(deadline) {
				t.Fatalf("%d sessions wait for the lock, want %d", waiting(), i+1)
			}
		}
		if n := atWork(0); n != i {
			t.Errorf("%d users at work, want %d", n, i)
		}
	}
	if err := lock.Commit(t.Context()); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if err := <-ended; err != nil {
			t.Error(err)
		}
	}
	if now, of := atWork(0), atWork(time.Hour); now != 0 || of != 1 {
		t.Errorf("%d users at work after the last statement, and %d in the last hour; want 0 and 1", now, of)
	}
	background := user.Background()
	defer background.Close()
	if err := background.Ping(t.Context()); err != nil {
		t.Fatal(err)
	}
	if n := atWork(time.Hour); n != 1 {
		t.Errorf("%d users at work after a probe, want still 1", n)
	}
}
