//go:build integration

package chaos_test

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/securenotes/securenotes/hack/poll"
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

// TestLoginsAreRenewedUnnoticed: not one request fails while the database logins are renewed, with all that was done
// with those of before; and none outlives its process for longer than its lease.
func TestLoginsAreRenewedUnnoticed(t *testing.T) {
	w := newWorld(t, program(t), seed(t), shape{users: 3, lease: 4 * time.Second})
	seen := map[string]bool{}
	poll.Eventually(t, time.Minute, "four logins of each replica", func(context.Context) error {
		for _, user := range w.databaseUsers() {
			seen[user] = true
		}
		if len(seen) < 8 {
			return fmt.Errorf("%d logins were seen", len(seen))
		}
		return nil
	})
	w.load.End()
	if failed := w.load.Unanswered(); failed != 0 {
		t.Errorf("%d requests failed: %s", failed, w.load)
	}
	w.report()
	for i := range w.replicas {
		w.replicas[i].service.Kill(t)
	}
	poll.Eventually(t, time.Minute, "the end of the logins of processes that have ended", func(context.Context) error {
		if left := w.databaseUsers(); len(left) > 0 {
			return fmt.Errorf("%v are left", left)
		}
		return nil
	})
}
