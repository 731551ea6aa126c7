package httpapi_test

import (
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/pquerna/otp/totp"

	"github.com/securenotes/securenotes/app/internal/storetest"
)

// authenticator is a user's app. It returns the code of the service's time, or of a number of steps
// later.
type authenticator struct {
	service *service
	secret  string
}

func (a authenticator) code(t testing.TB, steps int) string {
	t.Helper()
	code, err := totp.GenerateCode(a.secret, a.service.now().Add(time.Duration(steps)*30*time.Second))
	if err != nil {
		t.Fatal(err)
	}
	return code
}

// wrong returns a code that matches none of the accepted steps.
func (a authenticator) wrong(t testing.TB) string {
	t.Helper()
	for n := range 10 {
		code := fmt.Sprintf("%06d", n)
		if code != a.code(t, -1) && code != a.code(t, 0) && code != a.code(t, 1) {
			return code
		}
	}
	panic("ten codes of three steps")
}

// next advances the time by one step, so that there is a new code.
func (a authenticator) next() { a.service.behind -= 30 * time.Second }

func (s *service) loginWith(t testing.TB, username, password, code, address string) answer {
	t.Helper()
	body := `{"username":"` + username + `","password":"` + password + `","code":"` + code + `"}`
	return s.call(t, "POST", "/api/auth/login", "", body, "X-Forwarded-For", address)
}

// enrol sets up a second factor for alice and returns her token, her app and her recovery codes.
func enrol(t *testing.T, s *service) (string, authenticator, []string) {
	t.Helper()
	// Behind the clock of tokens, so that tokens stay valid while this clock advances, and at the
	// beginning of a step, so that the time that the test takes does not end it.
	s.behind = time.Hour/2 + time.Duration(time.Now().UnixNano())%(30*time.Second)
	token := s.signIn(t, "alice")
	proposed := s.call(t, "POST", "/api/auth/totp", token, `{"password":"correct horse battery"}`)
	proposed.want(t, "propose", 201, "")
	app := authenticator{s, proposed.body["secret"].(string)}
	confirmed := s.call(t, "POST", "/api/auth/totp/confirm", token, `{"code":"`+app.code(t, 0)+`"}`)
	confirmed.want(t, "confirm", 200, "")
	var recovery []string
	for _, code := range confirmed.body["recovery_codes"].([]any) {
		recovery = append(recovery, code.(string))
	}
	app.next()
	return token, app, recovery
}

func TestSecondFactor(t *testing.T) {
	storetest.Each(t, func(t *testing.T, open storetest.Open) {
		s := newService(t, open, true)
		s.behind = time.Hour/2 + time.Duration(time.Now().UnixNano())%(30*time.Second) // as enrol does
		const password = "correct horse battery"
		token := s.signIn(t, "alice")
		other := s.login(t, "alice", password).body["token"].(string)
		status := func(what string, enabled bool, codes float64) {
			t.Helper()
			a := s.call(t, "GET", "/api/auth/totp", token, "")
			if a.status != 200 || a.body["enabled"] != enabled || a.body["recovery_codes_left"] != codes {
				t.Errorf("%s: %d %v", what, a.status, a.body)
			}
		}
		confirm := func(code string) answer {
			return s.call(t, "POST", "/api/auth/totp/confirm", token, `{"code":"`+code+`"}`)
		}
		remove := func(password, code string) answer {
			return s.call(t, "DELETE", "/api/auth/totp", token, `{"password":"`+password+`","code":"`+code+`"}`)
		}

		status("at first", false, 0)
		confirm("123456").want(t, "confirm nothing", 409, "No second factor is set up")
		remove(password, "123456").want(t, "remove nothing", 409, "No second factor is set up")
		s.call(t, "POST", "/api/auth/totp", token, `{"password":"wrong horse battery"}`).want(t, "propose with a wrong password", 403, "Invalid credentials")
		first := s.call(t, "POST", "/api/auth/totp", token, `{"password":"`+password+`"}`)
		proposed := s.call(t, "POST", "/api/auth/totp", token, `{"password":"`+password+`"}`)
		proposed.want(t, "propose", 201, "")
		if uri := proposed.body["uri"].(string); !strings.HasPrefix(uri, "otpauth://totp/SecureNotes:alice?") || !strings.Contains(uri, "period=30") {
			t.Errorf("uri %q", uri)
		}
		app := authenticator{s, proposed.body["secret"].(string)}
		status("proposed only", false, 0)
		s.login(t, "alice", password).want(t, "login, proposed only", 200, "")
		confirm(authenticator{s, first.body["secret"].(string)}.code(t, 0)).want(t, "confirm the one before", 403, "Invalid code")
		confirm(app.code(t, 0)).want(t, "confirm", 200, "")
		status("confirmed", true, 10)
		s.call(t, "GET", "/api/notes", other, "").want(t, "another session, begun without a code", 401, "Invalid token")
		s.call(t, "POST", "/api/auth/totp", token, `{"password":"`+password+`"}`).want(t, "propose again", 409, "A second factor is set up already")

		app.next()
		s.login(t, "alice", password).want(t, "login without a code", 401, "Second factor code required")
		s.loginWith(t, "alice", "wrong horse battery", app.code(t, 0), "192.0.2.1").want(t, "login with a wrong password", 401, "Invalid credentials")
		s.loginWith(t, "alice", password, app.wrong(t), "192.0.2.2").want(t, "login with a wrong code", 401, "Invalid code")
		s.loginWith(t, "alice", password, app.code(t, 2), "192.0.2.3").want(t, "a code from the future", 401, "Invalid code")
		s.loginWith(t, "alice", password, app.code(t, 0), "192.0.2.4").want(t, "login with a code", 200, "")

		app.next()
		remove(password, "").want(t, "remove without a code", 403, "Second factor code required")
		remove("wrong horse battery", app.code(t, 0)).want(t, "remove with a wrong password", 403, "Invalid credentials")
		remove(password, app.wrong(t)).want(t, "remove with a wrong code", 403, "Invalid code")
		remove(password, app.code(t, 0)).want(t, "remove", 200, "")
		status("removed", false, 0)
		s.login(t, "alice", password).want(t, "login, removed", 200, "")
		if strings.Contains(s.log.String()+s.trail.String(), app.secret) {
			t.Error("the seed is in a log")
		}
	})
}

