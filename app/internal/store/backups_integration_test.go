//go:build integration

package store_test

import (
	"context"
	"errors"
	"net/url"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/securenotes/securenotes/app/internal/accounts"
	"github.com/securenotes/securenotes/app/internal/envelope"
	"github.com/securenotes/securenotes/app/internal/store"
	"github.com/securenotes/securenotes/app/internal/storetest"
	"github.com/securenotes/securenotes/hack/testenv"
)

// openJob returns how to open an empty database on the shared server as a Job.
func openJob(t *testing.T) storetest.Open {
	t.Helper()
	server, uri := storetest.SharedDatabase(t)
	return storetest.PostgresJob(t, server, uri)
}

// TestBackupsMoveBetweenEngines takes a backup of each database and restores it into each: every
// value must be the same, whatever the databases make of times, NULLs, UUIDs and bytes.
func TestBackupsMoveBetweenEngines(t *testing.T) {
	engines := map[string]func(*testing.T) storetest.Open{
		"SQLite":     func(t *testing.T) storetest.Open { return storetest.SQLite(t) },
		"PostgreSQL": openJob,
	}
	for from, source := range engines {
		t.Run("from "+from, func(t *testing.T) {
			origin := source(t)(t)
			fill(t, origin)
			b := backUp(t, origin)
			for to, destination := range engines {
				t.Run("to "+to, func(t *testing.T) {
					db := destination(t)(t)
					if err := restore(ctx, db, "run", b); err != nil {
						t.Fatal(err)
					}
					mustBeRestored(t, db, b)
				})
			}
		})
	}
}

// TestRestoreNeedsAnUnusedDatabase checks that a restore does not begin while a pod of the API is
// connected, and that it begins beside another Job and once the pod has ended.
func TestRestoreNeedsAnUnusedDatabase(t *testing.T) {
	server, uri := storetest.SharedDatabase(t)
	db, _ := storetest.PostgresJob(t, server, uri)(t), storetest.PostgresJob(t, server, uri)(t)
	api, err := open(t, uri, server.CAFile, store.RoleAPI)
	if err != nil {
		t.Fatal(err)
	}
	mustBeInUse := func(by string) {
		t.Helper()
		if err := db.StartRestore(ctx, "run", target, store.RefuseExisting); !errors.Is(err, store.ErrInUse) {
			t.Errorf("%s: %v, want ErrInUse", by, err)
		}
		if _, err := db.Meta(ctx); !errors.Is(err, store.ErrNoMeta) {
			t.Errorf("%s: %v, want ErrNoMeta as before", by, err)
		}
	}
	mustBeInUse("a pod")
	background := api.Background()
	if err := errors.Join(background.Ping(ctx), api.Close()); err != nil {
		t.Fatal(err)
	}
	mustBeInUse("a pod's background")
	if err := background.Close(); err != nil {
		t.Fatal(err)
	}
	until(t, "the pod's sessions have ended", func() bool { return db.StartRestore(ctx, "run", target, store.RefuseExisting) == nil })
}

