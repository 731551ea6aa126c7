package httpapi_test

import (
	"errors"
	"log/slog"
	"sync"
	"testing"
	"time"

	"github.com/securenotes/securenotes/app/internal/accounts"
	"github.com/securenotes/securenotes/app/internal/store"
	"github.com/securenotes/securenotes/app/internal/storetest"
)

func (s *service) login(t testing.TB, username, password string) answer {
	t.Helper()
	return s.call(t, "POST", "/api/auth/login", "", `{"username":"`+username+`","password":"`+password+`"}`)
}

func TestPasswordChange(t *testing.T) {
	storetest.Each(t, func(t *testing.T, open storetest.Open) {
		s := newService(t, open, true)
		token := s.signIn(t, "alice")
		other := s.login(t, "alice", "correct horse battery").body["token"].(string)
		change := func(current, replacement string) answer {
			return s.call(t, "POST", "/api/auth/password", token, `{"current_password":"`+current+`","new_password":"`+replacement+`"}`)
		}
		change("wrong horse battery", "another fine password").want(t, "wrong password", 403, "Invalid credentials")
		change("correct horse battery", "short").want(t, "short password", 400, "Password must be at least 8 characters")
		change("correct horse battery", "the ALICE password").want(t, "the username in it", 400, "Password must not contain the username: attackers try it first")
		change("correct horse battery", "iloveyou1").want(t, "common password", 400, "Password is one of the most common ones, choose another")
		change("correct horse battery", "another fine password").want(t, "change", 200, "")
		s.call(t, "GET", "/api/notes", token, "").want(t, "the session that changed it", 200, "")
		s.call(t, "GET", "/api/notes", other, "").want(t, "another session", 401, "Invalid token")
		s.login(t, "alice", "correct horse battery").want(t, "old password", 401, "Invalid credentials")
		s.login(t, "alice", "another fine password").want(t, "new password", 200, "")
	})
}

func TestSessions(t *testing.T) {
	storetest.Each(t, func(t *testing.T, open storetest.Open) {
		s := newService(t, open, true)
		token, mallory := s.signIn(t, "alice"), s.signIn(t, "mallory")
		other := s.login(t, "alice", "correct horse battery").body["token"].(string)
		list := s.call(t, "GET", "/api/auth/sessions", token, "").body["sessions"].([]any)
		if len(list) != 2 {
			t.Fatalf("%d sessions, want 2", len(list))
		}
		id := ""
		for _, entry := range list {
			if fields := entry.(map[string]any); fields["current"] == false {
				id = fields["id"].(string)
			}
		}
		revoke := func(id, token, body string) answer {
			return s.call(t, "DELETE", "/api/auth/sessions/"+id, token, body)
		}
		const right = `{"password":"correct horse battery"}`
		revoke(id, mallory, right).want(t, "another user's session", 404, "Session not found")
		revoke(id, token, "").want(t, "without the password", 400, "")
		revoke(id, token, `{"password":"wrong horse battery"}`).want(t, "with a wrong password", 403, "Invalid credentials")
		s.call(t, "GET", "/api/notes", other, "").want(t, "before it is revoked", 200, "")
		revoke(id, token, right).want(t, "revoke", 200, "")
		s.call(t, "GET", "/api/notes", other, "").want(t, "revoked", 401, "Invalid token")
		revoke(id, token, right).want(t, "revoke again", 404, "Session not found")
		revoke("x", token, right).want(t, "no id", 404, "Session not found")
		own := s.call(t, "GET", "/api/auth/sessions", token, "").body["sessions"].([]any)[0].(map[string]any)["id"].(string)
		revoke(own, token, "").want(t, "the session of the request itself", 200, "")
		s.call(t, "GET", "/api/notes", token, "").want(t, "afterwards", 401, "Invalid token")
	})
}

// TestSessionsAreBounded: a user has at most 100 sessions, also when many begin at the same time.
// The oldest ones end.
func TestSessionsAreBounded(t *testing.T) {
	storetest.Each(t, func(t *testing.T, open storetest.Open) {
		s := newService(t, open, true)
		bob := s.signIn(t, "bob")
		oldest := s.signIn(t, "alice")
		token := ""
		for range 99 {
			a := s.login(t, "alice", "correct horse battery")
			a.want(t, "login", 200, "")
			token = a.body["token"].(string)
		}
		s.call(t, "GET", "/api/notes", oldest, "").want(t, "the oldest of 100", 200, "")
		s.login(t, "alice", "correct horse battery").want(t, "one more", 200, "")
		s.call(t, "GET", "/api/notes", oldest, "").want(t, "the oldest of 101", 401, "Invalid token")
		var logins sync.WaitGroup
		for range 8 {
			logins.Go(func() { s.login(t, "alice", "correct horse battery").want(t, "login", 200, "") })
		}
		logins.Wait()
		if list := s.call(t, "GET", "/api/auth/sessions", token, "").body["sessions"].([]any); len(list) != 100 {
			t.Errorf("%d sessions, want 100", len(list))
		}
		s.call(t, "GET", "/api/notes", bob, "").want(t, "another user", 200, "")
	})
}

