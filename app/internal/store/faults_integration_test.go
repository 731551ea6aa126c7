//go:build integration

package store_test

import (
	"context"
	"errors"
	"net/url"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/securenotes/securenotes/app/config"
	"github.com/securenotes/securenotes/app/internal/accounts"
	"github.com/securenotes/securenotes/app/internal/envelope"
	"github.com/securenotes/securenotes/app/internal/notes"
	"github.com/securenotes/securenotes/app/internal/sessions"
	"github.com/securenotes/securenotes/app/internal/store"
	"github.com/securenotes/securenotes/app/internal/storetest"
	"github.com/securenotes/securenotes/hack/testenv"
)

// linked returns a migrated store behind a link, and the URI of its database on the shared server.
func linked(t *testing.T) (db store.Store, l *testenv.Link, direct string) {
	t.Helper()
	server, direct := storetest.SharedDatabase(t)
	db, l = behindLink(t, server, direct)
	return db, l, direct
}

// onOwnServer returns a migrated store on a server that the test may stop and reconfigure.
func onOwnServer(t *testing.T) (store.Store, *testenv.Postgres) {
	t.Helper()
	server := testenv.StartPostgres(t)
	db, _ := behindLink(t, server, server.CreateDatabase(t, "notes"))
	if _, err := db.Migrate(ctx); err != nil {
		t.Fatal(err)
	}
	return db, server
}

// behindLink opens a database of the server through a link.
func behindLink(t *testing.T, server *testenv.Postgres, direct string) (store.Store, *testenv.Link) {
	t.Helper()
	uri, err := url.Parse(direct)
	if err != nil {
		t.Fatal(err)
	}
	l := testenv.NewLink(t, uri.Host)
	uri.Host = l.Address()
	uriFile := filepath.Join(t.TempDir(), "uri")
	if err := os.WriteFile(uriFile, []byte(uri.String()), 0o600); err != nil {
		t.Fatal(err)
	}
	db, err := store.Open(ctx, config.Database{Postgres: &config.Postgres{URIFile: uriFile, CAFile: server.CAFile, MaxConnections: 8}}, nil, store.RoleAPI)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = db.Close() })
	return db, l
}

// TestOneRoundTrip checks that the request for a note needs one round trip, including the check of
// its session.
func TestOneRoundTrip(t *testing.T) {
	db, l, _ := linked(t)
	user := newUser(t, db, "alice", 1)
	n := user.sealedNote()
	for _, warm := range []bool{false, false, false, true} { // each connection prepares a statement once
		n.ID, n.Revision = uuid.Must(uuid.NewV7()).String(), 1
		for _, step := range []struct {
			what string
			do   func() error
		}{
			{what: "create", do: func() error { return db.CreateNote(ctx, user.id, now, n) }},
			{what: "read", do: func() error { _, _, err := db.Note(ctx, user.id, now, n.ID); return err }},
			{what: "list", do: func() error { _, err := db.Notes(ctx, user.id, now, "", 50); return err }},
			{what: "update", do: func() error {
				n.Revision = 2
				return mustBeDone(db.UpdateNote(ctx, user.id, now, n))
			}},
			{what: "delete", do: func() error { return mustBeDone(db.DeleteNote(ctx, user.id, now, n.ID, 2)) }},
		} {
			before := l.Answers()
			if err := step.do(); err != nil {
				t.Fatalf("%s: %v", step.what, err)
			}
			if trips := l.Answers() - before; warm && trips != 1 {
				t.Errorf("%s: %d round trips", step.what, trips)
			}
		}
	}
}

func mustBeDone(done bool, err error) error {
	if err == nil && !done {
		err = errors.New("nothing was done")
	}
	return err
}

