package store_test

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/uuid"
	"modernc.org/sqlite"

	"github.com/securenotes/securenotes/app/internal/accounts"
	"github.com/securenotes/securenotes/app/internal/envelope"
	"github.com/securenotes/securenotes/app/internal/sessions"
	"github.com/securenotes/securenotes/app/internal/store"
	"github.com/securenotes/securenotes/app/internal/storetest"
)

// filled returns a backup of a database with rows of every table.
func filled(t testing.TB) backup {
	t.Helper()
	db := storetest.SQLite(t)(t)
	fill(t, db)
	b := backUp(t, db)
	for _, table := range b.Tables {
		if len(b.Rows[table.Name]) == 0 {
			t.Fatalf("the backup has no rows of table %s", table.Name)
		}
	}
	return b
}

// TestBackupIsRestored restores a backup, twice, into databases that have been claimed and used as
// far as a database without users can be.
func TestBackupIsRestored(t *testing.T) {
	b := filled(t)
	storetest.EachJob(t, func(t *testing.T, job, _ storetest.Open) {
		db := job(t)
		other := target
		other.DeploymentID, other.Canary.Wrapped, other.Canary.ID = "d2", wrappedAt(9), "another canary"
		if err := db.ClaimMeta(ctx, other); err != nil {
			t.Fatal(err)
		}
		if _, err := db.ClaimPepper(ctx, strings.Repeat("b", 64)); err != nil {
			t.Fatal(err)
		}
		if err := db.RaiseFence(ctx, restoreFence); err != nil {
			t.Fatal(err)
		}
		if err := store.Internals(db).Execute(ctx, "INSERT INTO limits (key, count, expires_at) VALUES ('x', 1, 1)"); err != nil {
			t.Fatal(err)
		}
		if err := restore(ctx, db, "first", b); err != nil {
			t.Fatal(err)
		}
		mustBeRestored(t, db, b)
		first, err := db.Meta(ctx)
		if err != nil {
			t.Fatal(err)
		}
		if err := store.Internals(db).Execute(ctx, "UPDATE meta SET deployment_id = 'restoring:first'"); err != nil {
			t.Fatal(err)
		}
		if err := restore(ctx, db, "second", b); err != nil {
			t.Fatal(err)
		}
		mustBeRestored(t, db, b)
		if second, err := db.Meta(ctx); err != nil || second.Epoch == first.Epoch {
			t.Errorf("two restores have the epoch %s, %v", first.Epoch, err)
		}
	})
}

// TestRestoringIsMarked checks the id of the deployment while a database is filled.
func TestRestoringIsMarked(t *testing.T) {
	b := filled(t)
	storetest.EachJob(t, func(t *testing.T, job, _ storetest.Open) {
		db := job(t)
		if err := db.StartRestore(ctx, "run1", target, store.RefuseExisting); err != nil {
			t.Fatal(err)
		}
		if err := load(ctx, db, "run1", b); err != nil {
			t.Fatal(err)
		}
		meta, err := db.Meta(ctx)
		if run, restoring := store.Restoring(meta.DeploymentID); run != "run1" || !restoring || err != nil {
			t.Errorf("deployment id %q, %v; want that of run1", meta.DeploymentID, err)
		}
		want := store.Meta{DeploymentID: meta.DeploymentID, BelongsTo: target.BelongsTo, Canary: target.Canary, Sealed: target.Sealed}
		if diff := cmp.Diff(want, meta); diff != "" {
			t.Error(diff)
		}
		if err := db.FinishRestore(ctx, "run1", target, restoreFence, b.counts()); err != nil {
			t.Fatal(err)
		}
		id, err := db.DeploymentID(ctx)
		if _, restoring := store.Restoring(id); restoring || id != target.DeploymentID || err != nil {
			t.Errorf("deployment id %q, %v; want %s", id, err, target.DeploymentID)
		}
	})
}

// TestRestoreNeedsAnEmptyDatabase checks that a restore deletes nobody's data.
func TestRestoreNeedsAnEmptyDatabase(t *testing.T) {
	storetest.EachJob(t, func(t *testing.T, job, _ storetest.Open) {
		db := job(t)
		fill(t, db)
		before := backUp(t, db)
		if err := db.StartRestore(ctx, "run", target, store.RefuseExisting); !errors.Is(err, store.ErrNotEmpty) {
			t.Errorf("%v, want ErrNotEmpty", err)
		}
		if diff := differences(before, backUp(t, db)); diff != "" {
			t.Errorf("the database has changed:\n%s", diff)
		}
		if _, err := db.Meta(ctx); !errors.Is(err, store.ErrNoMeta) {
			t.Errorf("%v, want ErrNoMeta as before", err)
		}
	})
}

