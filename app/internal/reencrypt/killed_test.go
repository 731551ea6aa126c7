package reencrypt_test

import (
	"fmt"
	"sync/atomic"
	"testing"

	"modernc.org/sqlite"

	"github.com/securenotes/securenotes/app/internal/reencrypt"
	"github.com/securenotes/securenotes/app/internal/storetest"
)

// commits counts the commits of every SQLite database and rejects all of them from refusedFrom on.
// For the database this is the same as the death of the process at any moment between that commit
// and the previous one.
type commits struct{ seen, refusedFrom atomic.Int64 }

// The hook applies to connections that are opened later, so it is registered before any test.
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

// die rejects commit n, counted from now, and all later ones. With 0 all succeed.
func (c *commits) die(n int64) {
	c.seen.Store(0)
	c.refusedFrom.Store(n)
}

// TestJobDiesBeforeAnyCommit kills a Job before each commit of SQLite in turn. The next Job must
// finish the work. Every rotation leaves one key for each user, so none is orphaned, and every note
// opens.
//
// After a Compromise the earlier sessions must be gone. With many notes and users the Job dies
// between batches of rows and between batches of deleted keys. With many more users, most of whom
// have no rows, it dies between batches of owners.
func TestJobDiesBeforeAnyCommit(t *testing.T) {
	for name, tc := range map[string]struct {
		strategy         reencrypt.Strategy
		users, notesEach int
		// more is how many further notes the first user has.
		more int
		// bare is how many users have a key, but nothing that is sealed with it.
		bare       int
		compromise bool
		// least is how many Jobs must die.
		least int64
	}{
		"Reencrypt":                           {strategy: reencrypt.Reencrypt, users: 2, notesEach: 3, least: 8},
		"Rewrap":                              {strategy: reencrypt.Rewrap, users: 2, notesEach: 3, least: 3},
		"Reencrypt, a compromise":             {strategy: reencrypt.Reencrypt, users: 2, notesEach: 1, compromise: true, least: 9},
		"Reencrypt, batches of rows and keys": {strategy: reencrypt.Reencrypt, users: 18, more: 105, least: 20},
		"Reencrypt, batches of owners":        {strategy: reencrypt.Reencrypt, users: 2, bare: 53, least: 8},
	} {
		t.Run(name, func(t *testing.T) {
			strategy := tc.strategy
			w := newWorld(t, storetest.SQLite(t), tc.users, tc.notesEach)
			for i := range tc.more {
				w.addNote(t, w.api(), w.users[0], fmt.Sprintf("another note %d", i))
			}
			for range tc.bare {
				w.addBareUser(t)
			}
			t.Cleanup(func() { sqliteCommits.die(0) })
			died := int64(0)
			for n := int64(1); ; n++ {
				to := w.rotate(t)
				work, mustBeEnded := w.attempts(t, strategy, to, tc.compromise)
				sqliteCommits.die(n)
				err := work()
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
					t.Fatalf("the Job succeeded without commit %d", n)
				}
				died++
				if err := work(); err != nil {
					t.Fatalf("the Job after the one that died before commit %d: %v", n, err)
				}
				mustBeEnded()
				report, err := w.verification(strategy, to).Run(ctx)
				if err != nil || report.Keys != int64(len(w.users)) {
					t.Fatalf("after a death before commit %d: %d keys for %d users, %v", n, report.Keys, len(w.users), err)
				}
			}
			if died < tc.least {
				t.Errorf("%d Jobs died, want at least %d", died, tc.least)
			}
			t.Logf("%d Jobs died", died)
		})
	}
}
