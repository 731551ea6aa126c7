package httpapi_test

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	gocmp "github.com/google/go-cmp/cmp"

	"github.com/securenotes/securenotes/app/internal/httpapi"
	"github.com/securenotes/securenotes/app/internal/storetest"
)

func exportRequest(t testing.TB, server *httptest.Server, token string) *http.Request {
	t.Helper()
	request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, server.URL+"/api/account/export", nil)
	if err != nil {
		t.Fatal(err)
	}
	request.Header.Set("Authorization", "Bearer "+token)
	return request
}

// exported is the beginning of the answer to an export.
type exported struct {
	status, major int
	header        http.Header
}

// export begins an export. Its lines are read as they arrive.
func (s *service) export(t testing.TB, server *httptest.Server, token string) (exported, *bufio.Scanner) {
	t.Helper()
	response, err := server.Client().Do(exportRequest(t, server, token))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = response.Body.Close() })
	lines := bufio.NewScanner(response.Body)
	lines.Buffer(nil, 4<<20)
	return exported{response.StatusCode, response.ProtoMajor, response.Header}, lines
}

// fill creates notes, and returns the expected lines of an export.
func (s *service) fill(t testing.TB, token string, n int) map[string]map[string]any {
	t.Helper()
	want := map[string]map[string]any{}
	for i := range n {
		note := map[string]any{"content": fmt.Sprintf("note %d", i), "title": fmt.Sprintf("title %d", i), "tags": []any{"all", fmt.Sprint(i)}}
		raw, err := json.Marshal(note)
		if err != nil {
			t.Fatal(err)
		}
		created := s.call(t, "POST", "/api/notes", token, string(raw))
		created.want(t, "create", 201, "")
		note["type"], note["id"] = "note", created.body["id"]
		note["created_at"], note["updated_at"] = created.body["created_at"], created.body["created_at"]
		want[created.body["id"].(string)] = note
	}
	return want
}

// next reads a line.
func next(t testing.TB, lines *bufio.Scanner) map[string]any {
	t.Helper()
	if !lines.Scan() {
		t.Fatalf("no more lines: %v", lines.Err())
	}
	var line map[string]any
	if err := json.Unmarshal(lines.Bytes(), &line); err != nil {
		t.Fatalf("%v: %s", err, lines.Text())
	}
	return line
}

// TestExport: the export has every note with all its fields. The notes of a page arrive before the
// next page can be read.
func TestExport(t *testing.T) {
	storetest.Each(t, func(t *testing.T, open storetest.Open) {
		s := newService(t, open, true)
		token := s.signIn(t, "alice")
		const notes, before = 45, 40 // more than two pages, and the notes before the last page
		want := s.fill(t, token, notes)
		lastPage := make(chan struct{})
		read := 0
		s.pages.wait = func(ctx context.Context, _ string) error {
			if read++; read != 3 {
				return nil
			}
			select {
			case <-lastPage:
				return nil
			case <-ctx.Done():
				return ctx.Err()
			}
		}
		answer, lines := s.export(t, s.Server, token)
		if kind := answer.header.Get("Content-Type"); answer.status != http.StatusOK || kind != "application/x-ndjson" {
			t.Fatalf("status %d, content type %q", answer.status, kind)
		}
		account := next(t, lines)
		if account["type"] != "account" || account["username"] != "alice" || account["id"] == nil || account["created_at"] == nil {
			t.Errorf("the first line: %v", account)
		}
		got := map[string]map[string]any{}
		for i := range notes {
			if i == before {
				close(lastPage)
			}
			line := next(t, lines)
			got[line["id"].(string)] = line
		}
		if diff := gocmp.Diff(want, got); diff != "" {
			t.Error(diff)
		}
		if diff := gocmp.Diff(map[string]any{"type": "end", "notes": float64(notes)}, next(t, lines)); diff != "" {
			t.Error(diff)
		}
		if lines.Scan() {
			t.Errorf("a line after the end: %s", lines.Text())
		}
	})
}

// TestExportOutlastsTheTimeouts: the server's timeouts do not limit an export.
func TestExportOutlastsTheTimeouts(t *testing.T) {
	const timeout = 500 * time.Millisecond
	for name, http2 := range map[string]bool{"HTTP/1.1": false, "HTTP/2": true} {
		t.Run(name, func(t *testing.T) {
			storetest.Each(t, func(t *testing.T, open storetest.Open) {
				s := newService(t, open, true)
				token := s.signIn(t, "alice")
				s.fill(t, token, 21) // two pages
				s.pages.wait = func(ctx context.Context, _ string) error {
					select {
					case <-time.After(2 * timeout):
						return nil
					case <-ctx.Done():
						return ctx.Err()
					}
				}
				server := httptest.NewUnstartedServer(s.Config.Handler)
				server.Config.ReadHeaderTimeout, server.Config.ReadTimeout, server.Config.WriteTimeout = timeout, timeout, timeout
				server.EnableHTTP2 = http2
				server.StartTLS()
				checked(t, server)
				t.Cleanup(server.Close)
				answer, lines := s.export(t, server, token)
				if answer.status != http.StatusOK || answer.major != map[bool]int{false: 1, true: 2}[http2] {
					t.Fatalf("status %d by HTTP/%d", answer.status, answer.major)
				}
				for range 22 {
					next(t, lines)
				}
				if end := next(t, lines); end["type"] != "end" {
					t.Errorf("the last line: %v", end)
				}
			})
		})
	}
}