// TestEarlierPod checks that a pod that used the database before a restore neither registers nor
// logs in anyone, and that the client is told to try again.
func TestEarlierPod(t *testing.T) {
	storetest.Each(t, func(t *testing.T, open storetest.Open) {
		s := newService(t, open, true)
		token := s.signIn(t, "alice")
		s.db.Expect(store.Meta{DeploymentID: "d1", Epoch: "abcdefghijklmnop"})
		for path, body := range map[string]string{
			"/api/auth/register": `{"username":"bobby","password":"correct horse battery"}`,
			"/api/auth/login":    `{"username":"alice","password":"correct horse battery"}`,
		} {
			a := s.call(t, "POST", path, "", body)
			a.want(t, path, 503, "The database is unavailable, try again later")
			if a.header.Get("Retry-After") == "" {
				t.Errorf("%s: no Retry-After", path)
			}
		}
		if _, err := s.db.UserByName(t.Context(), "bobby"); !errors.Is(err, accounts.ErrNotFound) {
			t.Errorf("the user was registered: %v", err)
		}
		if list := s.call(t, "GET", "/api/auth/sessions", token, "").body["sessions"].([]any); len(list) != 1 {
			t.Errorf("%d sessions, want only the first: %v", len(list), list)
		}
	})
}

// TestAccountDeletion: all data of the user is deleted, although none of it can be decrypted.
func TestAccountDeletion(t *testing.T) {
	storetest.Each(t, func(t *testing.T, open storetest.Open) {
		s := newService(t, open, true)
		token, bob := s.signIn(t, "alice"), s.signIn(t, "bob")
		s.call(t, "POST", "/api/notes", token, `{"content":"mine"}`).want(t, "create", 201, "")
		kept := s.call(t, "POST", "/api/notes", bob, `{"content":"bob's"}`).body["id"].(string)
		s.provider.away = true
		s.call(t, "DELETE", "/api/account", token, `{"password":"wrong horse battery"}`).want(t, "wrong password", 403, "Invalid credentials")
		s.call(t, "DELETE", "/api/account", token, `{"password":"correct horse battery"}`).want(t, "delete", 200, "")
		s.provider.away = false
		s.call(t, "GET", "/api/notes", token, "").want(t, "afterwards", 401, "Invalid token")
		s.login(t, "alice", "correct horse battery").want(t, "login", 401, "Invalid credentials")
		s.call(t, "GET", "/api/notes/"+kept, bob, "").want(t, "another user's note", 200, "")
		again := s.signIn(t, "alice")
		if list := s.call(t, "GET", "/api/notes", again, ""); len(list.body["notes"].([]any)) != 0 {
			t.Errorf("the new alice has the old one's notes: %v", list.body)
		}
	})
}

// TestHashIsRenewedAtLogin: after the cost was raised, a user's next login replaces the hash.
func TestHashIsRenewedAtLogin(t *testing.T) {
	storetest.Each(t, func(t *testing.T, open storetest.Open) {
		s := newService(t, open, true)
		s.signIn(t, "alice")
		before, err := s.db.UserByName(t.Context(), "alice")
		if err != nil {
			t.Fatal(err)
		}
		hasher, err := accounts.NewHasher("d1", 5, s.pepper)
		if err != nil {
			t.Fatal(err)
		}
		raised := accounts.NewService(s.db, nil, hasher, s.usernames, s.limits,
			accounts.Options{TokenTTL: time.Hour, Log: slog.New(slog.DiscardHandler), Now: time.Now})
		if _, err := raised.Login(t.Context(), "192.0.2.1", accounts.Credentials{Username: "alice", Password: "correct horse battery"}); err != nil {
			t.Fatal(err)
		}
		after, err := s.db.UserByName(t.Context(), "alice")
		if err != nil || after.PasswordHash == before.PasswordHash || hasher.Outdated(after) {
			t.Errorf("the hash was not replaced: %v", err)
		}
		s.login(t, "alice", "correct horse battery").want(t, "login with the new hash", 200, "")
	})
}
