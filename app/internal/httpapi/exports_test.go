package httpapi

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"
)

// TestExportsMakeRoom: when all places are taken, the slowest export of the user who has the most
// is cut off for a user who has fewer, if it has had its term.
func TestExportsMakeRoom(t *testing.T) {
	type holder struct {
		user string
		age  time.Duration
		sent int64
	}
	old, older := 2*exportTerm, 4*exportTerm
	for name, tc := range map[string]struct {
		holders []holder
		user    string
		// cut is the index of who is cut off; -1: nobody.
		cut int
		err error
	}{
		"the slowest": {
			holders: []holder{{"a", old, 100}, {"a", older, 100}, {"b", old, 200}, {"b", old, 200}}, user: "c", cut: 1},
		"of who has the most": {
			holders: []holder{{"b", old, 0}, {"a", old, 200}, {"a", old, 100}, {"c", old, 0}}, user: "d", cut: 2},
		"of several who have as many": {
			holders: []holder{{"a", old, 100}, {"b", old, 400}, {"c", old, 50}, {"d", old, 300}}, user: "e", cut: 2},
		"that has had its term": {
			holders: []holder{{"a", exportTerm, 0}, {"a", exportTerm / 2, 0}, {"b", old, 200}, {"c", 0, 0}}, user: "d", cut: 2},
		"of a user who has more": {
			holders: []holder{{"a", old, 100}, {"a", old, 50}, {"b", old, 0}, {"c", old, 0}}, user: "b", cut: 1},
		"none has had its term": {
			holders: []holder{{"a", exportTerm, 0}, {"a", 0, 0}, {"b", exportTerm, 0}, {"b", 0, 0}}, user: "c", cut: -1, err: errBusy},
		"nobody has more": {
			holders: []holder{{"a", old, 0}, {"b", old, 0}, {"c", old, 0}, {"d", old, 0}}, user: "a", cut: -1, err: errBusy},
		"the own share": {
			holders: []holder{{"a", old, 0}, {"a", old, 0}, {"b", old, 0}, {"b", old, 0}}, user: "a", cut: -1, err: errOwnShare},
	} {
		t.Run(name, func(t *testing.T) {
			clock := time.Now()
			e := newExports(func() time.Time { return clock })
			cut := -1
			for i, h := range tc.holders {
				p := &place{user: h.user}
				p.cut = func() {
					cut = i
					go e.give(p)
				}
				if err := e.take(t.Context(), p); err != nil {
					t.Fatal(err)
				}
				p.begun = clock.Add(-h.age)
				p.sent.Store(h.sent)
			}
			if err := e.take(t.Context(), &place{user: tc.user}); !errors.Is(err, tc.err) {
				t.Errorf("error %v, want %v", err, tc.err)
			}
			if cut != tc.cut {
				t.Errorf("export %d is cut off, want %d", cut, tc.cut)
			}
		})
	}
}

// TestExportsWaitForRoom: a new export waits a moment for one that is cut off, cuts off no second
// one, and ends its wait when its client is gone.
func TestExportsWaitForRoom(t *testing.T) {
	t.Parallel()
	e := newExports(time.Now)
	cut := make(chan struct{}, maxExports)
	for i := range maxExports {
		p := &place{user: fmt.Sprint(i), cut: func() { cut <- struct{}{} }}
		if err := e.take(t.Context(), p); err != nil {
			t.Fatal(err)
		}
		p.begun = time.Now().Add(-2 * exportTerm)
	}
	begun := time.Now()
	if err := e.take(t.Context(), &place{user: "new"}); !errors.Is(err, errBusy) || time.Since(begun) < exportWait {
		t.Errorf("after %s: %v", time.Since(begun), err)
	}
	if len(cut) != 1 {
		t.Errorf("%d exports are cut off, want 1", len(cut))
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := e.take(ctx, &place{user: "new"}); !errors.Is(err, context.Canceled) {
		t.Errorf("of a client that is gone: %v", err)
	}
}

// TestSlowExportsAreCutOff: over a connection, an export that waits for its client ends when
// another user needs its place, and so does one that waits for the database.
func TestSlowExportsAreCutOff(t *testing.T) {
	for name, tc := range map[string]struct{ http2, database bool }{
		"HTTP/1.1":               {},
		"HTTP/2":                 {http2: true},
		"HTTP/1.1, the database": {database: true},
		"HTTP/2, the database":   {http2: true, database: true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			e := newExports(time.Now)
			taken, ended := make(chan *place, maxExports), make(chan error, maxExports)
			server := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				p := &place{user: r.URL.Path}
				a := newPacedAnswer(r.Context(), w, p, time.Now)
				defer a.stop(nil)
				if err := e.take(a.ctx, p); err != nil {
					ended <- err
					return
				}
				defer e.give(p)
				_, err := a.Write(make([]byte, bodyStep))
				taken <- p
				for err == nil && !tc.database {
					_, err = a.Write(make([]byte, bodyStep))
				}
				<-a.ctx.Done()
				ended <- context.Cause(a.ctx)
			}))
			server.EnableHTTP2 = tc.http2
			server.StartTLS()
			defer server.Close()
			for i := range maxExports {
				response, err := server.Client().Get(server.URL + fmt.Sprint("/", i/maxUserExports))
				if err != nil {
					t.Fatal(err)
				}
				defer response.Body.Close()
				if response.ProtoMajor == 2 != tc.http2 {
					t.Fatalf("HTTP/%d", response.ProtoMajor)
				}
				p := <-taken
				e.mu.Lock()
				p.begun = time.Now().Add(-2 * exportTerm)
				e.mu.Unlock()
				defer func() {
					if _, err := io.Copy(io.Discard, response.Body); err == nil {
						t.Error("the client was told that all was there")
					}
				}()
			}
			other := &place{user: "other"}
			if err := e.take(t.Context(), other); err != nil {
				t.Fatal(err)
			}
			if err := <-ended; !errors.Is(err, errMadeRoom) {
				t.Errorf("the export ended with %v", err)
			}
			if n := len(ended); n != 0 {
				t.Errorf("%d more exports ended", n)
			}
			e.mu.Lock()
			for p := range e.underWay {
				if p.cut != nil {
					p.cut()
				}
			}
			e.mu.Unlock()
		})
	}
}