// TestExportFromASilentDatabase: the client gets an error in time, or, if lines were sent already,
// an export without its end.
func TestExportFromASilentDatabase(t *testing.T) {
	for name, tc := range map[string]struct {
		// silent is the page, from 1, for which the database does not answer.
		silent int
		status int
		// lines is how many lines arrive anyway.
		lines int
	}{
		"first page":  {silent: 1, status: http.StatusServiceUnavailable},
		"second page": {silent: 2, status: http.StatusOK, lines: 21},
	} {
		t.Run(name, func(t *testing.T) {
			storetest.Each(t, func(t *testing.T, open storetest.Open) {
				s := newService(t, open, true, func(s *httpapi.Service) { s.RequestTimeout = time.Second })
				token := s.signIn(t, "alice")
				s.fill(t, token, 21)
				read := 0
				s.pages.wait = func(ctx context.Context, _ string) error {
					if read++; read != tc.silent {
						return nil
					}
					<-ctx.Done()
					return ctx.Err()
				}
				answer, lines := s.export(t, s.Server, token)
				if answer.status != tc.status {
					t.Fatalf("status %d, want %d", answer.status, tc.status)
				}
				if tc.status == http.StatusServiceUnavailable {
					if answer.header.Get("Retry-After") == "" {
						t.Error("503 without Retry-After")
					}
					return
				}
				for range tc.lines {
					if line := next(t, lines); line["type"] == "end" {
						t.Errorf("the export looks complete: %v", line)
					}
				}
				if lines.Scan() || !strings.Contains(s.log.String(), "export cut off") {
					t.Errorf("after the cut: %q; the log: %s", lines.Text(), s.log)
				}
			})
		})
	}
}

// TestExportOfLargeNotes: the bytes of a page are bounded, too.
func TestExportOfLargeNotes(t *testing.T) {
	storetest.Each(t, func(t *testing.T, open storetest.Open) {
		s := newService(t, open, true)
		token := s.signIn(t, "alice")
		const notes = 7 // 2.8 MB
		for range notes {
			s.call(t, "POST", "/api/notes", token, largestNote).want(t, "create", 201, "")
		}
		pages := 0
		s.pages.wait = func(context.Context, string) error {
			pages++
			return nil
		}
		_, lines := s.export(t, s.Server, token)
		for range notes + 1 {
			next(t, lines)
		}
		if end := next(t, lines); end["type"] != "end" || pages != 4 {
			t.Errorf("read in %d pages, want three notes in each, and an empty one; the last line: %v", pages, end)
		}
	})
}

// TestExportsAreBounded: exports are bounded in total and for one user, so that other users keep
// some of the slots.
func TestExportsAreBounded(t *testing.T) {
	storetest.Each(t, func(t *testing.T, open storetest.Open) {
		s := newService(t, open, true)
		const all, ofUser = 4, 2
		reading, release := make(chan struct{}, all), make(chan struct{})
		s.pages.wait = func(ctx context.Context, _ string) error {
			reading <- struct{}{}
			select {
			case <-release:
				return nil
			case <-ctx.Done():
				return ctx.Err()
			}
		}
		var exports sync.WaitGroup
		begin := func(token string) {
			request := exportRequest(t, s.Server, token)
			exports.Go(func() {
				response, err := s.Client().Do(request)
				if err != nil {
					t.Error(err)
					return
				}
				defer response.Body.Close()
				if _, err := io.Copy(io.Discard, response.Body); err != nil || response.StatusCode != http.StatusOK {
					t.Errorf("status %d, %v", response.StatusCode, err)
				}
			})
			<-reading
		}
		refused := func(what, token string, status int) {
			t.Helper()
			a := s.call(t, "GET", "/api/account/export", token, "")
			if a.want(t, what, status, ""); a.header.Get("Retry-After") == "" {
				t.Errorf("%s: without Retry-After", what)
			}
		}
		last := ""
		for i := range all / ofUser {
			last = s.signIn(t, fmt.Sprintf("user-%d", i))
			for range ofUser {
				begin(last)
			}
			refused("one more of a user", last, http.StatusTooManyRequests)
		}
		other := s.signIn(t, "other")
		refused("one more of all", other, http.StatusServiceUnavailable)
		s.call(t, "GET", "/api/notes", other, "").want(t, "another request", 200, "")
		close(release)
		exports.Wait()
		for _, token := range []string{last, other} {
			if answer, _ := s.export(t, s.Server, token); answer.status != http.StatusOK {
				t.Errorf("afterwards: status %d", answer.status)
			}
		}
	})
}
