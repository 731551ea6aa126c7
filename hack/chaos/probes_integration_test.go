//go:build integration

package chaos_test

import (
	"context"
	"errors"
	"net/http"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/securenotes/securenotes/hack/poll"
)

// TestProbesAreNoUsers checks that a service without users looks idle to a Job, however often it is
// probed, and that the service stays ready while its own background work waits for a lock.
func TestProbesAreNoUsers(t *testing.T) {
	t.Parallel()
	w := newServers(t, program(t), shape{})
	s := startServing(t, w.vault, w.way().config, 0)
	connect := func() *pgx.Conn {
		conn, err := pgx.Connect(t.Context(), w.postgres.URI("notes"))
		if err != nil {
			t.Fatal(err)
		}
		return conn
	}
	admin, locker := connect(), connect()
	defer admin.Close(t.Context())
	defer locker.Close(t.Context())
	var begun time.Time
	if err := admin.QueryRow(t.Context(), "SELECT clock_timestamp()").Scan(&begun); err != nil {
		t.Fatal(err)
	}
	for range 100 {
		if status := s.ready(); status != http.StatusOK {
			t.Fatalf("status %d", status)
		}
	}
	since := func(application string) (sessions int) {
		t.Helper()
		if err := admin.QueryRow(t.Context(), "SELECT count(*) FROM pg_stat_activity WHERE application_name = $1 AND (state = 'active' OR state_change > $2)",
			application, begun).Scan(&sessions); err != nil {
			t.Fatal(err)
		}
		return sessions
	}
	// The service checks its database at intervals, however often it is probed.
	poll.Eventually(t, time.Minute, "the service to check its database", func(context.Context) error {
		if since("securenotes-background") == 0 {
			return errors.New("no session of its background work is active")
		}
		return nil
	})
	if users := since("securenotes"); users != 0 {
		t.Errorf("%d sessions of users, want none", users)
	}
	// Within a minute the metrics are read, or expired rows are deleted.
	lock, err := locker.Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = lock.Rollback(t.Context()) }()
	if _, err := lock.Exec(t.Context(), "LOCK TABLE owner_keys, sessions IN ACCESS EXCLUSIVE MODE"); err != nil {
		t.Fatal(err)
	}
	poll.Eventually(t, 2*time.Minute, "the service's background work to wait for the lock", func(ctx context.Context) error {
		var waits bool
		if err := admin.QueryRow(ctx, "SELECT EXISTS (SELECT FROM pg_stat_activity WHERE application_name = 'securenotes-background' AND wait_event_type = 'Lock')").Scan(&waits); err != nil {
			return err
		}
		if !waits {
			return errors.New("no session of the service waits")
		}
		return nil
	})
	if status := s.ready(); status != http.StatusOK {
		t.Errorf("status %d while background work waits", status)
	}
}