// TestRestoreOfAnotherDeploymentIsNotTakenOver checks that a restore leaves a database alone that
// the restore of another deployment fills, and that the other one goes on.
func TestRestoreOfAnotherDeploymentIsNotTakenOver(t *testing.T) {
	b := filled(t)
	storetest.EachJob(t, func(t *testing.T, job, _ storetest.Open) {
		db := job(t)
		if err := db.StartRestore(ctx, "first", target, store.RefuseExisting); err != nil {
			t.Fatal(err)
		}
		if err := load(ctx, db, "first", b); err != nil {
			t.Fatal(err)
		}
		other := target
		other.BelongsTo = "ns/other"
		if err := db.StartRestore(ctx, "second", other, store.RefuseExisting); !errors.Is(err, store.ErrOtherDeployment) || !strings.Contains(err.Error(), target.BelongsTo) {
			t.Errorf("%v, want ErrOtherDeployment with the name of the other", err)
		}
		if err := db.FinishRestore(ctx, "first", target, restoreFence, b.counts()); err != nil {
			t.Fatal(err)
		}
		mustBeRestored(t, db, b)
	})
}

// TestRestoreNeedsADatabaseOfItsOwn checks that a restore does not begin beside a table with which
// no backup would be made.
func TestRestoreNeedsADatabaseOfItsOwn(t *testing.T) {
	storetest.EachJob(t, func(t *testing.T, job, _ storetest.Open) {
		db := job(t)
		if err := store.Internals(db).Execute(ctx, "CREATE TABLE invoices (id integer PRIMARY KEY)"); err != nil {
			t.Fatal(err)
		}
		if err := db.StartRestore(ctx, "run", target, store.RefuseExisting); !errors.Is(err, store.ErrSchema) || !strings.Contains(err.Error(), "invoices") {
			t.Errorf("%v, want ErrSchema with the name of the table", err)
		}
		if _, err := db.Meta(ctx); !errors.Is(err, store.ErrNoMeta) {
			t.Errorf("%v, want ErrNoMeta as before", err)
		}
	})
}

// TestRestoreIsTakenOver checks that a second run replaces what the first has loaded, and that the
// first can commit nothing more, also once the second has finished.
func TestRestoreIsTakenOver(t *testing.T) {
	b := filled(t)
	storetest.EachJob(t, func(t *testing.T, job, _ storetest.Open) {
		first, second := job(t), job(t)
		if err := first.StartRestore(ctx, "first", target, store.RefuseExisting); err != nil {
			t.Fatal(err)
		}
		if err := load(ctx, first, "first", b); err != nil {
			t.Fatal(err)
		}
		mustBeSuperseded := func(when string) {
			t.Helper()
			if err := first.Load(ctx, "first", b.Tables[0], b.Rows["users"]); !errors.Is(err, store.ErrRestoreSuperseded) {
				t.Errorf("%s: load: %v, want ErrRestoreSuperseded", when, err)
			}
			if err := first.FinishRestore(ctx, "first", target, restoreFence, b.counts()); !errors.Is(err, store.ErrRestoreSuperseded) {
				t.Errorf("%s: finish: %v, want ErrRestoreSuperseded", when, err)
			}
		}
		if err := second.StartRestore(ctx, "second", target, store.RefuseExisting); err != nil {
			t.Fatal(err)
		}
		mustBeSuperseded("the second has begun")
		if err := load(ctx, second, "second", b); err != nil {
			t.Fatal(err)
		}
		mustBeSuperseded("the second has loaded")
		if err := second.FinishRestore(ctx, "second", target, restoreFence, b.counts()); err != nil {
			t.Fatal(err)
		}
		mustBeSuperseded("the second has finished")
		mustBeRestored(t, second, b)
		if err := second.Load(ctx, "second", b.Tables[0], b.Rows["users"]); !errors.Is(err, store.ErrRestoreSuperseded) {
			t.Errorf("load after the end: %v, want ErrRestoreSuperseded", err)
		}
	})
}

