package store_test

import (
	"errors"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/securenotes/securenotes/app/internal/accounts"
	"github.com/securenotes/securenotes/app/internal/envelope"
	"github.com/securenotes/securenotes/app/internal/sessions"
	"github.com/securenotes/securenotes/app/internal/store"
	"github.com/securenotes/securenotes/app/internal/storetest"
)

// TestWritesOfAnEarlierEpoch restores a database while a process uses it: with another epoch, under
// another deployment, and not finished. The process has what a request has found before, the user
// and the active key. None of its writes that need no live session may take effect.
func TestWritesOfAnEarlierEpoch(t *testing.T) {
	for name, change := range map[string]string{
		"the same database":         "UPDATE meta SET belongs_to = belongs_to",
		"restored":                  "UPDATE meta SET epoch = 'qrstuvwxyz234567'",
		"restored to no epoch":      "UPDATE meta SET epoch = NULL",
		"of another deployment":     "UPDATE meta SET deployment_id = 'd2'",
		"being restored":            "UPDATE meta SET deployment_id = 'restoring:abcdefghijklmnop'",
		"that no deployment claims": "DELETE FROM meta",
	} {
		t.Run(name, func(t *testing.T) {
			storetest.Each(t, func(t *testing.T, open storetest.Open) {
				db := open(t)
				meta := store.Meta{DeploymentID: "d1", BelongsTo: "ns/name", Canary: envelope.StoredKey{ID: envelope.NewID(), Wrapped: wrappedAt(1)}, Sealed: sealedBytes(1)}
				if err := db.ClaimMeta(ctx, meta); err != nil {
					t.Fatal(err)
				}
				if err := store.Internals(db).Execute(ctx, "UPDATE meta SET epoch = 'abcdefghijklmnop'"); err != nil {
					t.Fatal(err)
				}
				meta, err := db.Meta(ctx)
				if err != nil {
					t.Fatal(err)
				}
				alice := newUser(t, db, "alice", 1)
				user, err := db.UserByName(ctx, "alice")
				if err != nil {
					t.Fatal(err)
				}
				pod := open(t)
				pod.Expect(meta)
				if err := store.Internals(db).Execute(ctx, change); err != nil {
					t.Fatal(err)
				}

				var want error
				if name != "the same database" {
					want = store.ErrRestored
				}
				check := func(what string, err, want error, changed bool) {
					t.Helper()
					if !errors.Is(err, want) || changed == (name != "the same database") {
						t.Errorf("%s: %v, want %v; changed: %t", what, err, want, changed)
					}
				}
				late := accounts.User{ID: uuid.NewString(), Username: "late", PasswordHash: "h", PepperID: "p", CreatedAt: now}
				err = pod.CreateUser(ctx, late, envelope.StoredKey{Owner: late.ID, ID: envelope.NewID(), Wrapped: wrappedAt(1)})
				_, missing := db.UserByName(ctx, "late")
				check("a registration", err, want, missing == nil)

				session := sessions.Session{Identity: sessions.Identity{Owner: user.ID, Session: uuid.NewString()}, CreatedAt: now, ExpiresAt: now.Add(time.Hour)}
				err = pod.CreateSession(ctx, session, user, accounts.Proof{})
				_, missing = db.UserBySession(ctx, session.Identity, now)
				check("a login", err, want, missing == nil)

				next := envelope.StoredKey{Owner: user.ID, ID: envelope.NewID(), Wrapped: wrappedAt(1)}
				err = pod.SucceedKey(ctx, alice.key, next, now)
				active, errActive := db.ActiveKey(ctx, alice.id, now)
				if errActive != nil {
					t.Fatal(errActive)
				}
				check("a new owner key", err, nil, active == next)

				renewed := user
				renewed.PasswordHash, renewed.PepperID = "renewed", "another pepper"
				err = pod.RehashPassword(ctx, user.PasswordHash, renewed)
				stored, errStored := db.UserByName(ctx, "alice")
				if errStored != nil {
					t.Fatal(errStored)
				}
				check("a renewed hash", err, nil, stored == renewed)
			})
		})
	}
}

// TestPingFindsAReplacedFile checks that a process notices when its SQLite file is no longer the
// one at the path: the open file still answers, but what is written to it is lost.
func TestPingFindsAReplacedFile(t *testing.T) {
	for name, replace := range map[string]func(path string) error{
		"deleted": os.Remove,
		"replaced": func(path string) error {
			raw, err := os.ReadFile(path)
			if err == nil {
				err = os.WriteFile(path+".new", raw, 0o600)
			}
			return errors.Join(err, os.Rename(path+".new", path))
		},
	} {
		t.Run(name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "notes.db")
			db := storetest.SQLiteAt(t, path)(t)
			probed := db.Background()
			if err := errors.Join(db.Ping(ctx), probed.Ping(ctx)); err != nil {
				t.Fatal(err)
			}
			if err := replace(path); err != nil {
				t.Fatal(err)
			}
			for what, err := range map[string]error{"the store": db.Ping(ctx), "its background": probed.Ping(ctx)} {
				if !errors.Is(err, store.ErrRestored) {
					t.Errorf("%s: %v, want ErrRestored", what, err)
				}
			}
		})
	}
}
