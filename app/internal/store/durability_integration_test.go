//go:build integration

package store_test

import (
	"testing"
	"time"

	"github.com/securenotes/securenotes/app/internal/store"
	"github.com/securenotes/securenotes/app/internal/storetest"
	"github.com/securenotes/securenotes/hack/testenv"
)

// TestCommitsAreAwaited checks that commits wait for the disk, whatever the default of the database
// is and even if the server's default changes during a connection.
func TestCommitsAreAwaited(t *testing.T) {
	server := testenv.StartPostgres(t)
	uri := server.CreateDatabase(t, "notes")
	open := storetest.Postgres(t, server, uri)
	for set, want := range map[string]string{"off": "on", "on": "on", "remote_apply": "remote_apply"} {
		t.Run(set, func(t *testing.T) {
			server.Execute(t, "ALTER DATABASE notes SET synchronous_commit = "+set)
			if got, err := store.Internals(open(t)).Setting(t.Context(), "synchronous_commit"); err != nil || got != want {
				t.Errorf("synchronous_commit is %q, %v; want %q", got, err, want)
			}
		})
	}
	t.Run("reloaded", func(t *testing.T) {
		server.Execute(t, "ALTER DATABASE notes RESET synchronous_commit")
		db, plain := open(t), connect(t, uri)
		server.Execute(t, "ALTER SYSTEM SET synchronous_commit = off", "SELECT pg_reload_conf()")
		for deadline := time.Now().Add(10 * time.Second); ; {
			var got string
			if err := plain.QueryRow(t.Context(), "SHOW synchronous_commit").Scan(&got); err != nil {
				t.Fatal(err)
			}
			if got == "off" {
				break
			}
			if time.Now().After(deadline) {
				t.Fatal("a connection that is not ours did not take the new setting over")
			}
		}
		if got, err := store.Internals(db).Setting(t.Context(), "synchronous_commit"); err != nil || got != "on" {
			t.Errorf("synchronous_commit is %q, %v; want on", got, err)
		}
	})
}