// TestCodeIsAcceptedOnce: a code is accepted once, also when several requests send it at the same
// time.
func TestCodeIsAcceptedOnce(t *testing.T) {
	storetest.Each(t, func(t *testing.T, open storetest.Open) {
		s := newService(t, open, true)
		_, app, _ := enrol(t, s)
		s.loginWith(t, "alice", "correct horse battery", app.code(t, -1), "192.0.2.1").want(t, "the code that confirmed it", 401, "Invalid code")
		code := app.code(t, 0)
		var accepted atomic.Int32
		var logins sync.WaitGroup
		for i := range 5 {
			logins.Go(func() {
				if a := s.loginWith(t, "alice", "correct horse battery", code, fmt.Sprintf("192.0.2.%d", 10+i)); a.status == 200 {
					accepted.Add(1)
				} else if a.body["error"] != "Invalid code" {
					t.Errorf("%d %v", a.status, a.body)
				}
			})
		}
		logins.Wait()
		if n := accepted.Load(); n != 1 {
			t.Errorf("one code began %d sessions", n)
		}
		s.loginWith(t, "alice", "correct horse battery", code, "192.0.2.2").want(t, "once more", 401, "Invalid code")
		app.next()
		s.loginWith(t, "alice", "correct horse battery", app.code(t, 0), "192.0.2.3").want(t, "the next code", 200, "")
		s.loginWith(t, "alice", "correct horse battery", app.code(t, -1), "192.0.2.4").want(t, "the previous code", 401, "Invalid code")
	})
}

func TestRecoveryCodes(t *testing.T) {
	storetest.Each(t, func(t *testing.T, open storetest.Open) {
		s := newService(t, open, true)
		token, _, recovery := enrol(t, s)
		const password = "correct horse battery"
		s.loginWith(t, "alice", password, recovery[0], "192.0.2.1").want(t, "a recovery code", 200, "")
		s.loginWith(t, "alice", password, recovery[0], "192.0.2.2").want(t, "the same again", 401, "Invalid code")
		typed := strings.ToLower(strings.ReplaceAll(recovery[1], "-", " "))
		s.loginWith(t, "alice", password, typed, "192.0.2.3").want(t, "as a person types it", 200, "")
		s.loginWith(t, "alice", password, strings.Repeat("A", 26), "192.0.2.4").want(t, "none of them", 401, "Invalid code")
		if a := s.call(t, "GET", "/api/auth/totp", token, ""); a.body["recovery_codes_left"] != 8.0 {
			t.Errorf("status %v, want 8 codes left", a.body)
		}
		s.call(t, "DELETE", "/api/auth/totp", token, `{"password":"`+password+`","code":"`+recovery[2]+`"}`).want(t, "remove with one", 200, "")
		s.login(t, "alice", password).want(t, "login, removed", 200, "")
	})
}