// TestAnswerIsLost loses each answer of the database during the creation of a note in turn,
// including that to the commit. The note must exist once, and the caller must be told that it was
// created.
func TestAnswerIsLost(t *testing.T) {
	db, l, _ := linked(t)
	user := newUser(t, db, "alice", 1)
	count := 0
	for lost := range 8 {
		for name, create := range map[string]func(notes.Sealed) error{
			"alone": func(n notes.Sealed) error { return db.CreateNote(ctx, user.id, now, n) },
			"together": func(n notes.Sealed) error {
				other := user.sealedNote()
				count++
				return errors.Join(store.CreateTogether(ctx, db, now, []store.Creation{{Identity: user.id, Note: other}, {Identity: user.id, Note: n}})...)
			},
			"once": func(n notes.Sealed) error {
				_, err := db.CreateNoteIdempotent(ctx, user.id, now, n, notes.IdempotencyKey{Digest: n.ID + n.ID[:28], Request: "request", Pepper: "pepper", Expires: now.Add(time.Hour)})
				return err
			},
		} {
			if name == "together" && lost > 0 {
				continue // only CreateNote repeats
			}
			n := user.sealedNote()
			l.LoseAnswer(lost)
			err := create(n)
			l.LoseAnswer(0)
			if err != nil {
				t.Errorf("%s, answer %d lost: %v", name, lost, err)
			}
			count++
			if _, _, err := db.Note(ctx, user.id, now, n.ID); err != nil {
				t.Errorf("%s, answer %d lost: the note does not exist: %v", name, lost, err)
			}
		}
	}
	if list, err := db.Notes(ctx, user.id, now, "", 1000); err != nil || len(list) != count {
		t.Errorf("%d notes, %v; want %d", len(list), err, count)
	}
}

// TestAnswerOfAChangeIsLost does the same for an update and a deletion.
func TestAnswerOfAChangeIsLost(t *testing.T) {
	db, l, _ := linked(t)
	user := newUser(t, db, "alice", 1)
	for lost := range 3 {
		n := user.sealedNote()
		if err := db.CreateNote(ctx, user.id, now, n); err != nil {
			t.Fatal(err)
		}
		n.Revision, n.Content = 2, sealedBytes('u')
		l.LoseAnswer(lost)
		done, err := db.UpdateNote(ctx, user.id, now, n)
		l.LoseAnswer(0)
		if got, _, errRead := db.Note(ctx, user.id, now, n.ID); err != nil || !done || errRead != nil || got.Revision != 2 {
			t.Errorf("update, answer %d lost: %v, %v; revision %d, %v", lost, done, err, got.Revision, errRead)
		}
		if done, err := db.UpdateNote(ctx, user.id, now, n); err != nil || done {
			t.Errorf("a stale update: %v, %v", done, err)
		}
		l.LoseAnswer(lost)
		done, err = db.DeleteNote(ctx, user.id, now, n.ID, 2)
		l.LoseAnswer(0)
		if _, _, errRead := db.Note(ctx, user.id, now, n.ID); err != nil || !done || !errors.Is(errRead, notes.ErrNotFound) {
			t.Errorf("delete, answer %d lost: %v, %v; then %v", lost, done, err, errRead)
		}
		if done, err := db.DeleteNote(ctx, user.id, now, n.ID, 0); err != nil || done {
			t.Errorf("deleted twice: %v, %v", done, err)
		}
	}
}

// TestAnswerIsLostAndTheKeyReplaced checks that a committed creation is recognized even if its key
// is no longer active and its session has ended.
func TestAnswerIsLostAndTheKeyReplaced(t *testing.T) {
	db, l, direct := linked(t)
	user := newUser(t, db, "alice", 1)
	admin, err := pgx.Connect(ctx, direct)
	if err != nil {
		t.Fatal(err)
	}
	defer admin.Close(ctx)
	n := user.sealedNote()
	created := make(chan error, 1)
	l.LoseAnswer(1)
	go func() { created <- db.CreateNote(ctx, user.id, now, n) }()
	until(t, "the note is committed", func() bool {
		var count int
		if err := admin.QueryRow(ctx, "SELECT count(*) FROM notes").Scan(&count); err != nil {
			t.Fatal(err)
		}
		return count == 1
	})
	if _, err := admin.Exec(ctx, "UPDATE owner_keys SET state = 'retiring'; DELETE FROM sessions"); err != nil {
		t.Fatal(err)
	}
	if err := <-created; err != nil {
		t.Errorf("create: %v", err)
	}
}

