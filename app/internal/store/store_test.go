package store_test

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/uuid"

	"github.com/securenotes/securenotes/app/internal/accounts"
	"github.com/securenotes/securenotes/app/internal/envelope"
	"github.com/securenotes/securenotes/app/internal/notes"
	"github.com/securenotes/securenotes/app/internal/sessions"
	"github.com/securenotes/securenotes/app/internal/store"
	"github.com/securenotes/securenotes/app/internal/storetest"
)

var (
	ctx = context.Background()
	now = time.Date(2026, 1, 2, 3, 4, 5, 678000, time.UTC)
)

// wrappedAt returns a wrapping in the provider's format. The store never unwraps it.
func wrappedAt(version int) envelope.Wrapped {
	return envelope.Wrapped(fmt.Sprintf("vault:v%d:c2VhbGVk", version))
}

// sealedBytes returns bytes in the format of a sealed value: a format byte and at least a nonce and
// a tag.
func sealedBytes(fill byte) []byte {
	b := make([]byte, envelope.Overhead+8)
	b[0] = 1
	for i := 1; i < len(b); i++ {
		b[i] = fill
	}
	return b
}

type fixture struct {
	store.Store
	id  sessions.Identity
	key envelope.StoredKey
}

// newUser creates a user whose key is under the given version, and a session.
func newUser(t testing.TB, db store.Store, name string, version int) fixture {
	t.Helper()
	owner := uuid.NewString()
	f := fixture{Store: db, key: envelope.StoredKey{Owner: owner, ID: envelope.NewID(), Wrapped: wrappedAt(version)}}
	f.id = sessions.Identity{Owner: owner, Session: uuid.NewString()}
	user := accounts.User{ID: owner, Username: name, PasswordHash: "hash", PepperID: "pepper", CreatedAt: now}
	if err := db.CreateUser(ctx, user, f.key); err != nil {
		t.Fatal(err)
	}
	if err := db.CreateSession(ctx, sessions.Session{Identity: f.id, CreatedAt: now, ExpiresAt: now.Add(time.Hour)}, user, accounts.Proof{}); err != nil {
		t.Fatal(err)
	}
	return f
}

func (f fixture) sealedNote() notes.Sealed {
	return notes.Sealed{
		ID: uuid.Must(uuid.NewV7()).String(), KeyID: f.key.ID, Revision: 1,
		Content: sealedBytes('c'), Title: sealedBytes('t'), CreatedAt: now, UpdatedAt: now,
	}
}

func TestUsers(t *testing.T) {
	storetest.Each(t, func(t *testing.T, open storetest.Open) {
		db := open(t)
		alice := newUser(t, db, "alice", 1)
		got, err := db.UserByName(ctx, "alice")
		want := accounts.User{ID: alice.id.Owner, Username: "alice", PasswordHash: "hash", PepperID: "pepper", CreatedAt: now}
		if err != nil || !cmp.Equal(got, want) {
			t.Errorf("%v\n%s", err, cmp.Diff(want, got))
		}
		if _, err := db.UserByName(ctx, "bob"); !errors.Is(err, accounts.ErrNotFound) {
			t.Errorf("unknown user: %v", err)
		}
		again := accounts.User{ID: uuid.NewString(), Username: "alice", PasswordHash: "h", PepperID: "p", CreatedAt: now}
		key := envelope.StoredKey{Owner: again.ID, ID: envelope.NewID(), Wrapped: wrappedAt(1)}
		if err := db.CreateUser(ctx, again, key); !errors.Is(err, accounts.ErrUsernameTaken) {
			t.Errorf("a name twice: %v", err)
		}
	})
}

// TestNoDefaultAccounts checks that no migration creates an account.
func TestNoDefaultAccounts(t *testing.T) {
	storetest.Each(t, func(t *testing.T, open storetest.Open) {
		if n, err := open(t).CountUsers(ctx); n != 0 || err != nil {
			t.Errorf("a new database has %d users, %v", n, err)
		}
	})
}

