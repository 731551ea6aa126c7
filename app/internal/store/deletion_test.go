package store_test

import (
	"context"
	"log/slog"
	"path/filepath"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/pquerna/otp/totp"

	"github.com/securenotes/securenotes/app/config"
	"github.com/securenotes/securenotes/app/internal/accounts"
	"github.com/securenotes/securenotes/app/internal/envelope"
	"github.com/securenotes/securenotes/app/internal/notes"
	"github.com/securenotes/securenotes/app/internal/pepper"
	"github.com/securenotes/securenotes/app/internal/ratelimit"
	"github.com/securenotes/securenotes/app/internal/sessions"
	"github.com/securenotes/securenotes/app/internal/store"
	"github.com/securenotes/securenotes/app/internal/storetest"
)

// awayProvider is a key provider that can become unavailable.
type awayProvider struct {
	envelope.KeyProvider
	away bool
}

func (p *awayProvider) Unwrap(ctx context.Context, items []envelope.WrappedItem) ([]envelope.UnwrapResult, error) {
	if p.away {
		return nil, envelope.ErrUnavailable
	}
	return p.KeyProvider.Unwrap(ctx, items)
}

// TestDeletedAccountLeavesNothing checks that a deleted account has no row in any table, rate
// limits included, even if the key provider was unavailable.
func TestDeletedAccountLeavesNothing(t *testing.T) {
	const password = "correct horse battery"
	storetest.Each(t, func(t *testing.T, open storetest.Open) {
		db := open(t)
		local, err := envelope.OpenLocal(filepath.Join(t.TempDir(), "master.key"))
		if err != nil {
			t.Fatal(err)
		}
		provider := &awayProvider{KeyProvider: local}
		peppers := config.NewPepper()
		hasher, err := accounts.NewHasher("d1", 4, peppers)
		if err != nil {
			t.Fatal(err)
		}
		usernames, err := pepper.NewKey("d1", peppers, pepper.Usernames)
		if err != nil {
			t.Fatal(err)
		}
		// Each replica has its own cache. That of a new replica is empty.
		newReplica := func() (*accounts.Service, *notes.Service) {
			cache := envelope.NewCache(envelope.NewKeyring("d1", provider), db)
			return accounts.NewService(db, cache, hasher, usernames, ratelimit.NewLogins(db.Limits(), ratelimit.Rates{FailedLogins: 100, Registrations: 100}), accounts.Options{
				RegistrationOpen: true, MinPassword: 8, TokenTTL: time.Hour, Log: slog.New(slog.DiscardHandler), Now: time.Now,
				MaxAccounts: 100,
			}), notes.NewService(db, cache, &pepper.Key{}, notes.Usage{Notes: 100, Bytes: 1 << 20})
		}
		login := func(username, code string) (sessions.Identity, error) {
			service, _ := newReplica()
			l, err := service.Login(ctx, "192.0.2.1", accounts.Credentials{Username: username, Password: password, Code: code})
			return l.Identity, err
		}
		rows := func(owner string) map[string]int {
			t.Helper()
			counts, err := store.Internals(db).RowsOf(ctx, owner)
			if err != nil {
				t.Fatal(err)
			}
			return counts
		}
		// newUser returns a user with two sessions, a note and, with a second factor, every kind of
		// row that a user can have. It also returns a recovery code.
		newUser := func(username string, secondFactor bool) (sessions.Identity, string) {
			t.Helper()
			service, written := newReplica()
			if err := service.Register(ctx, "192.0.2.1", username, password); err != nil {
				t.Fatal(err)
			}
			id, err := login(username, "")
			if err != nil {
				t.Fatal(err)
			}
			if _, _, err := written.CreateIdempotent(ctx, id, "a key", notes.Text{Content: "a note"}); err != nil {
				t.Fatal(err)
			}
			if !secondFactor {
				return id, ""
			}
			proposed, err := service.ProposeSecondFactor(ctx, id, "192.0.2.1", password)
			if err != nil {
				t.Fatal(err)
			}
			code, err := totp.GenerateCode(proposed.Secret, time.Now())
			if err != nil {
				t.Fatal(err)
			}
			recovery, err := service.ConfirmSecondFactor(ctx, id, "192.0.2.1", code)
			if err != nil {
				t.Fatal(err)
			}
			if _, err := login(username, recovery[0]); err != nil {
				t.Fatal(err)
			}
			for _, address := range []string{"192.0.2.2", "2001:db8::1"} {
				if _, err := service.Login(ctx, address, accounts.Credentials{Username: username, Password: password, Code: "1234567"}); err == nil {
					t.Fatal("a code of seven digits was accepted")
				}
			}
			return id, recovery[1]
		}
		other, _ := newUser("bob", true)
		kept := rows(other.Owner)
		for table, n := range kept {
			if n == 0 {
				t.Errorf("the test stores no row in %s: extend it", table)
			}
		}
		for name, secondFactor := range map[string]bool{"without-second-factor": false, "with-second-factor": true} {
			t.Run(name, func(t *testing.T) {
				id, recovery := newUser(name, secondFactor)
				service, _ := newReplica()
				provider.away = true
				defer func() { provider.away = false }()
				if err := service.DeleteAccount(ctx, id, "192.0.2.1", accounts.Reauthentication{Password: password, Code: recovery}); err != nil {
					t.Fatal(err)
				}
				for table, n := range rows(id.Owner) {
					if n != 0 {
						t.Errorf("%d rows are left in %s", n, table)
					}
				}
				if diff := cmp.Diff(kept, rows(other.Owner)); diff != "" {
					t.Errorf("another user's rows:\n%s", diff)
				}
			})
		}
	})
}