// TestAnswerOfAnAccountsChangeIsLost checks that a committed login, confirmation of a second
// factor, password change and deletion are recognized.
func TestAnswerOfAnAccountsChangeIsLost(t *testing.T) {
	db, l, _ := linked(t)
	for lost := range 12 {
		user := newUser(t, db, uuid.NewString(), 1)
		account, err := db.UserBySession(ctx, user.id, now)
		if err != nil {
			t.Fatal(err)
		}
		factor := accounts.SecondFactor{ID: uuid.NewString(), KeyID: user.key.ID, Seed: sealedBytes('s'), CreatedAt: now}
		if stored, err := db.ProposeSecondFactor(ctx, user.id, now, factor); err != nil || !stored {
			t.Fatalf("propose: %v, %v", stored, err)
		}
		do := func(what string, change func() error) {
			t.Helper()
			l.LoseAnswer(lost)
			err := change()
			l.LoseAnswer(0)
			if err != nil {
				t.Errorf("%s, answer %d lost: %v", what, lost, err)
			}
		}
		do("confirm", func() error {
			return db.ConfirmSecondFactor(ctx, user.id, now, factor.ID, accounts.Proof{Step: 1}, []string{"one", "two"})
		})
		account.SecondFactor = factor.ID
		id := sessions.Identity{Owner: account.ID, Session: uuid.NewString()}
		do("login", func() error {
			return db.CreateSession(ctx, sessions.Session{Identity: id, CreatedAt: now, ExpiresAt: now.Add(time.Hour)}, account, accounts.Proof{Step: 2})
		})
		oldHash := account.PasswordHash
		account.PasswordHash = "another"
		do("password", func() error {
			return db.ReplacePassword(ctx, id, now, oldHash, account, accounts.Proof{Recovery: []string{"one"}})
		})
		if status, err := db.SecondFactorStatus(ctx, id, now); err != nil || !status.Enabled || status.RecoveryCodes != 1 {
			t.Errorf("answer %d lost: %+v, %v", lost, status, err)
		}
		do("delete", func() error {
			err := db.DeleteUser(ctx, id, now, account, accounts.Proof{Step: 3})
			if errors.Is(err, store.ErrUnavailable) { // lost before the deletion began: the account must exist
				if _, err := db.UserBySession(ctx, id, now); err != nil {
					return err
				}
				err = db.DeleteUser(ctx, id, now, account, accounts.Proof{Step: 3})
			}
			return err
		})
		if _, err := db.UserBySession(ctx, id, now); !errors.Is(err, sessions.ErrInvalid) {
			t.Errorf("answer %d lost: the account is there: %v", lost, err)
		}
	}
}

// TestReadOnlyServer checks that the service does not use a server that takes no writes, such as a
// previous primary after a failover, not even for reads, and that it continues once the server
// takes writes again.
func TestReadOnlyServer(t *testing.T) {
	db, server := onOwnServer(t)
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
	defer admin.Close(ctx)
	setReadOnly := func(value string) {
		t.Helper()
		for _, statement := range []string{"ALTER SYSTEM SET default_transaction_read_only = " + value, "SELECT pg_reload_conf()"} {
			if _, err := admin.Exec(ctx, statement); err != nil {
				t.Fatal(err)
			}
		}
	}
	setReadOnly("on")
	until(t, "readiness tells of it", func() bool { return errors.Is(db.Ping(ctx), store.ErrUnavailable) })
	if err := db.CreateNote(ctx, user.id, now, user.sealedNote()); !errors.Is(err, store.ErrUnavailable) {
		t.Errorf("create: %v, want ErrUnavailable", err)
	}
	until(t, "it is not read any more", func() bool {
		_, _, err := db.Note(ctx, user.id, now, kept.ID)
		return errors.Is(err, store.ErrUnavailable)
	})
	setReadOnly("off")
	until(t, "readiness is back", func() bool { return db.Ping(ctx) == nil })
	if err := db.CreateNote(ctx, user.id, now, user.sealedNote()); err != nil {
		t.Errorf("create, when it takes writes again: %v", err)
	}
	if _, _, err := db.Note(ctx, user.id, now, kept.ID); err != nil {
		t.Errorf("read, when it takes writes again: %v", err)
	}
}