func TestNotes(t *testing.T) {
	storetest.Each(t, func(t *testing.T, open storetest.Open) {
		db := open(t)
		alice, mallory := newUser(t, db, "alice", 1), newUser(t, db, "mallory", 1)
		n := alice.sealedNote()
		if err := db.CreateNote(ctx, alice.id, now, n); err != nil {
			t.Fatal(err)
		}
		got, key, err := db.Note(ctx, alice.id, now, n.ID)
		if err != nil || !cmp.Equal(got, n) || key != alice.key {
			t.Errorf("%v, key %v\n%s", err, key, cmp.Diff(n, got))
		}
		if err := db.CreateNote(ctx, alice.id, now, n); !errors.Is(err, notes.ErrExists) {
			t.Errorf("an id twice: %v", err)
		}
		if _, _, err := db.Note(ctx, mallory.id, now, n.ID); !errors.Is(err, notes.ErrNotFound) {
			t.Errorf("another user's note: %v", err)
		}
		if done, err := db.DeleteNote(ctx, mallory.id, now, n.ID, 0); done || err != nil {
			t.Errorf("another user deletes: %t, %v", done, err)
		}
		foreign := alice.sealedNote()
		if err := db.CreateNote(ctx, mallory.id, now, foreign); !errors.Is(err, envelope.ErrKeyNotActive) {
			t.Errorf("sealed with another user's key: %v", err)
		}

		n.Revision, n.Title, n.Tags, n.UpdatedAt = 2, nil, sealedBytes('g'), now.Add(time.Minute)
		if done, err := db.UpdateNote(ctx, alice.id, now, n); !done || err != nil {
			t.Fatalf("update: %t, %v", done, err)
		}
		if done, err := db.UpdateNote(ctx, alice.id, now, n); done || err != nil {
			t.Errorf("the same update again, at a stale revision: %t, %v", done, err)
		}
		if got, _, err := db.Note(ctx, alice.id, now, n.ID); err != nil || !cmp.Equal(got, n) {
			t.Errorf("%v\n%s", err, cmp.Diff(n, got))
		}
		if done, err := db.DeleteNote(ctx, alice.id, now, n.ID, 1); done || err != nil {
			t.Errorf("delete at a stale revision: %t, %v", done, err)
		}
		if done, err := db.DeleteNote(ctx, alice.id, now, n.ID, 2); !done || err != nil {
			t.Errorf("delete: %t, %v", done, err)
		}
	})
}

func TestNotesAreListedNewestFirst(t *testing.T) {
	storetest.Each(t, func(t *testing.T, open storetest.Open) {
		f := newUser(t, open(t), "alice", 1)
		if list, err := f.Notes(ctx, f.id, now, "", 10); err != nil || len(list) != 0 {
			t.Fatalf("no notes: %v, %v", list, err)
		}
		var want []string
		for range 5 {
			n := f.sealedNote()
			if err := f.CreateNote(ctx, f.id, now, n); err != nil {
				t.Fatal(err)
			}
			want = append([]string{n.ID}, want...)
		}
		var got []string
		before := ""
		for range 3 {
			page, err := f.Notes(ctx, f.id, now, before, 2)
			if err != nil {
				t.Fatal(err)
			}
			for _, n := range page {
				got = append(got, n.ID)
				before = n.ID
			}
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Error(diff)
		}
	})
}

func TestExpiredSessionsAreDeleted(t *testing.T) {
	storetest.Each(t, func(t *testing.T, open storetest.Open) {
		f := newUser(t, open(t), "alice", 1)
		if n, err := f.DeleteExpiredSessions(ctx, now, 10); n != 0 || err != nil {
			t.Errorf("live session: %d, %v", n, err)
		}
		if n, err := f.DeleteExpiredSessions(ctx, now.Add(time.Hour), 10); n != 1 || err != nil {
			t.Errorf("expired session: %d, %v", n, err)
		}
	})
}

