package reencrypt_test

import (
	"sync/atomic"
	"testing"

	"modernc.org/sqlite"

	"github.com/securenotes/securenotes/app/internal/reencrypt"
	"github.com/securenotes/securenotes/app/internal/storetest"
)

// commits counts the commits of every SQLite database, and refuses all of them from one on: to what the database
// holds that is the same as the death of the process at any moment between that one and the one before.
type commits struct{ seen, refusedFrom atomic.Int64 }

// The hook holds for connections that are opened later, so it is there before any test.
var sqliteCommits = watchCommits()

func watchCommits() *commits {
	c := &commits{}
	sqlite.RegisterConnectionHook(func(conn sqlite.ExecQuerierContext, _ string) error {
		conn.(sqlite.HookRegisterer).RegisterCommitHook(func() int32 {
			from := c.refusedFrom.Load()
			if n := c.seen.Add(1); from > 0 && n >= from {
				return 1
			}
			return 0
		})
		return nil
	})
	return c
}

// die makes commit n from now, and those after it, come to nothing; 0 lets all live.
func (c *commits) die(n int64) {
	c.seen.Store(0)
	c.refusedFrom.Store(n)
}

// TestJobDiesBeforeAnyCommit: whichever commit of SQLite a Job does not live to make, the next one finishes the work.
// Every rotation leaves one key for each user, so that none is orphaned, and every note opens.
func TestJobDiesBeforeAnyCommit(t *testing.T) {
	for _, strategy := range []reencrypt.Strategy{reencrypt.Reencrypt, reencrypt.Rewrap} {
		t.Run(string(strategy), func(t *testing.T) {
			w := newWorld(t, storetest.SQLite(t), 2, 3)
			t.Cleanup(func() { sqliteCommits.die(0) })
			died := int64(0)
			for n := int64(1); ; n++ {
				to := w.rotate(t)
				sqliteCommits.die(n)
				err := w.job(strategy, to).Run(ctx)
				made := sqliteCommits.seen.Load()
				sqliteCommits.die(0)
				if made < n {
					if err != nil {
						t.Fatalf("no commit was refused: %v", err)
					}
					w.mustHold(t, strategy, to)
					break
				}
				if err == nil {
					t.Fatalf("the Job had success without commit %d", n)
				}
				died++
				if err := w.job(strategy, to).Run(ctx); err != nil {
					t.Fatalf("the Job after the one that died before commit %d: %v", n, err)
				}
				report, err := w.verification(strategy, to).Run(ctx)
				if err != nil || report.Keys != int64(len(w.users)) {
					t.Fatalf("after a death before commit %d: %d keys for %d users, %v", n, report.Keys, len(w.users), err)
				}
			}
			if died < 3 {
				t.Errorf("only %d Jobs died", died)
			}
			t.Logf("%d Jobs died", died)
		})
	}
}
