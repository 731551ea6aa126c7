//go:build integration

package reencrypt_test

import (
	"context"
	"errors"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/securenotes/securenotes/app/internal/reencrypt"
	"github.com/securenotes/securenotes/app/internal/store"
	"github.com/securenotes/securenotes/app/internal/storetest"
	"github.com/securenotes/securenotes/hack/testenv"
)

// linkedPostgres returns the URI of a migrated database on the shared server, and how to open it
// through a link that can fail.
func linkedPostgres(t *testing.T) (direct string, link *testenv.Link, open storetest.Open) {
	t.Helper()
	server, direct := storetest.SharedDatabase(t)
	uri, err := url.Parse(direct)
	if err != nil {
		t.Fatal(err)
	}
	link = testenv.NewLink(t, uri.Host)
	uri.Host = link.Address()
	return direct, link, storetest.Postgres(t, server, uri.String())
}

// TestServerCrashesAfterTheJob checks that a crash of the server loses nothing of a Job that has
// succeeded, although the Job does not wait for the disk with each batch. The old master key
// version may be retired by then.
func TestServerCrashesAfterTheJob(t *testing.T) {
	t.Parallel()
	for _, strategy := range []reencrypt.Strategy{reencrypt.Reencrypt, reencrypt.Rewrap} {
		t.Run(string(strategy), func(t *testing.T) {
			t.Parallel()
			server := testenv.StartPostgres(t)
			open := storetest.Postgres(t, server, server.CreateDatabase(t, "notes"))
			w := newWorld(t, open, 3, 20)
			to := w.rotate(t)
			if err := w.job(strategy, to).Run(ctx); err != nil {
				t.Fatal(err)
			}
			server.Stop(t)
			server.Start(t)
			w.db = open(t)
			w.mustHold(t, strategy, to)
		})
	}
}

// TestStandbyIsAwayDuringAJob kills the client of a commit that waits for a standby server. The
// commit is then visible, but lost when the standby takes over. No verification may succeed before
// the standby has what the verification saw.
func TestStandbyIsAwayDuringAJob(t *testing.T) {
	t.Parallel()
	for _, strategy := range []reencrypt.Strategy{reencrypt.Reencrypt, reencrypt.Rewrap} {
		t.Run(string(strategy), func(t *testing.T) {
			t.Parallel()
			server := testenv.StartPostgres(t)
			open := storetest.Postgres(t, server, server.CreateDatabase(t, "notes"))
			w := newWorld(t, open, 3, 20)
			standby := server.StartStandby(t)
			to := w.rotate(t)
			stopStandby := sync.OnceFunc(func() { standby.Stop(t) })
			attempt := func(ctx context.Context) error {
				job := w.job(strategy, to)
				job.Progress = func(done, _ int64) {
					// Reencrypt waits for the standby when it creates keys, so the standby stops
					// only after that.
					if done > 0 || strategy == reencrypt.Rewrap {
						stopStandby()
					}
				}
				return job.Run(ctx)
			}
			within := func(work func(context.Context) error) error {
				ctx, cancel := context.WithTimeout(ctx, 2*time.Second)
				defer cancel()
				return work(ctx)
			}
			killed := 0
			for ; within(attempt) != nil; killed++ {
				if killed == 30 {
					t.Fatal("the work does not end")
				}
			}
			if killed == 0 {
				t.Fatal("no commit waited for the standby")
			}
			err := within(func(ctx context.Context) error {
				_, err := w.verification(strategy, to).Run(ctx)
				return err
			})
			if !errors.Is(err, store.ErrUnavailable) || !strings.Contains(err.Error(), "make the verified data durable") {
				t.Fatalf("the verification of what the standby does not have: %v", err)
			}
			standby.Start(t)
			if _, err := w.verification(strategy, to).Run(ctx); err != nil {
				t.Fatal(err)
			}
			server.Stop(t)
			standby.Promote(t)
			w.db = storetest.Postgres(t, standby, standby.URI("notes"))(t)
			w.mustHold(t, strategy, to)
		})
	}
}

// TestJobIsKilledAfterAnyStatement kills a Job before each answer of PostgreSQL in turn, including
// those to a commit. The next Job must finish the work. Every rotation leaves the same number of
// keys, so none is orphaned, and every note opens.
func TestJobIsKilledAfterAnyStatement(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		strategy   reencrypt.Strategy
		compromise bool
	}{
		"Reencrypt":               {strategy: reencrypt.Reencrypt},
		"Rewrap":                  {strategy: reencrypt.Rewrap},
		"Reencrypt, a compromise": {strategy: reencrypt.Reencrypt, compromise: true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			strategy := tc.strategy
			_, link, open := linkedPostgres(t)
			w := newWorld(t, open, 2, 3)
			killed := 0
			for answer := 1; ; answer++ {
				to := w.rotate(t)
				work, mustBeEnded := w.attempts(t, strategy, to, tc.compromise)
				link.LoseAnswer(answer)
				err := work()
				if !link.Lost() {
					link.LoseAnswer(0)
					if err != nil {
						t.Fatalf("nothing was lost: %v", err)
					}
					w.mustHold(t, strategy, to)
					break
				}
				if err != nil {
					killed++
				}
				if err := work(); err != nil {
					t.Fatalf("the Job after the one that lost answer %d: %v", answer, err)
				}
				mustBeEnded()
				report, err := w.verification(strategy, to).Run(ctx)
				if err != nil || report.Keys != int64(len(w.users)) {
					t.Fatalf("after the loss of answer %d: %d keys for %d users, %v", answer, report.Keys, len(w.users), err)
				}
			}
			if killed < 10 {
				t.Errorf("only %d Jobs failed", killed)
			}
			t.Logf("%d Jobs were killed", killed)
		})
	}
}
