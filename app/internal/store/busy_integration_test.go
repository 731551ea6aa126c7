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
	"github.com/securenotes/securenotes/hack/testenv"
)

// TestOthersAtWork: a session counts while it carries out a statement, unless it is a Job's.
func TestOthersAtWork(t *testing.T) {
	server := testenv.StartPostgres(t)
	uri := server.CreateDatabase(t, "notes")
	uriFile := filepath.Join(t.TempDir(), "uri")
	if err := os.WriteFile(uriFile, []byte(uri), 0o600); err != nil {
		t.Fatal(err)
	}
	open := func(timeout time.Duration) *store.Store {
		db, err := store.Open(t.Context(), config.Database{Postgres: &config.Postgres{URIFile: uriFile, CAFile: server.CAFile, MaxConnections: 8}}, timeout)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = db.Close() })
		return db
	}
	job, sister, user := open(store.JobTimeout), open(store.JobTimeout), open(store.RequestTimeout)
	if _, err := job.Migrate(t.Context()); err != nil {
		t.Fatal(err)
	}
	locker, err := pgx.Connect(t.Context(), uri)
	if err != nil {
		t.Fatal(err)
	}
	defer locker.Close(t.Context())
	waiting := func() (sessions int) {
		if err := locker.QueryRow(t.Context(), "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock'").Scan(&sessions); err != nil {
			t.Fatal(err)
		}
		return sessions
	}
	others := func() int {
		n, err := job.OthersAtWork(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		return n
	}
	if n := others(); n != 0 {
		t.Errorf("nobody is at work, but %d are", n)
	}
	// Whoever reads the fence now is at work until the lock is gone.
	lock, err := locker.Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := lock.Exec(t.Context(), "LOCK TABLE fence IN ACCESS EXCLUSIVE MODE"); err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 2)
	for i, db := range []*store.Store{sister, user} {
		go func() { _, err := db.Fence(t.Context()); ended <- err }()
		for deadline := time.Now().Add(4 * time.Second); waiting() != i+1; time.Sleep(time.Millisecond) {
			if time.Now().After(deadline) {
				t.Fatalf("%d sessions wait for the lock, want %d", waiting(), i+1)
			}
		}
		if n := others(); n != i {
			t.Errorf("%d sessions at work besides the Jobs', want %d", n, i)
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
}