func TestFence(t *testing.T) {
	storetest.Each(t, func(t *testing.T, open storetest.Open) {
		db := open(t)
		before := newUser(t, db, "before", 1)
		if err := db.RaiseFence(ctx, 3); err != nil {
			t.Fatal(err)
		}
		if err := db.RaiseFence(ctx, 2); !errors.Is(err, store.ErrSuperseded) {
			t.Errorf("an older rotation: %v, want ErrSuperseded", err)
		}
		if fence, err := db.Fence(ctx); fence != 3 || err != nil {
			t.Errorf("the fence was lowered: %d, %v", fence, err)
		}
		late := accounts.User{ID: uuid.NewString(), Username: "late", PasswordHash: "h", PepperID: "p", CreatedAt: now}
		key := envelope.StoredKey{Owner: late.ID, ID: envelope.NewID(), Wrapped: wrappedAt(2)}
		if err := db.CreateUser(ctx, late, key); !errors.Is(err, accounts.ErrFenced) {
			t.Errorf("a key under an old version: %v, want ErrFenced", err)
		}
		if _, err := db.UserByName(ctx, "late"); !errors.Is(err, accounts.ErrNotFound) {
			t.Errorf("the user was stored without a key: %v", err)
		}
		key.Wrapped = wrappedAt(3)
		if err := db.CreateUser(ctx, late, key); err != nil {
			t.Errorf("a key at the fence: %v", err)
		}
		// Writes of notes do not lock the fence.
		if err := db.CreateNote(ctx, before.id, now, before.sealedNote()); err != nil {
			t.Errorf("a note under a key below the fence: %v", err)
		}
	})
}

// TestOldRotationCanDoNothing checks that every write of a Job fails once the fence is above its
// version.
func TestOldRotationCanDoNothing(t *testing.T) {
	storetest.Each(t, func(t *testing.T, open storetest.Open) {
		db := open(t)
		f := newUser(t, db, "alice", 1)
		if err := db.RaiseFence(ctx, 5); err != nil {
			t.Fatal(err)
		}
		fresh := envelope.StoredKey{Owner: f.id.Owner, ID: envelope.NewID(), Wrapped: wrappedAt(5)}
		tables, _, err := db.SealedColumns(ctx)
		if err != nil {
			t.Fatal(err)
		}
		for to, want := range map[int]error{4: store.ErrSuperseded, 6: store.ErrFenceTooLow} {
			if err := db.ReplaceActiveKeys(ctx, to, []envelope.StoredKey{fresh}, now); !errors.Is(err, want) {
				t.Errorf("to %d: activate: %v, want %v", to, err, want)
			}
			if _, err := db.ReplaceWrappings(ctx, to, []store.Rewrapped{{StoredKey: f.key, New: wrappedAt(5)}}); !errors.Is(err, want) {
				t.Errorf("to %d: rewrap: %v, want %v", to, err, want)
			}
			if _, err := db.DeleteReplacedKeys(ctx, to, []envelope.StoredKey{f.key}); !errors.Is(err, want) {
				t.Errorf("to %d: delete: %v, want %v", to, err, want)
			}
			if _, err := db.ReplaceSealed(ctx, to, tables[0], f.id.Owner, f.key.ID, fresh.ID, nil); !errors.Is(err, want) {
				t.Errorf("to %d: reseal: %v, want %v", to, err, want)
			}
			canary := store.Meta{Canary: envelope.StoredKey{ID: envelope.NewID(), Wrapped: wrappedAt(5)}, Sealed: sealedBytes(1)}
			if err := db.ReplaceCanary(ctx, to, canary, canary); !errors.Is(err, want) {
				t.Errorf("to %d: canary: %v, want %v", to, err, want)
			}
			if _, err := db.EndSessions(ctx, to, now.Add(time.Hour)); !errors.Is(err, want) {
				t.Errorf("to %d: sessions: %v, want %v", to, err, want)
			}
		}
	})
}

// TestRevisionOfAnySize checks that an unknown revision, however large, matches no note and is no
// error.
func TestRevisionOfAnySize(t *testing.T) {
	storetest.Each(t, func(t *testing.T, open storetest.Open) {
		db := open(t)
		f := newUser(t, db, "alice", 1)
		note := notes.Sealed{ID: uuid.NewString(), KeyID: f.key.ID, Revision: 1, Content: sealedBytes(1), CreatedAt: now, UpdatedAt: now}
		if err := db.CreateNote(ctx, f.id, now, note); err != nil {
			t.Fatal(err)
		}
		for _, revision := range []int64{1<<31 - 1, 1 << 31, 1<<63 - 2} {
			other := note
			other.Revision = revision + 1
			if done, err := db.UpdateNote(ctx, f.id, now, other); done || err != nil {
				t.Errorf("update of revision %d: %v, %v", revision, done, err)
			}
			if done, err := db.DeleteNote(ctx, f.id, now, note.ID, revision); done || err != nil {
				t.Errorf("deletion of revision %d: %v, %v", revision, done, err)
			}
		}
	})
}