// TestRestoreIsKilledAtAnyStatement kills a restore before each answer of PostgreSQL in turn,
// including those to a commit. The next restore must restore everything. The same is done with a
// connection that is lost without the death of the process.
func TestRestoreIsKilledAtAnyStatement(t *testing.T) {
	t.Parallel()
	b := filled(t).only("factor")
	for name, tc := range map[string]struct {
		dies  bool
		first int // of every second answer
	}{
		"killed, odd answers":        {true, 1},
		"killed, even answers":       {true, 2},
		"disconnected, odd answers":  {false, 1},
		"disconnected, even answers": {false, 2},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			server, direct := storetest.SharedDatabase(t)
			uri, err := url.Parse(direct)
			if err != nil {
				t.Fatal(err)
			}
			link := testenv.NewLink(t, uri.Host)
			uri.Host = link.Address()
			open := storetest.PostgresJob(t, server, uri.String())
			admin := connect(t, direct)
			failed := 0
			for answer := tc.first; ; answer += 2 {
				// TRUNCATE would take longer than the restore: it replaces the files of all
				// indexes.
				for _, table := range []string{"notes", "second_factors", "recovery_codes", "owner_key_seals", "owner_keys", "users", "meta"} {
					execute(t, admin, "DELETE FROM "+table)
				}
				db := open(t)
				attempt, die := context.WithCancel(ctx)
				link.LoseAnswer(answer)
				if tc.dies {
					go func() {
						for !link.Lost() {
							time.Sleep(time.Millisecond)
						}
						die()
					}()
				}
				err := restore(attempt, db, "first", b)
				lost := link.Lost()
				link.LoseAnswer(0)
				die()
				if !lost {
					if err != nil {
						t.Fatalf("nothing was lost: %v", err)
					}
					mustBeRestored(t, db, b)
					break
				}
				if err != nil {
					failed++
					_ = db.Close()
					db = open(t)
					// The commit of the end may have been the last thing that was done.
					id, errID := db.DeploymentID(ctx)
					if id != target.DeploymentID {
						err = restore(ctx, db, "second", b)
					} else {
						err = errID
					}
					if err != nil {
						t.Fatalf("the restore after the one that lost answer %d: %v", answer, err)
					}
				}
				mustBeRestored(t, db, b)
				_ = db.Close()
			}
			if tc.dies && failed < 15 {
				t.Errorf("only %d restores failed", failed)
			}
			t.Logf("%d restores failed", failed)
		})
	}
}

// TestRestoreIsTakenOverWhileItLoads has two runs load at the same time. Nothing of the first may
// be left in what the second finishes.
func TestRestoreIsTakenOverWhileItLoads(t *testing.T) {
	b := filled(t)
	open := openJob(t)
	first, second := open(t), open(t)
	if err := first.StartRestore(ctx, "first", target, store.RefuseExisting); err != nil {
		t.Fatal(err)
	}
	var loaders sync.WaitGroup
	defer loaders.Wait()
	loaded, stop := make(chan struct{}, 1000), make(chan struct{})
	defer close(stop)
	for range 4 {
		loaders.Go(func() {
			for {
				row := slices.Clone(b.Rows["users"][0])
				row[0], row[1] = uuid.NewString(), uuid.NewString()
				if err := first.Load(ctx, "first", b.Tables[0], [][]any{row}); err != nil {
					if !errors.Is(err, store.ErrRestoreSuperseded) {
						t.Errorf("%v, want ErrRestoreSuperseded", err)
					}
					return
				}
				select {
				case <-stop:
					t.Error("the first run loads after the second has finished")
					return
				case loaded <- struct{}{}:
				default:
				}
			}
		})
	}
	for range 20 {
		<-loaded
	}
	if err := restore(ctx, second, "second", b); err != nil {
		t.Fatal(err)
	}
	mustBeRestored(t, second, b)
}

// TestServerCrashesAfterTheRestore checks that a crash of the server loses nothing of a restore
// that has finished, although Load does not wait for the disk.
func TestServerCrashesAfterTheRestore(t *testing.T) {
	t.Parallel()
	b := filled(t)
	server := testenv.StartPostgres(t)
	open := storetest.PostgresJob(t, server, server.CreateDatabase(t, "notes"))
	db := open(t)
	if _, err := db.Migrate(ctx); err != nil {
		t.Fatal(err)
	}
	if err := restore(ctx, db, "run", b); err != nil {
		t.Fatal(err)
	}
	server.Stop(t)
	server.Start(t)
	mustBeRestored(t, open(t), b)
}