// TestCodesAreLimited: an attacker who has the password can neither try all codes nor lock the user
// out with the first few. A recovery code still works.
func TestCodesAreLimited(t *testing.T) {
	storetest.Each(t, func(t *testing.T, open storetest.Open) {
		s := newService(t, open, true)
		token, app, recovery := enrol(t, s)
		remove := func(code, address string) answer {
			return s.call(t, "DELETE", "/api/auth/totp", token, `{"password":"correct horse battery","code":"`+code+`"}`, "X-Forwarded-For", address)
		}
		for range 10 {
			remove(app.wrong(t), "192.0.2.1").want(t, "a wrong code", 403, "Invalid code")
		}
		remove(app.code(t, 0), "192.0.2.1").want(t, "the right code, too late", 429, "")
		s.loginWith(t, "alice", "correct horse battery", recovery[0], "192.0.2.1").want(t, "a recovery code", 200, "")
		s.loginWith(t, "alice", "correct horse battery", app.code(t, 0), "192.0.2.3").want(t, "the right code, from another address", 200, "")
	})
}

// TestCodesStayCounted: if the counts of codes cannot be reset, the change that the code was for is
// committed and answered as such. The log has the cause.
func TestCodesStayCounted(t *testing.T) {
	storetest.Each(t, func(t *testing.T, open storetest.Open) {
		s := newService(t, open, true)
		s.limits.stuck = true
		token, app, recovery := enrol(t, s)
		if len(recovery) != 10 {
			t.Errorf("%d recovery codes", len(recovery))
		}
		s.loginWith(t, "alice", "correct horse battery", app.code(t, 0), "192.0.2.1").want(t, "login", 200, "")
		app.next()
		s.call(t, "DELETE", "/api/auth/totp", token, `{"password":"correct horse battery","code":"`+app.code(t, 0)+`"}`).want(t, "remove", 200, "")
		if n := strings.Count(s.log.String(), "the counter is stuck"); n != 3 {
			t.Errorf("logged %d times, want 3:\n%s", n, s.log)
		}
	})
}

// TestSecondFactorIsAskedForAgain: a user with a second factor needs a code to change the password
// or delete the account. Only a successful request uses up the code.
func TestSecondFactorIsAskedForAgain(t *testing.T) {
	storetest.Each(t, func(t *testing.T, open storetest.Open) {
		s := newService(t, open, true)
		token, app, recovery := enrol(t, s)
		change := func(current, replacement, code string) answer {
			return s.call(t, "POST", "/api/auth/password", token,
				`{"current_password":"`+current+`","new_password":"`+replacement+`","code":"`+code+`"}`)
		}
		remove := func(code string) answer {
			return s.call(t, "DELETE", "/api/account", token, `{"password":"a fourth fine password","code":"`+code+`"}`)
		}
		const first, second, third, fourth = "correct horse battery", "another fine password", "a third fine password", "a fourth fine password"

		s.call(t, "POST", "/api/auth/password", token, `{"current_password":"`+first+`","new_password":"`+second+`"}`).
			want(t, "change without a code", 403, "Second factor code required")
		change(first, second, app.wrong(t)).want(t, "change with a wrong code", 403, "Invalid code")
		change(first, second, strings.Repeat("A", 26)).want(t, "change with a wrong recovery code", 403, "Invalid code")
		change("wrong horse battery", second, app.code(t, 0)).want(t, "change with a wrong password", 403, "Invalid credentials")
		change(first, "short", app.code(t, 0)).want(t, "change to a password that is refused", 400, "")
		change(first, second, app.code(t, 0)).want(t, "change", 200, "")
		change(second, third, app.code(t, 0)).want(t, "change with a code that was used", 403, "Invalid code")
		change(second, third, recovery[0]).want(t, "change with a recovery code", 200, "")
		change(third, fourth, recovery[0]).want(t, "change with the same one", 403, "Invalid code")
		app.next()
		change(third, fourth, app.code(t, 0)).want(t, "change with a new code", 200, "")

		s.call(t, "DELETE", "/api/account", token, `{"password":"`+fourth+`"}`).want(t, "delete without a code", 403, "Second factor code required")
		remove(app.code(t, 0)).want(t, "delete with a code that was used", 403, "Invalid code")
		s.call(t, "GET", "/api/notes", token, "").want(t, "the account exists", 200, "")
		app.next()
		remove(app.code(t, 0)).want(t, "delete", 200, "")
		s.call(t, "GET", "/api/notes", token, "").want(t, "afterwards", 401, "Invalid token")
	})
}