func TestActiveKeyIsReplacedOnce(t *testing.T) {
	storetest.Each(t, func(t *testing.T, open storetest.Open) {
		db := open(t)
		f := newUser(t, db, "alice", 1)
		if err := db.RaiseFence(ctx, 2); err != nil {
			t.Fatal(err)
		}
		var racers sync.WaitGroup
		for range 8 {
			racers.Go(func() {
				fresh := envelope.StoredKey{Owner: f.id.Owner, ID: envelope.NewID(), Wrapped: wrappedAt(2)}
				if err := db.ReplaceActiveKeys(ctx, 2, []envelope.StoredKey{fresh}, now); err != nil {
					t.Error(err)
				}
			})
		}
		racers.Wait()
		keys, err := db.AllKeys(ctx, envelope.StoredKey{}, 10)
		if err != nil || len(keys) != 2 {
			t.Fatalf("%d keys, %v; want the old one and one new one", len(keys), err)
		}
		for _, key := range keys {
			if key.Active == (key.ID == f.key.ID) {
				t.Errorf("key created under version %d: active %t", key.CreatedVersion, key.Active)
			}
		}
		if err := db.CreateNote(ctx, f.id, now, f.sealedNote()); !errors.Is(err, envelope.ErrKeyNotActive) {
			t.Errorf("a note under the retiring key: %v", err)
		}
	})
}

func TestRetiringKeyGoesOnlyWhenNothingNeedsIt(t *testing.T) {
	storetest.Each(t, func(t *testing.T, open storetest.Open) {
		db := open(t)
		f := newUser(t, db, "alice", 1)
		n := f.sealedNote()
		if err := db.CreateNote(ctx, f.id, now, n); err != nil {
			t.Fatal(err)
		}
		if err := db.RaiseFence(ctx, 2); err != nil {
			t.Fatal(err)
		}
		fresh := envelope.StoredKey{Owner: f.id.Owner, ID: envelope.NewID(), Wrapped: wrappedAt(2)}
		if err := db.ReplaceActiveKeys(ctx, 2, []envelope.StoredKey{fresh}, now); err != nil {
			t.Fatal(err)
		}
		if deleted, err := db.DeleteReplacedKeys(ctx, 2, []envelope.StoredKey{f.key}); deleted || err != nil {
			t.Fatalf("a note needs the key: deleted %t, %v", deleted, err)
		}
		tables, _, err := db.SealedColumns(ctx)
		if err != nil {
			t.Fatal(err)
		}
		rows, _, err := db.SealedRows(ctx, tables[0], f.id.Owner, f.key.ID, "", 10)
		if err != nil || len(rows) != 1 {
			t.Fatalf("%d rows, %v", len(rows), err)
		}
		// A user's write in between has changed the revision.
		stale := rows[0]
		stale.Revision++
		if written, err := db.ReplaceSealed(ctx, 2, tables[0], f.id.Owner, f.key.ID, fresh.ID, []store.SealedRow{stale}); written != 0 || err != nil {
			t.Errorf("a stale row was written: %d, %v", written, err)
		}
		if written, err := db.ReplaceSealed(ctx, 2, tables[0], f.id.Owner, f.key.ID, fresh.ID, rows); written != 1 || err != nil {
			t.Fatalf("written %d, %v", written, err)
		}
		if deleted, err := db.DeleteReplacedKeys(ctx, 2, []envelope.StoredKey{fresh}); err != nil {
			t.Errorf("%t, %v", deleted, err)
		} else if keys, err := db.OwnersKeys(ctx, []string{f.id.Owner}, nil); len(keys) != 2 || err != nil {
			t.Errorf("the active key was deleted: %d keys, %v", len(keys), err)
		}
		if deleted, err := db.DeleteReplacedKeys(ctx, 2, []envelope.StoredKey{f.key}); !deleted || err != nil {
			t.Errorf("deleted %t, %v", deleted, err)
		}
	})
}

