//go:build integration

package store_test

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/securenotes/securenotes/app/config"
	"github.com/securenotes/securenotes/app/internal/accounts"
	"github.com/securenotes/securenotes/app/internal/envelope"
	"github.com/securenotes/securenotes/app/internal/notes"
	"github.com/securenotes/securenotes/app/internal/store"
	"github.com/securenotes/securenotes/hack/testenv"
)

// poolSizes are the numbers of PgBouncer's server connections by pool mode. In transaction pooling
// there are fewer than one process has connections. In session pooling each connection of the
// service takes one.
var poolSizes = map[string]int{"session": 50, "transaction": 4}

// open opens a database as a process of the service does.
func open(t *testing.T, uri, caFile string, role store.Role) (store.Store, error) {
	t.Helper()
	uriFile := filepath.Join(t.TempDir(), "uri")
	if err := os.WriteFile(uriFile, []byte(uri), 0o600); err != nil {
		t.Fatal(err)
	}
	db, err := store.Open(ctx, config.Database{Postgres: &config.Postgres{URIFile: uriFile, CAFile: caFile, MaxConnections: 8}}, nil, role)
	if err == nil {
		t.Cleanup(func() { _ = db.Close() })
	}
	return db, err
}

// behindPgBouncer returns a migrated database behind PgBouncer.
func behindPgBouncer(t *testing.T, mode string) (store.Store, *testenv.PgBouncer, *testenv.Postgres) {
	t.Helper()
	server := testenv.StartPostgres(t)
	uri := server.CreateDatabase(t, "notes")
	if db, err := open(t, uri, server.CAFile, store.RoleJob); err != nil {
		t.Fatal(err)
	} else if _, err := db.Migrate(ctx); err != nil {
		t.Fatal(err)
	} else if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	pooler := testenv.StartPgBouncer(t, server, mode, poolSizes[mode])
	db, err := open(t, pooler.URI("notes"), pooler.CAFile, store.RoleAPI)
	if err != nil {
		t.Fatal(err)
	}
	return db, pooler, server
}

// TestBehindPgBouncer has several processes of the service migrate a database, serve and rotate
// keys through PgBouncer.
func TestBehindPgBouncer(t *testing.T) {
	t.Parallel()
	for mode, size := range poolSizes {
		t.Run(mode, func(t *testing.T) {
			t.Parallel()
			server := testenv.StartPostgres(t)
			direct := server.CreateDatabase(t, "notes")
			pooler := testenv.StartPgBouncer(t, server, mode, size)
			applied := make(chan int, 3)
			dbs := make([]store.Store, cap(applied))
			var processes sync.WaitGroup
			for i := range dbs {
				db, err := open(t, pooler.URI("notes"), pooler.CAFile, store.RoleAPI)
				if err != nil {
					t.Fatal(err)
				}
				dbs[i] = db
				processes.Go(func() {
					n, err := db.Migrate(ctx)
					if err != nil {
						t.Errorf("migrate: %v", err)
					}
					applied <- n
				})
			}
			processes.Wait()
			if a, b, c := <-applied, <-applied, <-applied; max(a, b, c) != a+b+c || a+b+c == 0 {
				t.Fatalf("three processes applied %d, %d and %d migrations; want all in one", a, b, c)
			}

			users := make([]fixture, len(dbs))
			for i, db := range dbs {
				if err := db.CheckSchema(ctx); err != nil {
					t.Fatal(err)
				}
				users[i] = newUser(t, db, "user"+strconv.Itoa(i), 1)
			}
			for _, user := range users {
				for range 16 {
					processes.Go(func() { exercise(t, user) })
				}
			}
			processes.Wait()

			watch := connect(t, direct)
			var connections int
			if err := watch.QueryRow(ctx, "SELECT count(*) FROM pg_stat_activity WHERE datname = 'notes' AND pid <> pg_backend_pid()").Scan(&connections); err != nil {
				t.Fatal(err)
			}
			if connections > size {
				t.Errorf("%d server connections, want %d at most", connections, size)
			}
			job, err := open(t, pooler.URI("notes"), pooler.CAFile, store.RoleJob)
			if err != nil {
				t.Fatal(err)
			}
			seesUserAtWork(t, job, dbs[1], watch)
			rotate(t, job, users)
		})
	}
}

