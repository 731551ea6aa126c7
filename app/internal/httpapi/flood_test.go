package httpapi_test

import (
	"fmt"
	"log/slog"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/securenotes/securenotes/app/config"
	"github.com/securenotes/securenotes/app/internal/accounts"
	"github.com/securenotes/securenotes/app/internal/envelope"
	"github.com/securenotes/securenotes/app/internal/httpapi"
	"github.com/securenotes/securenotes/app/internal/notes"
	"github.com/securenotes/securenotes/app/internal/ratelimit"
	"github.com/securenotes/securenotes/app/internal/storetest"
)

// TestLoginFloodLeavesReads: more logins than there are processors for are answered 503, or 401 in their
// turn, and who is signed in reads all the while.
func TestLoginFloodLeavesReads(t *testing.T) {
	storetest.Each(t, func(t *testing.T, open storetest.Open) {
		hasher, err := accounts.NewHasher("d1", 13, config.NewPepper()) // about half a second each
		if err != nil {
			t.Fatal(err)
		}
		provider, err := envelope.OpenLocal(filepath.Join(t.TempDir(), "master.key"))
		if err != nil {
			t.Fatal(err)
		}
		db := open(t)
		cache := envelope.NewCache(envelope.NewKeyring("d1", provider), db)
		s := newService(t, open, true, func(parts *httpapi.Service) {
			parts.Notes = notes.NewService(db, cache)
			parts.Accounts = accounts.NewService(db, cache, hasher, ratelimit.NewLogins(db.Limits(), 5), accounts.Options{
				RegistrationOpen: true, MinPassword: 8, TokenTTL: time.Hour, Log: slog.New(slog.DiscardHandler), Now: time.Now,
			})
		})
		token := s.signIn(t, "alice")
		id := s.call(t, "POST", "/api/notes", token, `{"content":"mine"}`).body["id"].(string)

		var refused, busy atomic.Int32
		var logins sync.WaitGroup
		for i := range 80 {
			logins.Go(func() {
				body := fmt.Sprintf(`{"username":"nobody-%d","password":"correct horse battery"}`, i)
				switch a := s.call(t, "POST", "/api/auth/login", "", body, "X-Forwarded-For", fmt.Sprintf("192.0.2.%d", i)); a.status {
				case 401:
					refused.Add(1)
				case 503:
					busy.Add(1)
					if a.header.Get("Retry-After") == "" {
						t.Error("503 without Retry-After")
					}
				default:
					t.Errorf("login: %d %v", a.status, a.body)
				}
			})
		}
		ended := make(chan struct{})
		go func() {
			logins.Wait()
			close(ended)
		}()
		reads := 0
		for {
			select {
			case <-ended:
				if reads < 20 || busy.Load() == 0 || refused.Load() == 0 {
					t.Errorf("%d reads during the flood, %d logins in their turn, %d answered 503", reads, refused.Load(), busy.Load())
				}
				return
			default:
				s.call(t, "GET", "/api/notes/"+id, token, "").want(t, "a read during the flood", 200, "")
				reads++
			}
		}
	})
}