func TestMetaBelongsToTheFirst(t *testing.T) {
	storetest.Each(t, func(t *testing.T, open storetest.Open) {
		db := open(t)
		if _, err := db.Meta(ctx); !errors.Is(err, store.ErrNoMeta) {
			t.Fatalf("empty database: %v", err)
		}
		first := store.Meta{
			DeploymentID: "d1", BelongsTo: "ns/one", Sealed: sealedBytes('x'),
			Canary: envelope.StoredKey{ID: envelope.NewID(), Wrapped: wrappedAt(1)},
		}
		second := first
		second.DeploymentID = "d2"
		for _, m := range []store.Meta{first, second} {
			if err := db.ClaimMeta(ctx, m); err != nil {
				t.Fatal(err)
			}
		}
		if got, err := db.Meta(ctx); err != nil || !cmp.Equal(got, first) {
			t.Errorf("%v\n%s", err, cmp.Diff(first, got))
		}
	})
}

func TestMigrationsRunOnceAndTogether(t *testing.T) {
	storetest.Each(t, func(t *testing.T, open storetest.Open) {
		var racers sync.WaitGroup
		for range 3 {
			db := open(t)
			racers.Go(func() {
				if applied, err := db.Migrate(ctx); applied != 0 || err != nil {
					t.Errorf("applied %d, %v", applied, err)
				}
				if err := db.CheckSchema(ctx); err != nil {
					t.Error(err)
				}
			})
		}
		racers.Wait()
	})
}

func TestSealedColumnsAreFoundInTheSchema(t *testing.T) {
	storetest.Each(t, func(t *testing.T, open storetest.Open) {
		tables, wrapped, err := open(t).SealedColumns(ctx)
		if err != nil {
			t.Fatal(err)
		}
		wantTables := []store.SealedTable{
			{Name: "notes", Columns: []string{"content", "title", "tags"}}, {Name: "second_factors", Columns: []string{"seed"}},
		}
		wantWrapped := []store.WrappedColumn{{Table: "meta", Column: "canary_wrapped"}, {Table: "owner_keys", Column: "wrapped"}}
		if diff := cmp.Diff(wantTables, tables); diff != "" {
			t.Error(diff)
		}
		if diff := cmp.Diff(wantWrapped, wrapped); diff != "" {
			t.Error(diff)
		}
	})
}

// TestLoginDoesNotOvertakeASecondFactor checks that a login that read the user before the factor
// was confirmed creates no session, that no session from before is left, and that a password change
// and a deletion do nothing.
func TestLoginDoesNotOvertakeASecondFactor(t *testing.T) {
	storetest.Each(t, func(t *testing.T, open storetest.Open) {
		db := open(t)
		f := newUser(t, db, "alice", 1)
		user, err := db.UserByName(ctx, "alice")
		if err != nil {
			t.Fatal(err)
		}
		login := func(user accounts.User, proof accounts.Proof) error {
			id := sessions.Identity{Owner: user.ID, Session: uuid.NewString()}
			return db.CreateSession(ctx, sessions.Session{Identity: id, CreatedAt: now, ExpiresAt: now.Add(time.Hour)}, user, proof)
		}
		if err := login(user, accounts.Proof{}); err != nil {
			t.Fatal(err)
		}
		factor := accounts.SecondFactor{ID: uuid.NewString(), KeyID: f.key.ID, Seed: sealedBytes('s'), CreatedAt: now}
		if stored, err := db.ProposeSecondFactor(ctx, f.id, now, factor); err != nil || !stored {
			t.Fatalf("propose: %v, %v", stored, err)
		}
		if err := db.ConfirmSecondFactor(ctx, f.id, now, factor.ID, accounts.Proof{Step: 7}, []string{"digest"}); err != nil {
			t.Fatal(err)
		}
		if live, err := db.Sessions(ctx, f.id, now); err != nil || len(live) != 1 {
			t.Errorf("%d sessions after the confirmation, %v: want the one that confirmed", len(live), err)
		}
		if err := login(user, accounts.Proof{}); !errors.Is(err, accounts.ErrInvalidCredentials) {
			t.Errorf("a login that read the user before the confirmation: %v", err)
		}
		if err := db.ReplacePassword(ctx, f.id, now, user.PasswordHash, user, accounts.Proof{}); !errors.Is(err, accounts.ErrInvalidCredentials) {
			t.Errorf("a password change that read the user before the confirmation: %v", err)
		}
		if err := db.DeleteUser(ctx, f.id, now, user, accounts.Proof{}); !errors.Is(err, sessions.ErrInvalid) {
			t.Errorf("a deletion that read the user before the confirmation: %v", err)
		}
		if err := db.ConfirmSecondFactor(ctx, f.id, now, factor.ID, accounts.Proof{Step: 8}, nil); !errors.Is(err, accounts.ErrSecondFactorExists) {
			t.Errorf("confirmed twice: %v", err)
		}
		user.SecondFactor = factor.ID
		for what, proof := range map[string]accounts.Proof{
			"no proof": {}, "the step that confirmed it": {Step: 7}, "an unknown recovery code": {Recovery: []string{"other"}},
		} {
			if err := login(user, proof); !errors.Is(err, accounts.ErrInvalidCode) {
				t.Errorf("%s: %v", what, err)
			}
		}
		if err := login(user, accounts.Proof{Step: 8}); err != nil {
			t.Errorf("a new step: %v", err)
		}
		if err := login(user, accounts.Proof{Recovery: []string{"another pepper's", "digest"}}); err != nil {
			t.Errorf("a recovery code: %v", err)
		}
	})
}