// exercise sends the statements of requests.
func exercise(t *testing.T, user fixture) {
	t.Helper()
	n := user.sealedNote()
	if err := user.CreateNote(ctx, user.id, now, n); err != nil {
		t.Errorf("create: %v", err)
		return
	}
	if err := user.CreateNote(ctx, user.id, now, n); !errors.Is(err, notes.ErrExists) {
		t.Errorf("create again: %v, want ErrExists", err)
	}
	once, again := user.sealedNote(), user.sealedNote()
	key := notes.IdempotencyKey{Digest: once.ID + once.ID[:28], Request: "request", Pepper: "pepper", Expires: now.Add(time.Hour)}
	for _, n := range []notes.Sealed{once, again} {
		if first, err := user.CreateNoteIdempotent(ctx, user.id, now, n, key); err != nil || first.ID != once.ID {
			t.Errorf("create once: %+v, %v", first, err)
		}
	}
	n.Revision = 2
	if done, err := user.UpdateNote(ctx, user.id, now, n); !done || err != nil {
		t.Errorf("update: %t, %v", done, err)
	}
	if got, _, err := user.Note(ctx, user.id, now, n.ID); got.Revision != 2 || err != nil {
		t.Errorf("read: revision %d, %v", got.Revision, err)
	}
	if list, err := user.Notes(ctx, user.id, now, "", 100); len(list) < 2 || err != nil {
		t.Errorf("list: %d notes, %v", len(list), err)
	}
	if done, err := user.DeleteNote(ctx, user.id, now, once.ID, 1); !done || err != nil {
		t.Errorf("delete: %t, %v", done, err)
	}
}

// seesUserAtWork makes a user's statement wait for a lock, and checks that the Job sees it.
func seesUserAtWork(t *testing.T, job, user store.Store, locker *pgx.Conn) {
	t.Helper()
	lock, err := locker.Begin(ctx)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := lock.Exec(ctx, "LOCK TABLE fence IN ACCESS EXCLUSIVE MODE"); err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { _, err := user.Fence(ctx); ended <- err }()
	until(t, "the Job sees a user at work", func() bool {
		n, err := job.UsersAtWork(ctx, 0)
		return n == 1 && err == nil
	})
	if err := lock.Commit(ctx); err != nil {
		t.Fatal(err)
	}
	if err := <-ended; err != nil {
		t.Error(err)
	}
	if n, err := job.UsersAtWork(ctx, 0); n != 0 || err != nil {
		t.Errorf("%d users at work, %v; want none", n, err)
	}
}

// rotate replaces the users' keys as a rotation does.
func rotate(t *testing.T, db store.Store, users []fixture) {
	t.Helper()
	if err := db.RaiseFence(ctx, 2); err != nil {
		t.Fatal(err)
	}
	owners, err := db.StaleOwners(ctx, store.OwnerRange{From: "00000000-0000-0000-0000-000000000000"}, store.StaleByCreation, 2, "", 10)
	if err != nil || len(owners) != len(users) {
		t.Fatalf("%d stale owners, %v; want %d", len(owners), err, len(users))
	}
	tables, _, err := db.SealedColumns(ctx)
	if err != nil {
		t.Fatal(err)
	}
	for _, user := range users {
		fresh := envelope.StoredKey{Owner: user.id.Owner, ID: envelope.NewID(), Wrapped: wrappedAt(2)}
		if err := db.ReplaceActiveKeys(ctx, 1, []envelope.StoredKey{fresh}, now); !errors.Is(err, store.ErrSuperseded) {
			t.Errorf("an older rotation: %v, want ErrSuperseded", err)
		}
		if err := db.ReplaceActiveKeys(ctx, 2, []envelope.StoredKey{fresh}, now); err != nil {
			t.Fatal(err)
		}
		if err := db.CreateNote(ctx, user.id, now, user.sealedNote()); !errors.Is(err, envelope.ErrKeyNotActive) {
			t.Errorf("a note under the old key: %v, want ErrKeyNotActive", err)
		}
		if deleted, err := db.DeleteReplacedKeys(ctx, 2, []envelope.StoredKey{user.key}); deleted || err != nil {
			t.Errorf("a key that notes need is deleted: %t, %v", deleted, err)
		}
		rows, _, err := db.SealedRows(ctx, tables[0], user.id.Owner, user.key.ID, "", 100)
		if err != nil || len(rows) != 16 {
			t.Fatalf("%d notes, %v; want 16", len(rows), err)
		}
		if moved, err := db.ReplaceSealed(ctx, 2, tables[0], user.id.Owner, user.key.ID, fresh.ID, rows); moved != 16 || err != nil {
			t.Fatalf("moved %d notes, %v; want 16", moved, err)
		}
		if deleted, err := db.DeleteReplacedKeys(ctx, 2, []envelope.StoredKey{user.key}); !deleted || err != nil {
			t.Errorf("the old key is not deleted: %t, %v", deleted, err)
		}
	}
	late := accounts.User{ID: uuid.NewString(), Username: "late", PasswordHash: "h", PepperID: "p", CreatedAt: now}
	if err := db.CreateUser(ctx, late, envelope.StoredKey{Owner: late.ID, ID: envelope.NewID(), Wrapped: wrappedAt(1)}); !errors.Is(err, accounts.ErrFenced) {
		t.Errorf("a key below the fence: %v, want ErrFenced", err)
	}
}