// TestChangeOfTheSchemaEndsASnapshot checks that a migration waits for a snapshot for seconds, even
// while the reader of the snapshot does nothing.
func TestChangeOfTheSchemaEndsASnapshot(t *testing.T) {
	for name, tc := range map[string]struct {
		statement string
		// retries means that the statement gives up soon and is repeated, as a migration is.
		retries bool
	}{
		"add a column":        {statement: "ALTER TABLE notes ADD COLUMN later text", retries: true},
		"build an index":      {statement: "CREATE INDEX CONCURRENTLY later ON sessions (created_at)"},
		"drop an index":       {statement: "DROP INDEX CONCURRENTLY notes_by_key"},
		"a vacuum that locks": {statement: "VACUUM FULL users"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			server, uri := storetest.SharedDatabase(t)
			db := storetest.PostgresJob(t, server, uri)(t)
			newUser(t, db, "alice", 1)
			s := snapshot(t, db)
			tables, err := s.Tables(ctx)
			if err != nil {
				t.Fatal(err)
			}
			admin := connect(t, uri)
			if tc.retries {
				execute(t, admin, "SET lock_timeout = '500ms'")
			}
			err = s.Rows(ctx, tables[0], func([]any) error {
				began := time.Now()
				until(t, "the schema is changed", func() bool {
					_, err := admin.Exec(ctx, tc.statement)
					if err != nil && !tc.retries {
						t.Error(err)
					}
					return err == nil
				})
				if waited := time.Since(began); waited > 10*time.Second {
					t.Errorf("it waited %s", waited)
				}
				return nil
			})
			if err != nil {
				t.Errorf("the page that was read before: %v", err)
			}
			_, errMeta := s.Meta(ctx)
			_, errTables := s.Tables(ctx)
			for what, err := range map[string]error{"rows": s.Rows(ctx, tables[0], func([]any) error { return nil }), "meta": errMeta, "tables": errTables} {
				if !errors.Is(err, store.ErrWaiters) {
					t.Errorf("%s: %v, want ErrWaiters", what, err)
				}
			}
			if err := s.Close(); err != nil {
				t.Error(err)
			}
		})
	}
}

// TestSnapshotWaitsForNoMigration checks that a snapshot does not begin while a migration has
// locked a table, and that users and a rotation never end one.
func TestSnapshotWaitsForNoMigration(t *testing.T) {
	server, uri := storetest.SharedDatabase(t)
	db := storetest.PostgresJob(t, server, uri)(t)
	user := newUser(t, db, "alice", 1)
	lock, err := connect(t, uri).Begin(ctx)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := lock.Exec(ctx, "LOCK TABLE notes IN ACCESS EXCLUSIVE MODE"); err != nil {
		t.Fatal(err)
	}
	if s, err := db.Snapshot(ctx); !errors.Is(err, store.ErrWaiters) {
		t.Errorf("%v, %v; want ErrWaiters", s, err)
	}
	if err := lock.Rollback(ctx); err != nil {
		t.Fatal(err)
	}
	s := snapshot(t, db)
	for version := range 10 { // longer than the interval between two looks for waiters
		exercise(t, user)
		if err := rotateOnce(db, []fixture{user}, version+2); err != nil {
			t.Fatal(err)
		}
		if key, err := db.ActiveKey(ctx, user.id, now); err != nil {
			t.Fatal(err)
		} else {
			user.key = key
		}
	}
	read(t, s)
}

// TestMigrationQueuesNoUsers checks that users wait at most about migrationLockTimeout for a
// migration that waits for a long transaction, and that the migration succeeds in the end.
func TestMigrationQueuesNoUsers(t *testing.T) {
	server, uri := storetest.SharedDatabase(t)
	db := storetest.PostgresJob(t, server, uri)(t)
	if err := db.ClaimMeta(ctx, target); err != nil {
		t.Fatal(err)
	}
	admin := connect(t, uri)
	execute(t, admin, "ALTER TABLE meta DROP COLUMN epoch")
	execute(t, admin, "DELETE FROM goose_db_version WHERE version_id = 9")
	reader, err := connect(t, uri).Begin(ctx)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := reader.Exec(ctx, "SELECT 1 FROM meta"); err != nil {
		t.Fatal(err)
	}
	migrated := make(chan error, 1)
	go func() {
		n, err := db.Migrate(ctx)
		if err == nil && n != 1 {
			err = errors.New("no migration was applied")
		}
		migrated <- err
	}()
	stop, longest := make(chan struct{}), make(chan time.Duration)
	go func() {
		var most time.Duration
		for {
			began := time.Now()
			if _, err := db.DeploymentID(ctx); err != nil {
				t.Error(err)
			}
			most = max(most, time.Since(began))
			select {
			case <-stop:
				longest <- most
				return
			default:
			}
		}
	}()
	attempts, waited := 0, false
	until(t, "the migration has tried three times", func() bool {
		var waiting bool
		err := admin.QueryRow(ctx, `SELECT EXISTS (SELECT 1 FROM pg_stat_activity WHERE datname = current_database()
			AND wait_event_type = 'Lock' AND query LIKE '%ALTER TABLE meta%' AND pid <> pg_backend_pid())`).Scan(&waiting)
		if err != nil {
			t.Fatal(err)
		}
		if waiting && !waited {
			attempts++
		}
		waited = waiting
		return attempts == 3 && !waiting
	})
	close(stop)
	if most := <-longest; most > 3*time.Second {
		t.Errorf("a user waited %s", most)
	}
	if err := reader.Rollback(ctx); err != nil {
		t.Fatal(err)
	}
	if err := <-migrated; err != nil {
		t.Error(err)
	}
	if err := db.CheckSchema(ctx); err != nil {
		t.Error(err)
	}
}