// TestBatchIsBoundedByBytes checks that a batch of large notes is bounded: a hundred would take
// more memory than a Job has.
func TestBatchIsBoundedByBytes(t *testing.T) {
	storetest.Each(t, func(t *testing.T, open storetest.Open) {
		db := open(t)
		f := newUser(t, db, "alice", 1)
		const size, count = 400_000, 25
		for range count {
			n := f.sealedNote()
			n.Content = append(sealedBytes('l'), make([]byte, size)...)
			if err := db.CreateNote(ctx, f.id, now, n); err != nil {
				t.Fatal(err)
			}
		}
		table := store.SealedTable{Name: "notes", Columns: []string{"content", "title", "tags"}}
		after, seen := "", 0
		for {
			batch, _, err := db.SealedRows(ctx, table, f.id.Owner, f.key.ID, after, 100)
			if err != nil {
				t.Fatal(err)
			}
			if len(batch) == 0 {
				break
			}
			if len(batch)*size > 5<<20 {
				t.Errorf("%d rows of %d bytes in a batch", len(batch), size)
			}
			seen, after = seen+len(batch), batch[len(batch)-1].ID
		}
		if seen != count {
			t.Errorf("%d rows, want %d", seen, count)
		}
	})
}

// TestAccountIsDeletedDuringARotation checks that a Job cannot write rows that it read before their
// account was deleted.
func TestAccountIsDeletedDuringARotation(t *testing.T) {
	storetest.Each(t, func(t *testing.T, open storetest.Open) {
		db := open(t)
		f := newUser(t, db, "alice", 1)
		n := f.sealedNote()
		if err := db.CreateNote(ctx, f.id, now, n); err != nil {
			t.Fatal(err)
		}
		if err := db.RaiseFence(ctx, 2); err != nil {
			t.Fatal(err)
		}
		next := envelope.StoredKey{Owner: f.id.Owner, ID: envelope.NewID(), Wrapped: wrappedAt(2)}
		if err := db.ReplaceActiveKeys(ctx, 2, []envelope.StoredKey{next}, now); err != nil {
			t.Fatal(err)
		}
		table := store.SealedTable{Name: "notes", Columns: []string{"content", "title", "tags"}}
		batch, _, err := db.SealedRows(ctx, table, f.id.Owner, f.key.ID, "", 100)
		if err != nil || len(batch) != 1 {
			t.Fatalf("%d rows, %v", len(batch), err)
		}
		user, err := db.UserByName(ctx, "alice")
		if err != nil {
			t.Fatal(err)
		}
		if err := db.DeleteUser(ctx, f.id, now, user, accounts.Proof{}); err != nil {
			t.Fatal(err)
		}
		if written, err := db.ReplaceSealed(ctx, 2, table, f.id.Owner, f.key.ID, next.ID, batch); err != nil || written != 0 {
			t.Errorf("%d rows written, %v", written, err)
		}
	})
}
