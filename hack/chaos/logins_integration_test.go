//go:build integration

package chaos_test

import (
	"context"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
)

// databaseUsers are the logins that Vault made and has not dropped.
func (w *world) databaseUsers() []string {
	w.Helper()
	conn := w.connect()
	defer conn.Close(context.Background())
	rows, err := conn.Query(context.Background(), "SELECT rolname FROM pg_roles WHERE rolname LIKE 'v-%'")
	if err != nil {
		w.Fatal(err)
	}
	users, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil {
		w.Fatal(err)
	}
	return users
}

// await asks every tenth of a second until the answer is yes.
func (w *world) await(what string, yes func() bool) {
	w.Helper()
	for deadline := time.Now().Add(time.Minute); !yes(); time.Sleep(100 * time.Millisecond) {
		if time.Now().After(deadline) {
			w.Fatalf("in vain: %s", what)
		}
	}
}

// TestLoginsAreRenewedUnnoticed: not one request fails while the database logins are renewed, with all that was done
// with those of before; and none outlives its process for longer than its lease.
func TestLoginsAreRenewedUnnoticed(t *testing.T) {
	w := newWorld(t, program(t), seed(t), shape{users: 3, lease: 4 * time.Second})
	seen := map[string]bool{}
	w.await("each replica has had four logins", func() bool {
		for _, user := range w.databaseUsers() {
			seen[user] = true
		}
		return len(seen) >= 8
	})
	w.load.End()
	if failed := w.load.Unanswered(); failed != 0 {
		t.Errorf("%d requests failed: %s", failed, w.load)
	}
	w.report()
	for i := range w.replicas {
		w.replicas[i].service.Kill(t)
	}
	w.await("the logins of processes that are gone are dropped", func() bool { return len(w.databaseUsers()) == 0 })
}