// TestForeignRowsAreFound checks that a restore does not finish if something else has written to
// the database meanwhile, and that a later restore removes it.
func TestForeignRowsAreFound(t *testing.T) {
	b := filled(t)
	stranger := func(db store.Store) error {
		id := uuid.NewString()
		return db.CreateUser(ctx, accounts.User{ID: id, Username: "stranger", PasswordHash: "h", PepperID: "p", CreatedAt: now},
			envelope.StoredKey{Owner: id, ID: envelope.NewID(), Wrapped: wrappedAt(7)})
	}
	for name, tc := range map[string]struct {
		before, after func(db store.Store) error
	}{
		"a user registers":       {after: stranger},
		"a user registers first": {before: stranger},
		"with a name of the backup": {before: func(db store.Store) error {
			id := uuid.NewString()
			return db.CreateUser(ctx, accounts.User{ID: id, Username: "alice", PasswordHash: "h", PepperID: "p", CreatedAt: now},
				envelope.StoredKey{Owner: id, ID: envelope.NewID(), Wrapped: wrappedAt(7)})
		}},
		"a user logs in": {after: func(db store.Store) error {
			user, err := db.UserByName(ctx, "alice")
			if err != nil {
				return err
			}
			id := sessions.Identity{Owner: user.ID, Session: uuid.NewString()}
			return db.CreateSession(ctx, sessions.Session{Identity: id, CreatedAt: now, ExpiresAt: now.AddDate(1, 0, 0)}, user, accounts.Proof{})
		}},
		"a note is deleted": {after: func(db store.Store) error {
			return store.Internals(db).Execute(ctx, "DELETE FROM notes WHERE id = $1", b.records("notes")[0]["id"])
		}},
		"a part is loaded twice": {after: func(db store.Store) error {
			err := db.Load(ctx, "run", b.Tables[3], b.Rows["notes"][:1])
			if !errors.Is(err, store.ErrForeignRows) {
				return errors.Join(errors.New("want ErrForeignRows"), err)
			}
			return store.Internals(db).Execute(ctx, "DELETE FROM recovery_codes")
		}},
		"a rotation": {before: func(db store.Store) error { return db.RaiseFence(ctx, 3) }},
	} {
		t.Run(name, func(t *testing.T) {
			storetest.EachJob(t, func(t *testing.T, job, _ storetest.Open) {
				db := job(t)
				if err := db.StartRestore(ctx, "run", target, store.RefuseExisting); err != nil {
					t.Fatal(err)
				}
				if tc.before != nil {
					if err := tc.before(db); err != nil {
						t.Fatal(err)
					}
				}
				err := load(ctx, db, "run", b)
				if tc.after != nil {
					if err := errors.Join(err, tc.after(db)); err != nil {
						t.Fatal(err)
					}
				}
				if err == nil {
					err = db.FinishRestore(ctx, "run", target, restoreFence, b.counts())
				}
				if !errors.Is(err, store.ErrForeignRows) {
					t.Errorf("%v, want ErrForeignRows", err)
				}
				for _, says := range []string{"restarted", "run the restore again"} {
					if !strings.Contains(fmt.Sprint(err), says) {
						t.Errorf("%v: it does not say %q", err, says)
					}
				}
				id, err := db.DeploymentID(ctx)
				if _, restoring := store.Restoring(id); !restoring || err != nil {
					t.Errorf("deployment id %q, %v; want that of an unfinished restore", id, err)
				}
				if err := restore(ctx, db, "again", b); err != nil {
					t.Fatal(err)
				}
				mustBeRestored(t, db, b)
			})
		})
	}
}