// TestServerCrashes checks that no acknowledged note is lost when the server crashes and recovers.
func TestServerCrashes(t *testing.T) {
	db, server := onOwnServer(t)
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
		server.Stop(t)
		server.Start(t)
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

// TestSlowServer checks that a caller whose answer does not arrive gets an error in time and does
// not block later callers.
func TestSlowServer(t *testing.T) {
	db, l, _ := linked(t)
	user := newUser(t, db, "alice", 1)
	release := l.Hold()
	short, cancel := context.WithTimeout(ctx, 300*time.Millisecond)
	defer cancel()
	for what, do := range map[string]func() error{
		"create": func() error { return db.CreateNote(short, user.id, now, user.sealedNote()) },
		"read":   func() error { _, _, err := db.Note(short, user.id, now, uuid.NewString()); return err },
		"list":   func() error { _, err := db.Notes(short, user.id, now, "", 10); return err },
		"key":    func() error { _, err := db.ActiveKey(short, user.id, now); return err },
		"count": func() error {
			_, err := db.CountSeals(short, envelope.StoredKey{Owner: user.id.Owner, ID: user.key.ID}, 1)
			return err
		},
	} {
		if err := do(); !errors.Is(err, context.DeadlineExceeded) && !errors.Is(err, store.ErrUnavailable) {
			t.Errorf("%s: %v, want context.DeadlineExceeded or ErrUnavailable", what, err)
		}
	}
	release()
	until(t, "it is asked again", func() bool { return db.Ping(ctx) == nil })
	if err := db.CreateNote(ctx, user.id, now, user.sealedNote()); err != nil {
		t.Errorf("afterwards: %v", err)
	}
}

// TestOneUsersLockHoldsUpNobodyElse checks that other users' notes are created while the notes of
// one user wait for a lock on the user's key, although concurrent creations share transactions.
func TestOneUsersLockHoldsUpNobodyElse(t *testing.T) {
	db, _, direct := linked(t)
	alice, bob := newUser(t, db, "alice", 1), newUser(t, db, "bob", 1)
	locker, err := pgx.Connect(ctx, direct)
	if err != nil {
		t.Fatal(err)
	}
	defer locker.Close(ctx)
	lock, err := locker.Begin(ctx)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := lock.Exec(ctx, "SELECT 1 FROM owner_keys WHERE owner = $1 FOR UPDATE", alice.id.Owner); err != nil {
		t.Fatal(err)
	}
	const held = 3 // the pool has six connections
	blocked := make(chan error, held)
	for range held {
		go func() { blocked <- db.CreateNote(ctx, alice.id, now, alice.sealedNote()) }()
	}
	watcher, err := pgx.Connect(ctx, direct) // a transaction sees only the sessions that existed when it began
	if err != nil {
		t.Fatal(err)
	}
	defer watcher.Close(ctx)
	until(t, "her notes wait for the lock", func() bool {
		var waiting int
		err := watcher.QueryRow(ctx, "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = current_database()").Scan(&waiting)
		return err == nil && waiting == held
	})
	others := make(chan error, 100)
	for range cap(others) {
		go func() { others <- db.CreateNote(ctx, bob.id, now, bob.sealedNote()) }()
	}
	for range cap(others) {
		select {
		case err := <-others:
			if err != nil {
				t.Errorf("another user's note: %v", err)
			}
		case err := <-blocked:
			t.Fatalf("her note did not wait for the lock: %v", err)
		case <-time.After(30 * time.Second):
			t.Fatal("the notes of others wait for a lock that is not theirs")
		}
	}
	if err := lock.Rollback(ctx); err != nil {
		t.Fatal(err)
	}
	for range held {
		if err := <-blocked; err != nil {
			t.Errorf("her note, after the lock is released: %v", err)
		}
	}
}

// until waits until a condition is true.
func until(t *testing.T, what string, condition func() bool) {
	t.Helper()
	for end := time.Now().Add(30 * time.Second); time.Now().Before(end); time.Sleep(20 * time.Millisecond) {
		if condition() {
			return
		}
	}
	t.Fatalf("waited in vain: %s", what)
}