// TestPoolersAreFound checks that a connection is recognized as pooled behind PgBouncer, and only
// there.
func TestPoolersAreFound(t *testing.T) {
	t.Parallel()
	server := testenv.StartPostgres(t)
	link := testenv.NewLink(t, server.Host())
	cases := map[string]struct {
		uri, caFile string
		want        bool
	}{
		"direct":    {uri: server.URI("postgres"), caFile: server.CAFile, want: false},
		"forwarded": {uri: "postgres://postgres:test-only@" + link.Address() + "/postgres", caFile: server.CAFile, want: false},
	}
	for mode := range poolSizes {
		pooler := testenv.StartPgBouncer(t, server, mode, 8)
		cases[mode] = struct {
			uri, caFile string
			want        bool
		}{pooler.URI("postgres"), pooler.CAFile, true}
	}
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			db, err := open(t, tc.uri, tc.caFile, store.RoleAPI)
			if err != nil {
				t.Fatal(err)
			}
			if got, err := store.Internals(db).Pooled(ctx); got != tc.want || err != nil {
				t.Errorf("pooled: %t, %v; want %t", got, err, tc.want)
			}
			for setting, want := range map[string]string{
				"synchronous_commit": "on", "statement_timeout": "30s", "lock_timeout": "5s",
				"idle_in_transaction_session_timeout": "5s", "max_parallel_workers_per_gather": "0",
			} {
				if got, err := store.Internals(db).Setting(ctx, setting); got != want || err != nil {
					t.Errorf("%s is %q, %v; want %q", setting, got, err, want)
				}
			}
		})
	}
}

// eachServerConnection runs a statement on every server connection that PgBouncer has in
// transaction pooling, and returns what each answers.
func eachServerConnection(t *testing.T, pooler *testenv.PgBouncer, statement string) (answers []string) {
	t.Helper()
	var held []*pgx.Conn
	for range poolSizes["transaction"] {
		settings, err := pgx.ParseConfig(pooler.URI("notes"))
		if err != nil {
			t.Fatal(err)
		}
		settings.DefaultQueryExecMode = pgx.QueryExecModeSimpleProtocol
		conn, err := pgx.ConnectConfig(ctx, settings)
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close(ctx)
		if _, err := conn.Exec(ctx, "BEGIN"); err != nil {
			t.Fatal(err)
		}
		held = append(held, conn)
	}
	for _, conn := range held {
		results, err := conn.PgConn().Exec(ctx, statement+"; COMMIT").ReadAll()
		if err != nil {
			t.Fatal(err)
		}
		for _, result := range results {
			for _, row := range result.Rows {
				answers = append(answers, string(row[0]))
			}
		}
	}
	return answers
}

// TestPooledSettingsStayApart checks that neither the service nor another client of PgBouncer
// changes settings of the other's transactions.
func TestPooledSettingsStayApart(t *testing.T) {
	t.Parallel()
	db, pooler, _ := behindPgBouncer(t, "transaction")
	user := newUser(t, db, "alice", 1)
	var requests sync.WaitGroup
	for range 16 {
		requests.Go(func() { exercise(t, user) })
	}
	requests.Wait()
	for _, setting := range []string{"statement_timeout", "lock_timeout", "idle_in_transaction_session_timeout"} {
		for _, got := range eachServerConnection(t, pooler, "SHOW "+setting) {
			if got != "0" {
				t.Errorf("the service left %s = %s behind", setting, got)
			}
		}
	}
	eachServerConnection(t, pooler, "SET synchronous_commit = off; SET search_path = elsewhere; SET default_transaction_isolation = serializable; SET lock_timeout = 1; SET statement_timeout = 20000")
	for setting, want := range map[string]string{"synchronous_commit": "on", "search_path": `"$user", public`, "transaction_isolation": "read committed", "lock_timeout": "5s", "statement_timeout": "30s"} {
		for range 8 {
			if got, err := store.Internals(db).Setting(ctx, setting); got != want || err != nil {
				t.Errorf("%s is %q, %v; want %q", setting, got, err, want)
			}
		}
	}
	for range 16 {
		requests.Go(func() { exercise(t, user) })
	}
	requests.Wait()
}

// TestPooledCommitsAreAwaited is TestCommitsAreAwaited for the defaults of a database behind
// PgBouncer.
func TestPooledCommitsAreAwaited(t *testing.T) {
	t.Parallel()
	server := testenv.StartPostgres(t)
	pooler := testenv.StartPgBouncer(t, server, "transaction", 4)
	for set, want := range map[string]string{"off": "on", "on": "on", "remote_apply": "remote_apply"} {
		t.Run(set, func(t *testing.T) {
			server.CreateDatabase(t, set)
			server.Execute(t, `ALTER DATABASE "`+set+`" SET synchronous_commit = `+set)
			db, err := open(t, pooler.URI(set), pooler.CAFile, store.RoleAPI)
			if err != nil {
				t.Fatal(err)
			}
			if got, err := store.Internals(db).Setting(ctx, "synchronous_commit"); got != want || err != nil {
				t.Errorf("synchronous_commit is %q, %v; want %q", got, err, want)
			}
		})
	}
}

