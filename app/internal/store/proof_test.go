package store_test

import (
	"errors"
	"reflect"
	"strings"
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

// subject is a user with a note and, if the call needs one, a second factor.
type subject struct {
	fixture
	note   notes.Sealed
	factor accounts.SecondFactor
	// other is a second session of the same user.
	other sessions.Identity
}

func newSubject(t *testing.T, db store.Store, proposed, confirmed bool) *subject {
	t.Helper()
	s := &subject{fixture: newUser(t, db, uuid.NewString(), 1)}
	s.note = s.sealedNote()
	if err := s.CreateNote(ctx, s.id, now, s.note); err != nil {
		t.Fatal(err)
	}
	s.other = sessions.Identity{Owner: s.id.Owner, Session: uuid.NewString()}
	session := sessions.Session{Identity: s.other, CreatedAt: now, ExpiresAt: now.Add(24 * time.Hour)}
	if err := s.CreateSession(ctx, session, s.user(), accounts.Proof{}); err != nil {
		t.Fatal(err)
	}
	s.factor = accounts.SecondFactor{ID: uuid.NewString(), KeyID: s.key.ID, Seed: sealedBytes('s'), CreatedAt: now}
	if proposed || confirmed {
		if done, err := s.ProposeSecondFactor(ctx, s.id, now, s.factor); !done || err != nil {
			t.Fatalf("propose: %t, %v", done, err)
		}
	}
	if confirmed {
		if err := s.ConfirmSecondFactor(ctx, s.id, now, s.factor.ID, accounts.Proof{Step: 1}, []string{"digest"}); err != nil {
			t.Fatal(err)
		}
	}
	return s
}

func (s *subject) user() accounts.User {
	return accounts.User{ID: s.id.Owner, PasswordHash: "hash", PepperID: "pepper"}
}

// sessionCalls are all methods of the store that take a session. Each call succeeds if the session
// is live. refused is its error if the session has ended, or nil if the call then reports that it
// did nothing.
var sessionCalls = map[string]struct {
	proposed, confirmed bool
	call                func(s *subject, at time.Time) (done bool, err error)
	refused             error
}{
	"CreateNote": {call: func(s *subject, at time.Time) (bool, error) {
		return only(s.CreateNote(ctx, s.id, at, s.sealedNote()))
	}, refused: envelope.ErrKeyNotActive},
	"CreateNoteIdempotent": {call: func(s *subject, at time.Time) (bool, error) {
		_, err := s.CreateNoteIdempotent(ctx, s.id, at, s.sealedNote(), notes.IdempotencyKey{Digest: strings.Repeat("d", 64), Expires: at.Add(time.Hour)})
		return only(err)
	}, refused: envelope.ErrKeyNotActive},
	"FirstNote": {call: func(s *subject, at time.Time) (bool, error) {
		_, _, err := s.FirstNote(ctx, s.id, at, notes.IdempotencyKey{Digest: strings.Repeat("d", 64)})
		return only(err)
	}, refused: sessions.ErrInvalid},
	"Usage": {call: func(s *subject, at time.Time) (bool, error) {
		_, err := s.Usage(ctx, s.id, at)
		return only(err)
	}, refused: sessions.ErrInvalid},
	"ActiveKey": {call: func(s *subject, at time.Time) (bool, error) {
		_, err := s.ActiveKey(ctx, s.id, at)
		return only(err)
	}, refused: sessions.ErrInvalid},
	"Note": {call: func(s *subject, at time.Time) (bool, error) {
		_, _, err := s.Note(ctx, s.id, at, s.note.ID)
		return only(err)
	}, refused: sessions.ErrInvalid},
	"Notes": {call: func(s *subject, at time.Time) (bool, error) {
		_, err := s.Notes(ctx, s.id, at, "", 10)
		return only(err)
	}, refused: sessions.ErrInvalid},
	"SealedNotes": {call: func(s *subject, at time.Time) (bool, error) {
		_, _, err := s.SealedNotes(ctx, s.id, at, "", 10)
		return only(err)
	}, refused: sessions.ErrInvalid},
	"UpdateNote": {call: func(s *subject, at time.Time) (bool, error) {
		s.note.Revision++
		return s.UpdateNote(ctx, s.id, at, s.note)
	}},
	"DeleteNote": {call: func(s *subject, at time.Time) (bool, error) {
		return s.DeleteNote(ctx, s.id, at, s.note.ID, 0)
	}},
	"Sessions": {call: func(s *subject, at time.Time) (bool, error) {
		_, err := s.Sessions(ctx, s.id, at)
		return only(err)
	}, refused: sessions.ErrInvalid},
	"EndSession": {call: func(s *subject, at time.Time) (bool, error) {
		return s.EndSession(ctx, s.id, at)
	}},
	"RevokeOther": {call: func(s *subject, at time.Time) (bool, error) {
		return only(s.RevokeOther(ctx, s.id, at, s.user(), accounts.Proof{}, s.other.Session))
	}, refused: sessions.ErrInvalid},
	"UserBySession": {call: func(s *subject, at time.Time) (bool, error) {
		_, err := s.UserBySession(ctx, s.id, at)
		return only(err)
	}, refused: sessions.ErrInvalid},
	"ReplacePassword": {call: func(s *subject, at time.Time) (bool, error) {
		replaced := s.user()
		replaced.PasswordHash = "another"
		return only(s.ReplacePassword(ctx, s.id, at, "hash", replaced, accounts.Proof{}))
	}, refused: sessions.ErrInvalid},
	"DeleteUser": {call: func(s *subject, at time.Time) (bool, error) {
		return only(s.DeleteUser(ctx, s.id, at, s.user(), accounts.Proof{}))
	}, refused: sessions.ErrInvalid},
	"ProposeSecondFactor": {call: func(s *subject, at time.Time) (bool, error) {
		return s.ProposeSecondFactor(ctx, s.id, at, s.factor)
	}, refused: sessions.ErrInvalid},
	"ConfirmSecondFactor": {proposed: true, call: func(s *subject, at time.Time) (bool, error) {
		return only(s.ConfirmSecondFactor(ctx, s.id, at, s.factor.ID, accounts.Proof{Step: 2}, []string{"digest"}))
	}, refused: sessions.ErrInvalid},
	"RemoveSecondFactor": {confirmed: true, call: func(s *subject, at time.Time) (bool, error) {
		user := s.user()
		user.SecondFactor = s.factor.ID
		return only(s.RemoveSecondFactor(ctx, s.id, at, user, accounts.Proof{Step: 2}))
	}, refused: sessions.ErrInvalid},
	"SecondFactorStatus": {call: func(s *subject, at time.Time) (bool, error) {
		_, err := s.SecondFactorStatus(ctx, s.id, at)
		return only(err)
	}, refused: sessions.ErrInvalid},
}

// only returns the result of a call that either succeeds or returns an error.
func only(err error) (bool, error) { return err == nil, err }

// TestEveryCallProvesTheSession checks that no call has an effect for a session that has ended.
func TestEveryCallProvesTheSession(t *testing.T) {
	methods := reflect.TypeFor[store.Store]()
	for i := range methods.NumMethod() {
		method := methods.Method(i)
		for in := range method.Type.Ins() {
			if _, asked := sessionCalls[method.Name]; in == reflect.TypeFor[sessions.Identity]() && !asked {
				t.Errorf("Store.%s is given a session: add it to sessionCalls", method.Name)
			}
		}
	}
	storetest.Each(t, func(t *testing.T, open storetest.Open) {
		db := open(t)
		ended := map[string]func(*testing.T, *subject) time.Time{
			"logged out": func(t *testing.T, s *subject) time.Time {
				if done, err := db.EndSession(ctx, s.id, now); !done || err != nil {
					t.Fatalf("logout: %t, %v", done, err)
				}
				return now
			},
			"expired":   func(*testing.T, *subject) time.Time { return now.Add(time.Hour) },
			"not there": func(_ *testing.T, s *subject) time.Time { s.id.Session = uuid.NewString(); return now },
			"another user's": func(t *testing.T, s *subject) time.Time {
				s.id.Session = newUser(t, db, uuid.NewString(), 1).id.Session
				return now
			},
		}
		for name, tc := range sessionCalls {
			t.Run(name, func(t *testing.T) {
				alive := newSubject(t, db, tc.proposed, tc.confirmed)
				if done, err := tc.call(alive, now); !done || err != nil {
					t.Fatalf("a live session: %t, %v", done, err)
				}
				for how, end := range ended {
					s := newSubject(t, db, tc.proposed, tc.confirmed)
					at := end(t, s)
					before := contents(t, s)
					if done, err := tc.call(s, at); done || !errors.Is(err, tc.refused) {
						t.Errorf("%s: %t, %v, want %v", how, done, err, tc.refused)
					}
					if diff := cmp.Diff(before, contents(t, s)); diff != "" {
						t.Errorf("%s: the database has changed:\n%s", how, diff)
					}
				}
			})
		}
	})
}

// contents returns what the database has of a user, as far as a call may change it.
func contents(t *testing.T, s *subject) []any {
	t.Helper()
	rows, err := store.Internals(s.Store).RowsOf(ctx, s.id.Owner)
	if err != nil {
		t.Fatal(err)
	}
	user, err := s.UserBySession(ctx, s.other, now)
	list, _, errNotes := s.SealedNotes(ctx, s.other, now, "", 10)
	if err := errors.Join(err, errNotes); err != nil && !errors.Is(err, sessions.ErrInvalid) {
		t.Fatal(err)
	}
	return []any{rows, user, list}
}