// TestBackupBehindPgBouncer takes and restores a backup through PgBouncer, while other clients use
// the same server connections.
func TestBackupBehindPgBouncer(t *testing.T) {
	t.Parallel()
	b := filled(t)
	for mode := range poolSizes {
		t.Run(mode, func(t *testing.T) {
			t.Parallel()
			server := testenv.StartPostgres(t)
			pooler := testenv.StartPgBouncer(t, server, mode, poolSizes[mode])
			direct := server.CreateDatabase(t, "notes")
			db, err := open(t, pooler.URI("notes"), pooler.CAFile, store.RoleJob)
			if err != nil {
				t.Fatal(err)
			}
			if _, err := db.Migrate(ctx); err != nil {
				t.Fatal(err)
			}
			if mode == "transaction" {
				eachServerConnection(t, pooler, "SET search_path = elsewhere; SET lock_timeout = 1")
			}
			if err := restore(ctx, db, "run", b); err != nil {
				t.Fatal(err)
			}
			mustBeRestored(t, db, b)
			s := snapshot(t, db)
			id := uuid.NewString()
			user := accounts.User{ID: id, Username: "later", PasswordHash: "h", PepperID: "p", CreatedAt: now}
			if err := db.CreateUser(ctx, user, envelope.StoredKey{Owner: id, ID: envelope.NewID(), Wrapped: wrappedAt(restoreFence)}); err != nil {
				t.Fatal(err)
			}
			if diff := differences(b, read(t, s)); diff != "" {
				t.Errorf("the snapshot has changed:\n%s", diff)
			}
			until(t, "the schema is changed", func() bool {
				_, err := connect(t, direct).Exec(ctx, "SET lock_timeout = '500ms'; ALTER TABLE notes ADD COLUMN later text")
				return err == nil
			})
			if _, err := s.Meta(ctx); !errors.Is(err, store.ErrWaiters) {
				t.Errorf("%v, want ErrWaiters", err)
			}
			if mode == "transaction" {
				for _, setting := range []string{"transaction_isolation", "idle_in_transaction_session_timeout", "transaction_read_only"} {
					for _, got := range eachServerConnection(t, pooler, "SHOW "+setting) {
						if !strings.Contains("read committed, 0, off", got) {
							t.Errorf("%s = %s was left behind", setting, got)
						}
					}
				}
			}
		})
	}
}

// TestLoadRefusesOtherValues checks that a value that PostgreSQL's type cannot hold is an error
// that names the column.
func TestLoadRefusesOtherValues(t *testing.T) {
	b := filled(t)
	db := openJob(t)(t)
	if err := db.StartRestore(ctx, "run", target, store.RefuseExisting); err != nil {
		t.Fatal(err)
	}
	for name, tc := range map[string]struct {
		table  int
		column string
		value  any
	}{
		"no UUID":             {table: 0, column: "id", value: "alice"},
		"a number of 64 bits": {table: 1, column: "kek_version", value: int64(1) << 31},
		"a negative one":      {table: 1, column: "kek_version", value: -int64(1)<<31 - 1},
	} {
		table := b.Tables[tc.table]
		row := slices.Clone(b.Rows[table.Name][0])
		row[slices.IndexFunc(table.Columns, func(c store.Column) bool { return c.Name == tc.column })] = tc.value
		if err := db.Load(ctx, "run", table, [][]any{row}); !errors.Is(err, store.ErrSchema) || !strings.Contains(err.Error(), table.Name+"."+tc.column) {
			t.Errorf("%s: %v, want ErrSchema that names %s.%s", name, err, table.Name, tc.column)
		}
	}
}