// TestFailedCommitIsAnError checks that a statement behind PgBouncer does not return before its
// transaction is committed.
func TestFailedCommitIsAnError(t *testing.T) {
	t.Parallel()
	db, _, server := behindPgBouncer(t, "transaction")
	if _, err := connect(t, server.URI("notes")).Exec(ctx, "CREATE TABLE late (n integer UNIQUE DEFERRABLE INITIALLY DEFERRED)"); err != nil {
		t.Fatal(err)
	}
	const duplicates = "INSERT INTO late VALUES (1), (1)"
	if err := store.Internals(db).Execute(ctx, duplicates); err == nil {
		t.Error("Exec: no error")
	}
	if err := store.Internals(db).Returning(ctx, duplicates+" RETURNING n"); err == nil {
		t.Error("Query: no error")
	}
	if err := store.Internals(db).Returning(ctx, "INSERT INTO late VALUES (2) RETURNING n"); err != nil {
		t.Error(err)
	}
	for _, constant := range []string{"SELECT 1/0", "SELECT count(*) FROM nothing"} {
		if err := store.Internals(db).Returning(ctx, constant); err == nil {
			t.Errorf("%s: no error", constant)
		}
	}
	if err := store.Internals(db).Returning(ctx, "SELECT count(*) FROM late HAVING count(*) = 1"); err != nil {
		t.Errorf("the committed row is not the only one: %v", err)
	}
}

// TestPgBouncerRestarts checks that no acknowledged note is lost when PgBouncer restarts.
func TestPgBouncerRestarts(t *testing.T) {
	t.Parallel()
	db, pooler, _ := behindPgBouncer(t, "transaction")
	user := newUser(t, db, "alice", 1)
	var (
		mu       sync.Mutex
		answered []string
		writers  sync.WaitGroup
	)
	written := func() int {
		mu.Lock()
		defer mu.Unlock()
		return len(answered)
	}
	writing, stop := context.WithCancel(ctx)
	for range 8 {
		writers.Go(func() {
			for writing.Err() == nil {
				n := user.sealedNote()
				err := db.CreateNote(ctx, user.id, now, n)
				if err == nil {
					mu.Lock()
					answered = append(answered, n.ID)
					mu.Unlock()
				} else if !errors.Is(err, store.ErrUnavailable) {
					t.Errorf("create: %v", err)
				}
			}
		})
	}
	for range 3 {
		before := written()
		until(t, "notes are written", func() bool { return written() > before+50 })
		pooler.Stop(t)
		pooler.Start(t)
	}
	before := written()
	until(t, "notes are written again", func() bool { return written() > before+50 })
	stop()
	writers.Wait()
	for _, id := range answered {
		if _, _, err := db.Note(ctx, user.id, now, id); err != nil {
			t.Errorf("note %s was answered, and is lost: %v", id, err)
		}
	}
}

// TestPooledReadOnlyServer checks that the service does not use a server behind PgBouncer that
// takes no writes.
func TestPooledReadOnlyServer(t *testing.T) {
	t.Parallel()
	db, _, server := behindPgBouncer(t, "transaction")
	user := newUser(t, db, "alice", 1)
	kept := user.sealedNote()
	if err := db.CreateNote(ctx, user.id, now, kept); err != nil {
		t.Fatal(err)
	}
	settings, err := pgx.ParseConfig(server.URI("postgres"))
	if err != nil {
		t.Fatal(err)
	}
	settings.RuntimeParams["default_transaction_read_only"] = "off"
	admin, err := pgx.ConnectConfig(ctx, settings)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = admin.Close(ctx) })
	setReadOnly := func(value string) {
		t.Helper()
		execute(t, admin, "ALTER SYSTEM SET default_transaction_read_only = "+value)
		execute(t, admin, "SELECT pg_reload_conf()")
	}
	setReadOnly("on")
	until(t, "readiness tells of it", func() bool { return errors.Is(db.Ping(ctx), store.ErrUnavailable) })
	if _, _, err := db.Note(ctx, user.id, now, kept.ID); !errors.Is(err, store.ErrUnavailable) {
		t.Errorf("read: %v, want ErrUnavailable", err)
	}
	setReadOnly("off")
	until(t, "readiness is back", func() bool { return db.Ping(ctx) == nil })
	if err := db.CreateNote(ctx, user.id, now, user.sealedNote()); err != nil {
		t.Errorf("create, when it takes writes again: %v", err)
	}
}
