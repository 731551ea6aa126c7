package httpapi_test

import (
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/securenotes/securenotes/app/internal/notes"
	"github.com/securenotes/securenotes/app/internal/storetest"
)

func TestIdempotencyKey(t *testing.T) {
	storetest.Each(t, func(t *testing.T, open storetest.Open) {
		s := newService(t, open, true)
		alice, bob := s.signIn(t, "alice"), s.signIn(t, "bob")
		create := func(token, key, content string) answer {
			return s.call(t, "POST", "/api/notes", token, `{"content":"`+content+`"}`, "Idempotency-Key", key)
		}
		first := create(alice, "k1", "once")
		first.want(t, "first", 201, "")
		again := create(alice, "k1", "once")
		again.want(t, "again", 201, "")
		if again.body["id"] != first.body["id"] || again.body["created_at"] != first.body["created_at"] ||
			again.header.Get("ETag") != first.header.Get("ETag") || again.header.Get("Location") != first.header.Get("Location") {
			t.Errorf("again: %v %v, want %v", again.body, again.header, first.body)
		}
		if first.header.Get("Idempotent-Replayed") != "" || again.header.Get("Idempotent-Replayed") != "true" {
			t.Errorf("Idempotent-Replayed: %q, then %q", first.header.Get("Idempotent-Replayed"), again.header.Get("Idempotent-Replayed"))
		}
		create(alice, "k1", "something else").want(t, "the key for another note", 422, "The Idempotency-Key was used for another note")
		if other := create(alice, "k2", "once"); other.status != 201 || other.body["id"] == first.body["id"] {
			t.Errorf("another key: %d %v", other.status, other.body)
		}
		if other := create(bob, "k1", "once"); other.status != 201 || other.body["id"] == first.body["id"] {
			t.Errorf("another user's: %d %v", other.status, other.body)
		}
		if list := s.call(t, "GET", "/api/notes", alice, "").body["notes"].([]any); len(list) != 2 {
			t.Errorf("%d notes, want 2", len(list))
		}

		id := first.body["id"].(string)
		s.call(t, "PUT", "/api/notes/"+id, alice, `{"content":"changed"}`).want(t, "change", 200, "")
		if a := create(alice, "k1", "once"); a.status != 201 || a.body["id"] != id {
			t.Errorf("after a change: %d %v", a.status, a.body)
		}
		s.call(t, "DELETE", "/api/notes/"+id, alice, "").want(t, "delete", 200, "")
		if a := create(alice, "k1", "once"); a.status != 201 || a.body["id"] != id {
			t.Errorf("after a deletion: %d %v", a.status, a.body)
		}
		s.call(t, "GET", "/api/notes/"+id, alice, "").want(t, "what was deleted", 404, "Note not found")

		for what, key := range map[string]string{"empty": "", "long": strings.Repeat("k", 256), "with a space": "a b", "not ASCII": "schlüssel"} {
			if a := create(alice, key, "x"); a.status != 400 || !strings.Contains(a.body["error"].(string), "Idempotency-Key") {
				t.Errorf("a key that is %s: %d %v", what, a.status, a.body)
			}
		}
		create(alice, "k3", " ").want(t, "a note that is refused", 400, "Invalid note content")
		create(alice, "k3", "now").want(t, "the same key after a refusal", 201, "")
	})
}

// TestIdempotencyKeyAtTheSameMoment: of parallel requests with one key, one creates the note.
func TestIdempotencyKeyAtTheSameMoment(t *testing.T) {
	storetest.Each(t, func(t *testing.T, open storetest.Open) {
		s := newService(t, open, true)
		token := s.signIn(t, "alice")
		ids := make(chan any, 10)
		var requests sync.WaitGroup
		for range cap(ids) {
			requests.Go(func() {
				a := s.call(t, "POST", "/api/notes", token, `{"content":"once"}`, "Idempotency-Key", "k")
				a.want(t, "create", 201, "")
				ids <- a.body["id"]
			})
		}
		requests.Wait()
		close(ids)
		distinct := map[any]bool{}
		for id := range ids {
			distinct[id] = true
		}
		list := s.call(t, "GET", "/api/notes", token, "").body["notes"].([]any)
		if len(distinct) != 1 || len(list) != 1 {
			t.Errorf("%d ids, %d notes, want 1 of each", len(distinct), len(list))
		}
	})
}

