package httpapi_test

import (
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"sync"
	"testing"

	"github.com/securenotes/securenotes/app/internal/httpapi"
	"github.com/securenotes/securenotes/app/internal/ratelimit"
	"github.com/securenotes/securenotes/app/internal/storetest"
)

// uploads are requests whose bodies do not end.
type uploads struct {
	service *service
	all     sync.WaitGroup
	// ended is closed to cut off the bodies.
	ended chan struct{}
}

func newUploads(t *testing.T, s *service) *uploads {
	u := &uploads{service: s, ended: make(chan struct{})}
	t.Cleanup(u.end)
	return u
}

func (u *uploads) end() {
	select {
	case <-u.ended:
	default:
		close(u.ended)
	}
	u.all.Wait()
}

// start sends a note without the end of its body. It returns the status if the service answers
// anyway, or 0 once it has read everything that was sent.
func (u *uploads) start(t *testing.T, token string, size int) int {
	t.Helper()
	body := &unfinished{text: strings.NewReader(`{"content":"` + strings.Repeat("x", size)), read: make(chan struct{}), ended: u.ended}
	request := httptest.NewRequest(http.MethodPost, "/api/notes", body)
	request.ContentLength = int64(size + 100)
	request.Header.Set("Authorization", "Bearer "+token)
	answer := httptest.NewRecorder()
	answered := make(chan struct{})
	u.all.Go(func() {
		u.service.Config.Handler.ServeHTTP(answer, request)
		close(answered)
	})
	select {
	case <-answered:
		if answer.Header().Get("Connection") != "close" {
			t.Errorf("the answer %d leaves the connection open for the rest of the body", answer.Code)
		}
		return answer.Code
	case <-body.read:
		return 0
	}
}

// unfinished is a body that blocks at its end until ended is closed.
type unfinished struct {
	text  io.Reader
	once  sync.Once
	read  chan struct{}
	ended <-chan struct{}
}

func (u *unfinished) Read(p []byte) (int, error) {
	if n, err := u.text.Read(p); err == nil {
		return n, nil
	}
	u.once.Do(func() { close(u.read) })
	<-u.ended
	return 0, io.ErrUnexpectedEOF
}

func (u *unfinished) Close() error { return nil }

// TestUploadsOfOneUser: a user's unfinished uploads are refused at the user's limit, and leave
// memory for other users. Those of several users leave memory for small notes.
func TestUploadsOfOneUser(t *testing.T) {
	storetest.Each(t, func(t *testing.T, open storetest.Open) {
		s := newService(t, open, true)
		u := newUploads(t, s)
		const size = 1_300_000
		// fill starts uploads until one is refused.
		fill := func(token string, want int) {
			t.Helper()
			for range 48 {
				if status := u.start(t, token, size); status != 0 {
					if status != want {
						t.Errorf("refused with %d, want %d", status, want)
					}
					return
				}
			}
			t.Error("48 unfinished uploads are in memory")
		}
		tokens := make([]string, 5)
		for i := range tokens {
			tokens[i] = s.signIn(t, fmt.Sprintf("user-%d", i))
		}
		fill(tokens[0], http.StatusTooManyRequests)
		s.call(t, "POST", "/api/notes", tokens[1], largestNote).want(t, "a large note of another user", 201, "")
		for _, token := range tokens[1:4] {
			fill(token, http.StatusTooManyRequests)
		}
		s.call(t, "POST", "/api/notes", tokens[4], `{"content":"small"}`).want(t, "a small note", 201, "")
		s.call(t, "POST", "/api/notes", tokens[0], `{"content":"small"}`).want(t, "a small note of a user with unfinished ones", 201, "")
		u.end()
		s.call(t, "POST", "/api/notes", tokens[4], largestNote).want(t, "afterwards", 201, "")
	})
}

// TestSlowUploadsMakeRoom: however many accounts keep uploads unfinished, another user can write a
// large note, because the slowest uploads are cut off.
func TestSlowUploadsMakeRoom(t *testing.T) {
	storetest.Each(t, func(t *testing.T, open storetest.Open) {
		s := newService(t, open, true)
		const size = 1_300_000
		for i := range 6 {
			token := s.signIn(t, fmt.Sprintf("attacker-%d", i))
			for range 3 {
				conn, err := net.Dial("tcp", s.Listener.Addr().String())
				if err != nil {
					t.Fatal(err)
				}
				defer conn.Close()
				go func() { // an error means that the service has closed the connection
					_, _ = fmt.Fprintf(conn, "POST /api/notes HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer %s\r\nContent-Length: %d\r\n\r\n", token, size+100)
					_, _ = io.WriteString(conn, `{"content":"`+strings.Repeat("x", size))
				}()
			}
		}
		mine := s.signIn(t, "alice")
		for i := range 3 {
			s.call(t, "POST", "/api/notes", mine, largestNote).want(t, fmt.Sprintf("large note %d meanwhile", i), 201, "")
		}
	})
}

// TestVoidTokenUploadsNothing: the session is checked before a large body is read.
func TestVoidTokenUploadsNothing(t *testing.T) {
	storetest.Each(t, func(t *testing.T, open storetest.Open) {
		s := newService(t, open, true)
		u := newUploads(t, s)
		token := s.signIn(t, "alice")
		s.call(t, "POST", "/api/auth/logout", token, "").want(t, "logout", 200, "")
		if status := u.start(t, token, 1_300_000); status != http.StatusUnauthorized {
			t.Errorf("an upload of a session that has ended: %d, want 401", status)
		}
	})
}

// slowBody is a body whose deadline has passed.
type slowBody struct{}

func (slowBody) Read([]byte) (int, error) { return 0, os.ErrDeadlineExceeded }
func (slowBody) Close() error             { return nil }

// TestSlowBodiesCount: a body that arrives too slowly is answered, and counts for its session or
// address.
func TestSlowBodiesCount(t *testing.T) {
	for name, path := range map[string]string{"note": "/api/notes", "password": "/api/auth/password"} {
		t.Run(name, func(t *testing.T) {
			storetest.Each(t, func(t *testing.T, open storetest.Open) {
				const limit = 10
				s := newService(t, open, true, func(s *httpapi.Service) { s.Requests = ratelimit.NewRequests(limit) })
				token := s.signIn(t, "alice")
				statuses := map[int]int{}
				for range limit + 3 {
					request := httptest.NewRequest(http.MethodPost, path, slowBody{})
					request.RemoteAddr = "192.0.2.1:1234"
					request.ContentLength = 100
					request.Header.Set("Authorization", "Bearer "+token)
					answer := httptest.NewRecorder()
					s.Config.Handler.ServeHTTP(answer, request)
					statuses[answer.Code]++
				}
				if statuses[http.StatusRequestTimeout] != limit || statuses[http.StatusTooManyRequests] != 3 {
					t.Errorf("answers by status %v, want %d of 408, then 429", statuses, limit)
				}
				s.call(t, "GET", "/api/notes", token, "", "X-Forwarded-For", "192.0.2.2").want(t, "from another address", 200, "")
			})
		})
	}
}