// TestLoadRefusesOtherColumns checks that a restore loads only what the schema has, and that
// columns of later migrations stay NULL.
func TestLoadRefusesOtherColumns(t *testing.T) {
	b := filled(t)
	users := b.Tables[0]
	change := func(change func(t *store.Table, row []any) []any) (store.Table, []any) {
		table := store.Table{Name: users.Name, Columns: slices.Clone(users.Columns)}
		row := slices.Clone(b.Rows["users"][0])
		row = change(&table, row)
		return table, row
	}
	cases := map[string]func(t *store.Table, row []any) []any{
		"an unknown table":      func(t *store.Table, row []any) []any { t.Name = "drawings"; return row },
		"a table of the schema": func(t *store.Table, row []any) []any { t.Name = "meta"; return row },
		"an unknown column":     func(t *store.Table, row []any) []any { t.Columns[1].Name = "email"; return row },
		"SQL as a column":       func(t *store.Table, row []any) []any { t.Columns[1].Name = "username) SELECT (1"; return row },
		"a column twice":        func(t *store.Table, row []any) []any { t.Columns[2] = t.Columns[1]; return row },
		"no primary key":        func(t *store.Table, row []any) []any { t.Columns = t.Columns[1:]; return row[1:] },
		"a column of another kind": func(t *store.Table, row []any) []any {
			t.Columns[1].Kind = store.BytesColumn
			row[1] = []byte("x")
			return row
		},
		"a value of another kind": func(_ *store.Table, row []any) []any { row[1] = int64(1); return row },
		"a value of no kind":      func(_ *store.Table, row []any) []any { row[1] = 1.5; return row },
		"a row that is too short": func(_ *store.Table, row []any) []any { return row[1:] },
		"a row that is too long":  func(_ *store.Table, row []any) []any { return append(row, nil) },
	}
	storetest.EachJob(t, func(t *testing.T, job, _ storetest.Open) {
		db := job(t)
		if err := db.StartRestore(ctx, "run", target, store.RefuseExisting); err != nil {
			t.Fatal(err)
		}
		for name, tc := range cases {
			table, row := change(tc)
			if err := db.Load(ctx, "run", table, [][]any{row}); !errors.Is(err, store.ErrSchema) {
				t.Errorf("%s: %v, want ErrSchema", name, err)
			}
		}
		for _, table := range b.Tables {
			if err := db.Load(ctx, "run", table, nil); err != nil {
				t.Errorf("no rows of %s: %v", table.Name, err)
			}
		}
		if err := db.FinishRestore(ctx, "run", target, restoreFence, map[string]int64{"drawings": 1}); !errors.Is(err, store.ErrSchema) {
			t.Errorf("rows of an unknown table: %v, want ErrSchema", err)
		}
		earlier, row := change(func(t *store.Table, row []any) []any {
			i := slices.IndexFunc(t.Columns, func(c store.Column) bool { return c.Name == "second_factor" })
			t.Columns = slices.Delete(t.Columns, i, i+1)
			return slices.Delete(row, i, i+1)
		})
		if err := db.Load(ctx, "run", earlier, [][]any{row}); err != nil {
			t.Fatalf("a backup of an earlier release: %v", err)
		}
		if got := backUp(t, db).records("users")[0]["second_factor"]; got != nil {
			t.Errorf("the column that the backup lacks is %v", got)
		}
	})
}

// TestFenceIsNeverLoweredByARestore checks that FinishRestore keeps a fence that is above its own.
func TestFenceIsNeverLoweredByARestore(t *testing.T) {
	b := filled(t)
	storetest.EachJob(t, func(t *testing.T, job, _ storetest.Open) {
		db := job(t)
		if err := db.StartRestore(ctx, "run", target, store.RefuseExisting); err != nil {
			t.Fatal(err)
		}
		if err := load(ctx, db, "run", b); err != nil {
			t.Fatal(err)
		}
		if err := db.RaiseFence(ctx, restoreFence+1); err != nil {
			t.Fatal(err)
		}
		if err := db.FinishRestore(ctx, "run", target, restoreFence, b.counts()); err != nil {
			t.Fatal(err)
		}
		if fence, err := db.Fence(ctx); fence != restoreFence+1 || err != nil {
			t.Errorf("fence %d, %v; want %d", fence, err, restoreFence+1)
		}
	})
}

// commits counts the commits of SQLite databases and rejects all of them from refusedFrom on. For
// the database this is the same as the death of the process between that commit and the one before.
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

// TestRestoreDiesBeforeAnyCommit kills a restore before each commit of SQLite in turn. The next one
// must restore everything.
func TestRestoreDiesBeforeAnyCommit(t *testing.T) {
	b := filled(t)
	t.Cleanup(func() { sqliteCommits.die(0) })
	died := int64(0)
	for n := int64(1); ; n++ {
		open := storetest.SQLite(t)
		db := open(t)
		sqliteCommits.die(n)
		err := restore(ctx, db, "run", b)
		made := sqliteCommits.seen.Load()
		sqliteCommits.die(0)
		if made < n {
			if err != nil {
				t.Fatalf("no commit was refused: %v", err)
			}
			mustBeRestored(t, db, b)
			break
		}
		if err == nil {
			t.Fatalf("the restore succeeded without commit %d", n)
		}
		died++
		db = open(t)
		if err := restore(ctx, db, "next", b); err != nil {
			t.Fatalf("the restore after the one that died before commit %d: %v", n, err)
		}
		mustBeRestored(t, db, b)
	}
	if died < 10 {
		t.Errorf("%d restores died, want at least 10", died)
	}
	t.Logf("%d restores died", died)
}
