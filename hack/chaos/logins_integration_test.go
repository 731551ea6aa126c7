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

// databaseUsers returns the logins that Vault has created and not dropped.
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

// TestLoginsAreRenewedUnnoticed checks that no request fails while processes replace their database
// logins, and that no login outlives its process for longer than its lease.
func TestLoginsAreRenewedUnnoticed(t *testing.T) {
	w := newWorld(t, program(t), seed(t), shape{users: 3, lease: 4 * time.Second})
	seen := map[string]bool{}
	poll.Eventually(t, time.Minute, "four logins of each replica", func(context.Context) error {
		for _, user := range w.databaseUsers() {
			seen[user] = true
		}
		if len(seen) < 8 {
			return fmt.Errorf("only %d logins have been used", len(seen))
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
	poll.Eventually(t, time.Minute, "the logins of ended processes to be dropped", func(context.Context) error {
		if left := w.databaseUsers(); len(left) > 0 {
			return fmt.Errorf("the logins %v still exist", left)
		}
		return nil
	})
}