// TestIdempotencyKeyIsOfOneRequest: the key replays the first request and refuses every other one,
// even if the first note was changed or deleted. After it has expired it can be used again.
func TestIdempotencyKeyIsOfOneRequest(t *testing.T) {
	const (
		first    = `{"content":"once","title":"t","tags":["a","b"]}`
		changed  = `{"content":"changed"}`
		replayed = "replayed"
		refused  = "refused"
		created  = "created"
	)
	others := map[string]string{
		"content":      `{"content":"twice","title":"t","tags":["a","b"]}`,
		"no title":     `{"content":"once","tags":["a","b"]}`,
		"joined tags":  `{"content":"once","title":"t","tags":["ab"]}`,
		"fewer tags":   `{"content":"once","title":"t","tags":["a"]}`,
		"tags' order":  `{"content":"once","title":"t","tags":["b","a"]}`,
		"no tags":      `{"content":"once","title":"t"}`,
		"title as tag": `{"content":"once","title":"","tags":["t","a","b"]}`,
		"its later":    changed,
	}
	change := func(t *testing.T, s *service, token, path string) {
		s.call(t, "PUT", path, token, changed).want(t, "change", 200, "")
	}
	remove := func(t *testing.T, s *service, token, path string) {
		s.call(t, "DELETE", path, token, "").want(t, "delete", 200, "")
	}
	previousRelease := func(key *notes.IdempotencyKey) { key.Request, key.Pepper = "", "" }
	cases := map[string]struct {
		// stored changes the stored key of the first request.
		stored      func(*notes.IdempotencyKey)
		since       func(t *testing.T, s *service, token, path string)
		same, other string
	}{
		"unchanged":       {same: replayed, other: refused},
		"changed":         {since: change, same: replayed, other: refused},
		"deleted":         {since: remove, same: replayed, other: refused},
		"expired":         {stored: func(key *notes.IdempotencyKey) { key.Expires = time.Now() }, same: created, other: created},
		"pepper replaced": {stored: func(key *notes.IdempotencyKey) { key.Pepper = "before" }, same: created, other: created},
		"pepper replaced, deleted": {
			stored: func(key *notes.IdempotencyKey) { key.Pepper = "before" }, since: remove, same: created, other: created,
		},
		// A key that the previous release stored is compared as that release does.
		"previous release":          {stored: previousRelease, same: replayed, other: refused},
		"previous release, changed": {stored: previousRelease, since: change, same: replayed, other: replayed},
		"previous release, deleted": {stored: previousRelease, since: remove, same: replayed, other: replayed},
	}
	storetest.Each(t, func(t *testing.T, open storetest.Open) {
		s := newService(t, open, true)
		user := 0
		for name, tc := range cases {
			t.Run(name, func(t *testing.T) {
				user++
				token := s.signIn(t, fmt.Sprint("user", user))
				send := func(key, body string) (answer, string) {
					a := s.call(t, "POST", "/api/notes", token, body, "Idempotency-Key", key)
					switch {
					case a.status == 422:
						return a, refused
					case a.status == 201 && a.header.Get("Idempotent-Replayed") == "true":
						return a, replayed
					}
					a.want(t, "create", 201, "")
					return a, created
				}
				begin := func(key string) answer {
					s.pages.idempotencyKey = tc.stored
					a, outcome := send(key, first)
					s.pages.idempotencyKey = nil
					if outcome != created {
						t.Fatalf("the first request was %s", outcome)
					}
					if tc.since != nil {
						tc.since(t, s, token, a.header.Get("Location"))
					}
					return a
				}
				want := begin("same")
				got, outcome := send("same", first)
				switch {
				case outcome != tc.same:
					t.Errorf("the same request was %s, want %s", outcome, tc.same)
				case outcome == created:
					// The key now belongs to the new note.
					if again, outcome := send("same", first); outcome != replayed || again.body["id"] != got.body["id"] {
						t.Errorf("the same request once more was %s: %v, want %v", outcome, again.body, got.body)
					}
				case got.body["id"] != want.body["id"] || got.body["created_at"] != want.body["created_at"]:
					t.Errorf("the same request: %v, want %v", got.body, want.body)
				}
				for what, other := range others {
					key := strings.ReplaceAll(what, " ", "-")
					begin(key)
					if _, outcome := send(key, other); outcome != tc.other {
						t.Errorf("another %s was %s, want %s", what, outcome, tc.other)
					}
				}
			})
		}
	})
}
