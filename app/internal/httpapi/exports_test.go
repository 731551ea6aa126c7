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

// TestExportsMakeRoom: when all slots are in use, a user who has fewer slots gets that of the
// slowest export of the user who has the most, if that export has had it for exportPreemptAfter.
func TestExportsMakeRoom(t *testing.T) {
	type holder struct {
		user string
		age  time.Duration
		sent int64
	}
	old, older := 2*exportPreemptAfter, 4*exportPreemptAfter
	for name, tc := range map[string]struct {
		holders []holder
		user    string
		// preempted is the index of the export that is preempted; -1 means none.
		preempted int
		err       error
	}{
		"the slowest": {
			holders: []holder{{"a", old, 100}, {"a", older, 100}, {"b", old, 200}, {"b", old, 200}}, user: "c", preempted: 1},
		"of the user who has the most": {
			holders: []holder{{"b", old, 0}, {"a", old, 200}, {"a", old, 100}, {"c", old, 0}}, user: "d", preempted: 2},
		"of several who have as many": {
			holders: []holder{{"a", old, 100}, {"b", old, 400}, {"c", old, 50}, {"d", old, 300}}, user: "e", preempted: 2},
		"only after exportPreemptAfter": {
			holders: []holder{{"a", exportPreemptAfter, 0}, {"a", exportPreemptAfter / 2, 0}, {"b", old, 200}, {"c", 0, 0}}, user: "d", preempted: 2},
		"of a user who has more": {
			holders: []holder{{"a", old, 100}, {"a", old, 50}, {"b", old, 0}, {"c", old, 0}}, user: "b", preempted: 1},
		"none after exportPreemptAfter": {
			holders: []holder{{"a", exportPreemptAfter, 0}, {"a", 0, 0}, {"b", exportPreemptAfter, 0}, {"b", 0, 0}}, user: "c", preempted: -1, err: errBusy},
		"nobody has more": {
			holders: []holder{{"a", old, 0}, {"b", old, 0}, {"c", old, 0}, {"d", old, 0}}, user: "a", preempted: -1, err: errBusy},
		"the user has the most already": {
			holders: []holder{{"a", old, 0}, {"a", old, 0}, {"b", old, 0}, {"b", old, 0}}, user: "a", preempted: -1, err: errUserBusy},
	} {
		t.Run(name, func(t *testing.T) {
			clock := time.Now()
			e := newExports(func() time.Time { return clock })
			preempted := -1
			for i, h := range tc.holders {
				p := &exportSlot{user: h.user}
				p.preempt = func() {
					preempted = i
					go e.release(p)
				}
				if err := e.acquire(t.Context(), p); err != nil {
					t.Fatal(err)
				}
				p.since = clock.Add(-h.age)
				p.sent.Store(h.sent)
			}
			if err := e.acquire(t.Context(), &exportSlot{user: tc.user}); !errors.Is(err, tc.err) {
				t.Errorf("error %v, want %v", err, tc.err)
			}
			if preempted != tc.preempted {
				t.Errorf("export %d is preempted, want %d", preempted, tc.preempted)
			}
		})
	}
}

// TestExportsWaitForRoom: a new export waits for a moment for the export that it preempts, preempts
// no second one, and stops waiting when its client is gone.
func TestExportsWaitForRoom(t *testing.T) {
	t.Parallel()
	e := newExports(time.Now)
	cut := make(chan struct{}, maxExports)
	for i := range maxExports {
		p := &exportSlot{user: fmt.Sprint(i), preempt: func() { cut <- struct{}{} }}
		if err := e.acquire(t.Context(), p); err != nil {
			t.Fatal(err)
		}
		p.since = time.Now().Add(-2 * exportPreemptAfter)
	}
	begun := time.Now()
	if err := e.acquire(t.Context(), &exportSlot{user: "new"}); !errors.Is(err, errBusy) || time.Since(begun) < exportWait {
		t.Errorf("after %s: %v", time.Since(begun), err)
	}
	if len(cut) != 1 {
		t.Errorf("%d exports are cut off, want 1", len(cut))
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := e.acquire(ctx, &exportSlot{user: "new"}); !errors.Is(err, context.Canceled) {
		t.Errorf("the client is gone: %v", err)
	}
}

// TestSlowExportsAreCutOff: an export over a connection ends when another user needs its slot, also
// while it waits for its client or for the database.
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
			taken, ended := make(chan *exportSlot, maxExports), make(chan error, maxExports)
			server := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				p := &exportSlot{user: r.URL.Path}
				a := newPacedAnswer(r.Context(), w, p, time.Now)
				defer a.stop(nil)
				if err := e.acquire(a.ctx, p); err != nil {
					ended <- err
					return
				}
				defer e.release(p)
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
				p.since = time.Now().Add(-2 * exportPreemptAfter)
				e.mu.Unlock()
				defer func() {
					if _, err := io.Copy(io.Discard, response.Body); err == nil {
						t.Error("the client received a complete answer")
					}
				}()
			}
			other := &exportSlot{user: "other"}
			if err := e.acquire(t.Context(), other); err != nil {
				t.Fatal(err)
			}
			if err := <-ended; !errors.Is(err, errPreempted) {
				t.Errorf("the export ended with %v", err)
			}
			if n := len(ended); n != 0 {
				t.Errorf("%d more exports ended", n)
			}
			e.mu.Lock()
			for p := range e.slots {
				if p.preempt != nil {
					p.preempt()
				}
			}
			e.mu.Unlock()
		})
	}
}
