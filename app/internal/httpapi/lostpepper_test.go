package httpapi_test

import (
	"fmt"
	"testing"

	"github.com/securenotes/securenotes/app/internal/storetest"
)

// TestLostPepperTellsNothing: while a pepper that a password needs is lost, every failed login has
// the same answer and counts the same, so that it does not reveal which accounts exist.
func TestLostPepperTellsNothing(t *testing.T) {
	storetest.Each(t, func(t *testing.T, open storetest.Open) {
		const right, wrong, away = "correct horse battery", "wrong horse battery", "Logins are unavailable, try again later"
		s := newService(t, open, true)
		token := s.signIn(t, "alice")
		s.signIn(t, "bobby")
		s.loginWith(t, "nobody", wrong, "", "192.0.2.1").want(t, "before", 401, "Invalid credentials")
		alice, err := s.db.UserByName(t.Context(), "alice")
		if err != nil {
			t.Fatal(err)
		}
		alice.PepperID = "lost"
		if err := s.db.RehashPassword(t.Context(), alice.PasswordHash, alice); err != nil {
			t.Fatal(err)
		}
		logins := []struct{ username, password string }{{username: "alice", password: right}, {username: "alice", password: wrong}, {username: "bobby", password: wrong}, {username: "nobody", password: right}}
		for i, login := range logins {
			address := fmt.Sprintf("198.51.100.%d", i)
			for range 5 {
				a := s.loginWith(t, login.username, login.password, "", address)
				a.want(t, fmt.Sprint(login), 503, away)
				if a.header.Get("Retry-After") == "" {
					t.Errorf("%v: no Retry-After", login)
				}
			}
			s.loginWith(t, login.username, login.password, "", address).want(t, fmt.Sprint(login, " once more"), 429, "Too many requests, try again later")
		}
		s.loginWith(t, "bobby", right, "", "192.0.2.2").want(t, "a user whose pepper is present", 200, "")
		s.call(t, "GET", "/api/notes", token, "").want(t, "a session that had begun", 200, "")
		s.call(t, "DELETE", "/api/account", token, `{"password":"`+right+`"}`).want(t, "alice shows the password again", 503, away)
	})
}
