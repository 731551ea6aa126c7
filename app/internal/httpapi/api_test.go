package httpapi_test

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	gocmp "github.com/google/go-cmp/cmp"
	"github.com/google/uuid"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/securenotes/securenotes/app/config"
	"github.com/securenotes/securenotes/app/internal/accounts"
	"github.com/securenotes/securenotes/app/internal/audit"
	"github.com/securenotes/securenotes/app/internal/envelope"
	"github.com/securenotes/securenotes/app/internal/httpapi"
	"github.com/securenotes/securenotes/app/internal/notes"
	"github.com/securenotes/securenotes/app/internal/pepper"
	"github.com/securenotes/securenotes/app/internal/ratelimit"
	"github.com/securenotes/securenotes/app/internal/sessions"
	"github.com/securenotes/securenotes/app/internal/store"
	"github.com/securenotes/securenotes/app/internal/storetest"
)

// service is the API with a real database. Tests search its log.
type service struct {
	*httptest.Server
	log      *bytes.Buffer
	trail    *bytes.Buffer
	db       store.Store
	provider *outage
	limits   *counters
	pages    *pages
	pepper   *config.Pepper
	// usernames is the key for digests of usernames.
	usernames *pepper.Key
	// behind is how far the accounts' clock is behind the other clocks.
	behind time.Duration
}

// outage is a key provider that can be switched off, like a sealed Vault.
type outage struct {
	envelope.KeyProvider
	away bool
	// cause is the error of the outage; nil means envelope.ErrUnavailable.
	cause error
	// panics makes an unwrap panic with a value that must not be logged.
	panics bool
	// slow, if it is not nil, is waited for before an unwrap is answered.
	slow chan struct{}
}

func (o *outage) Wrap(ctx context.Context, items []envelope.RawItem) ([]envelope.WrapResult, error) {
	if o.away {
		return nil, cmp.Or(o.cause, envelope.ErrUnavailable)
	}
	return o.KeyProvider.Wrap(ctx, items)
}

func (o *outage) Unwrap(ctx context.Context, items []envelope.WrappedItem) ([]envelope.UnwrapResult, error) {
	if o.away {
		return nil, cmp.Or(o.cause, envelope.ErrUnavailable)
	}
	if o.panics {
		panic("a value with a secret")
	}
	if o.slow != nil {
		<-o.slow
	}
	return o.KeyProvider.Unwrap(ctx, items)
}

// counters are limits that can fail to reset codes, and can be slow.
type counters struct {
	accounts.LoginLimits
	stuck bool
	// taking and registering, if they are not nil, are called before a login or a registration that
	// has a slot is counted.
	taking, registering func()
	// usernames are the digests by which logins were counted.
	mu        sync.Mutex
	usernames map[string]bool
}

func (c *counters) TakeLogin(ctx context.Context, address, username string) (func(context.Context) error, error) {
	if c.taking != nil {
		c.taking()
	}
	c.mu.Lock()
	c.usernames[username] = true
	c.mu.Unlock()
	return c.LoginLimits.TakeLogin(ctx, address, username)
}

func (c *counters) TakeRegistration(ctx context.Context, address string) (func(context.Context) error, error) {
	if c.registering != nil {
		c.registering()
	}
	return c.LoginLimits.TakeRegistration(ctx, address)
}

func (c *counters) CodeAccepted(ctx context.Context, address, user string) error {
	if c.stuck {
		return errors.New("the counter is stuck")
	}
	return c.LoginLimits.CodeAccepted(ctx, address, user)
}

// pages is a store that can wait before it reads a page of an export, and can change idempotency
// keys.
type pages struct {
	store.Store
	// idempotencyKey, if it is not nil, changes an idempotency key before it is stored.
	idempotencyKey func(*notes.IdempotencyKey)
	// wait, if it is not nil, is called with the id of the last note of the previous page.
	wait func(ctx context.Context, before string) error
	// updating, if it is not nil, is called before a note is replaced.
	updating func()
}

func (p *pages) UpdateNote(ctx context.Context, id sessions.Identity, now time.Time, n notes.Sealed) (bool, error) {
	if p.updating != nil {
		p.updating()
	}
	return p.Store.UpdateNote(ctx, id, now, n)
}

func (p *pages) CreateNoteIdempotent(ctx context.Context, id sessions.Identity, now time.Time, n notes.Sealed, key notes.IdempotencyKey) (notes.First, error) {
	if p.idempotencyKey != nil {
		p.idempotencyKey(&key)
	}
	return p.Store.CreateNoteIdempotent(ctx, id, now, n, key)
}

func (p *pages) SealedNotes(ctx context.Context, id sessions.Identity, now time.Time, before string, limit int) ([]notes.Sealed, []envelope.StoredKey, error) {
	if p.wait != nil {
		if err := p.wait(ctx, before); err != nil {
			return nil, nil, err
		}
	}
	return p.Store.SealedNotes(ctx, id, now, before, limit)
}

// noSigner signs nothing: these tests check only the lines.
type noSigner struct{}

func (noSigner) Sign(context.Context, []byte) (string, error) { return "", errors.New("no signer") }

// withoutProxies trusts no proxy.
func withoutProxies(s *httpapi.Service) { s.TrustedProxies = nil }

// ample are quotas that no test reaches by accident.
var ample = config.Quotas{Accounts: 100_000, Notes: 100_000, Bytes: 512 << 20}

func newService(t testing.TB, open storetest.Open, registrationOpen bool, options ...func(*httpapi.Service)) *service {
	t.Helper()
	return newServiceWithin(t, open, ample, registrationOpen, options...)
}

func newServiceWithin(t testing.TB, open storetest.Open, quotas config.Quotas, registrationOpen bool, options ...func(*httpapi.Service)) *service {
	t.Helper()
	local, err := envelope.OpenLocal(filepath.Join(t.TempDir(), "master.key"))
	if err != nil {
		t.Fatal(err)
	}
	s := &service{log: &bytes.Buffer{}, trail: &bytes.Buffer{}, db: open(t), provider: &outage{KeyProvider: local}, pepper: config.NewPepper()}
	s.pages = &pages{Store: s.db}
	s.limits = &counters{usernames: map[string]bool{}, LoginLimits: ratelimit.NewLogins(s.db.Limits(), ratelimit.Rates{FailedLogins: 5, Registrations: 20})}
	sessionKeys, err := config.NewSessionKeys()
	if err != nil {
		t.Fatal(err)
	}
	tokens, err := sessions.NewCodec("d1", "", sessionKeys)
	if err != nil {
		t.Fatal(err)
	}
	hasher, err := accounts.NewHasher("d1", 4, s.pepper)
	if err != nil {
		t.Fatal(err)
	}
	if s.usernames, err = pepper.NewKey("d1", s.pepper, pepper.Usernames); err != nil {
		t.Fatal(err)
	}
	requests, err := pepper.NewKey("d1", s.pepper, pepper.Requests)
	if err != nil {
		t.Fatal(err)
	}
	cache := envelope.NewCache(envelope.NewKeyring("d1", s.provider), s.db)
	trail, err := audit.New(s.trail, "d1", noSigner{}, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	parts := httpapi.Service{
		Audit: trail, RequestTimeout: 20 * time.Second,
		Requests: ratelimit.NewRequests(10_000), TrustedProxies: []string{"127.0.0.1"}, AllowedOrigins: []string{"https://app.example.com"},
		Accounts: accounts.NewService(httpapi.RecordAccounts(s.db), cache, hasher, s.usernames, s.limits, accounts.Options{
			RegistrationOpen: registrationOpen, MinPassword: 8, TokenTTL: time.Hour, Log: slog.New(slog.NewTextHandler(s.log, &slog.HandlerOptions{Level: slog.LevelDebug})),
			Now: s.now, MaxAccounts: quotas.Accounts,
		}),
		Notes:  notes.NewService(httpapi.RecordNotes(s.pages), cache, requests, notes.Usage{Notes: quotas.Notes, Bytes: quotas.Bytes}),
		Tokens: tokens, Log: slog.New(slog.NewTextHandler(s.log, &slog.HandlerOptions{Level: slog.LevelDebug})), Metrics: prometheus.NewRegistry(),
	}
	for _, option := range options {
		option(&parts)
	}
	handler, err := httpapi.NewHandler(parts)
	if err != nil {
		t.Fatal(err)
	}
	s.Server = httptest.NewServer(handler)
	checked(t, s.Server)
	t.Cleanup(s.Close)
	return s
}

func (s *service) now() time.Time { return time.Now().Add(-s.behind) }

// answer is a response whose body has been read.
type answer struct {
	status int
	header http.Header
	body   map[string]any
}

func (s *service) call(t testing.TB, method, path, token, body string, header ...string) answer {
	t.Helper()
	request, err := http.NewRequest(method, s.URL+path, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	if token != "" {
		request.Header.Set("Authorization", "Bearer "+token)
	}
	for i := 0; i+1 < len(header); i += 2 {
		request.Header.Add(header[i], header[i+1])
	}
	response, err := s.Client().Do(request)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	raw, err := io.ReadAll(response.Body)
	if err != nil {
		t.Fatal(err)
	}
	a := answer{status: response.StatusCode, header: response.Header, body: map[string]any{}}
	if err := json.Unmarshal(raw, &a.body); err != nil {
		t.Fatalf("%s %s: status %d, the body is no JSON object: %q", method, path, a.status, raw)
	}
	if a.status >= 400 && (a.body["error"] == nil || a.body["request_id"] != a.header.Get("X-Request-Id")) {
		t.Errorf("%s %s: error body %v", method, path, a.body)
	}
	return a
}

// hasSecurityHeaders checks the headers that every answer has, including errors and pages.
func hasSecurityHeaders(t testing.TB, what string, header http.Header) {
	t.Helper()
	for name, want := range map[string]string{
		"Strict-Transport-Security": "max-age=31536000; includeSubDomains; preload", "X-Frame-Options": "DENY",
		"X-Content-Type-Options": "nosniff", "X-XSS-Protection": "1; mode=block",
		"Cache-Control":           "no-store",
		"Content-Security-Policy": "default-src 'self'; script-src 'self'; object-src 'none'; base-uri 'none'; frame-ancestors 'none'; form-action 'none'",
	} {
		if got := header.Get(name); got != want {
			t.Errorf("%s: header %s is %q, want %q", what, name, got, want)
		}
	}
}

func (s *service) signIn(t testing.TB, username string) string {
	t.Helper()
	credentials := `{"username":"` + username + `","password":"correct horse battery"}`
	if a := s.call(t, "POST", "/api/auth/register", "", credentials); a.status != 201 {
		t.Fatalf("register: %+v", a)
	}
	a := s.call(t, "POST", "/api/auth/login", "", credentials)
	if a.status != 200 {
		t.Fatalf("login: %+v", a)
	}
	return a.body["token"].(string)
}

// want checks the status and the error message.
func (a answer) want(t testing.TB, what string, status int, message string) {
	t.Helper()
	if a.status != status || message != "" && a.body["error"] != message {
		t.Errorf("%s: %d %v, want %d %q", what, a.status, a.body, status, message)
	}
}

func TestAccounts(t *testing.T) {
	storetest.Each(t, func(t *testing.T, open storetest.Open) {
		s := newService(t, open, true)
		token := s.signIn(t, "alice")
		for what, tc := range map[string]struct {
			path, body string
			status     int
			message    string
		}{
			"short username":   {path: "register", body: `{"username":"al","password":"longenough"}`, status: 400, message: "Username must be at least 3 characters"},
			"short password":   {path: "register", body: `{"username":"bob","password":"short"}`, status: 400, message: "Password must be at least 8 characters"},
			"spaces and 64":    {path: "register", body: `{"username":" ` + strings.Repeat("x", 64) + `","password":"longenough"}`, status: 400, message: "Username must be at most 64 characters"},
			"long password":    {path: "register", body: `{"username":"bob","password":"` + strings.Repeat("x", 257) + `"}`, status: 400, message: "Password must be at most 256 characters"},
			"name taken":       {path: "register", body: `{"username":"Alice","password":"longenough"}`, status: 409, message: "Username already exists"},
			"no body":          {path: "register", body: ``, status: 400, message: "The request body is not a valid JSON object"},
			"no object":        {path: "register", body: `[]`, status: 400},
			"wrong type":       {path: "register", body: `{"username":7,"password":"longenough"}`, status: 400, message: "Field username has the wrong type"},
			"unknown field":    {path: "register", body: `{"username":"bob","password":"longenough","admin":true}`, status: 400},
			"trailing data":    {path: "register", body: `{"username":"bob","password":"longenough"} {}`, status: 400},
			"wrong password":   {path: "login", body: `{"username":"alice","password":"wrong horse battery"}`, status: 401, message: "Invalid credentials"},
			"unknown user":     {path: "login", body: `{"username":"nobody","password":"correct horse battery"}`, status: 401, message: "Invalid credentials"},
			"impossible user":  {path: "login", body: `{"username":"a b","password":"correct horse battery"}`, status: 401, message: "Invalid credentials"},
			"no password":      {path: "login", body: `{"username":"alice"}`, status: 400, message: "Missing credentials"},
			"body over bounds": {path: "login", body: `{"username":"` + strings.Repeat("x", 9_000) + `"}`, status: 413, message: "The request body is too large"},
		} {
			t.Run(what, func(t *testing.T) {
				s.call(t, "POST", "/api/auth/"+tc.path, "", tc.body).want(t, what, tc.status, tc.message)
			})
		}
		s.call(t, "GET", "/api/notes", token, "").want(t, "signed in", 200, "")
		s.call(t, "POST", "/api/auth/logout", token, "").want(t, "logout", 200, "")
		s.call(t, "POST", "/api/auth/logout", token, "").want(t, "logout again", 401, "Invalid token")
		s.call(t, "GET", "/api/notes", token, "").want(t, "after logout", 401, "Invalid token")
		s.call(t, "POST", "/api/notes", token, `{"content":"x"}`).want(t, "after logout", 401, "Invalid token")
		s.call(t, "GET", "/api/notes", "", "").want(t, "no token", 401, "Missing token")
		s.call(t, "GET", "/api/notes", "a.b.c.d.e", "").want(t, "a foreign token", 401, "Invalid token")
		s.call(t, "GET", "/api/nothing", "", "").want(t, "no route", 404, "Not found")
		s.call(t, "PATCH", "/api/notes", "", "").want(t, "no method", 405, "Method not allowed")
	})
}

func TestClosedRegistration(t *testing.T) {
	storetest.Each(t, func(t *testing.T, open storetest.Open) {
		s := newService(t, open, false)
		s.call(t, "POST", "/api/auth/register", "", `{"username":"alice","password":"correct horse battery"}`).
			want(t, "register", 403, "Registration is closed")
	})
}

func TestNotes(t *testing.T) {
	storetest.Each(t, func(t *testing.T, open storetest.Open) {
		s := newService(t, open, true)
		alice, mallory := s.signIn(t, "alice"), s.signIn(t, "mallory")
		// The text is kept unchanged, including its spaces.
		const content = "  My secret \u0000note, 世界\n"
		body, err := json.Marshal(map[string]any{"content": content, "title": "A title", "tags": []string{"x", "y"}})
		if err != nil {
			t.Fatal(err)
		}
		created := s.call(t, "POST", "/api/notes", alice, string(body))
		created.want(t, "create", 201, "")
		id := created.body["id"].(string)
		read := s.call(t, "GET", "/api/notes/"+id, alice, "")
		want := map[string]any{
			"id": id, "content": content, "title": "A title", "tags": []any{"x", "y"},
			"created_at": created.body["created_at"], "updated_at": created.body["created_at"],
		}
		if diff := gocmp.Diff(want, read.body); read.status != 200 || diff != "" {
			t.Errorf("read: %d\n%s", read.status, diff)
		}
		for _, method := range []string{"GET", "DELETE"} {
			s.call(t, method, "/api/notes/"+id, mallory, "").want(t, method+" of another user", 404, "Note not found")
		}
		s.call(t, "PUT", "/api/notes/"+id, mallory, `{"content":"mine now"}`).want(t, "PUT of another user", 404, "Note not found")
		s.call(t, "GET", "/api/notes/"+strings.ToUpper(id), alice, "").want(t, "another spelling of the id", 404, "Note not found")
		s.call(t, "GET", "/api/notes/7", alice, "").want(t, "no id", 404, "Note not found")

		s.call(t, "PUT", "/api/notes/"+id, alice, `{"content":"second"}`, "If-Match", `"7"`).want(t, "stale PUT", 412, "")
		updated := s.call(t, "PUT", "/api/notes/"+id, alice, `{"content":"second"}`, "If-Match", read.header.Get("ETag"))
		updated.want(t, "PUT", 200, "")
		if again := s.call(t, "GET", "/api/notes/"+id, alice, ""); again.body["content"] != "second" || again.body["title"] != nil {
			t.Errorf("after PUT: %v", again.body)
		}
		s.call(t, "DELETE", "/api/notes/"+id, alice, "", "If-Match", read.header.Get("ETag")).want(t, "stale DELETE", 412, "")
		s.call(t, "DELETE", "/api/notes/"+id, alice, "").want(t, "DELETE", 200, "")
		s.call(t, "GET", "/api/notes/"+id, alice, "").want(t, "after DELETE", 404, "Note not found")
	})
}

// TestTextIsKeptAsItIs: text is kept byte for byte, whatever format it looks like.
func TestTextIsKeptAsItIs(t *testing.T) {
	storetest.Each(t, func(t *testing.T, open storetest.Open) {
		s := newService(t, open, true)
		token := s.signIn(t, "alice")
		for what, text := range map[string]string{
			"line ends":          "a\r\nb\rc\nd\u2028e\u2029f\u0085g",
			"decomposed":         "e\u0301 and \u00e9",
			"byte order mark":    "\ufeffa\ufeff",
			"NUL and controls":   "\x00a\x01\x1b[31m\x7f",
			"spaces":             "  a\t\u00a0\u3000 ",
			"not characters":     "a\ufffe\U0010ffff\ufffd",
			"joined":             "👩\u200d👩\u200d👧 \u202ea",
			"markup and escapes": `</script><!-- &amp; \u0041 %00 ' " \\ ${x} '';--`,
		} {
			raw, err := json.Marshal(map[string]any{"content": text, "title": text, "tags": []string{text, text}})
			if err != nil {
				t.Fatal(err)
			}
			created := s.call(t, "POST", "/api/notes", token, string(raw))
			created.want(t, what, 201, "")
			id := created.body["id"].(string)
			if parsed, err := uuid.Parse(id); err != nil || parsed.Version() != 7 || parsed.Variant() != uuid.RFC4122 {
				t.Errorf("%s: the id %s is no UUIDv7: %v", what, id, err)
			}
			read := s.call(t, "GET", "/api/notes/"+id, token, "").body
			got := []any{read["content"], read["title"], read["tags"]}
			if diff := gocmp.Diff([]any{text, text, []any{text, text}}, got); diff != "" {
				t.Errorf("%s:\n%s", what, diff)
			}
		}
	})
}

// TestLargeBodyIsRefused: a large body is refused with and without a Content-Length.
func TestLargeBodyIsRefused(t *testing.T) {
	storetest.Each(t, func(t *testing.T, open storetest.Open) {
		s := newService(t, open, true)
		token := s.signIn(t, "alice")
		id := s.call(t, "POST", "/api/notes", token, `{"content":"x"}`).body["id"].(string)
		note := `{"content":"x"}`
		for size, status := range map[int]int{1_400_000: 201, 1_400_001: 413} {
			body := strings.Repeat(" ", size-len(note)) + note
			for how, reader := range map[string]io.Reader{"sized": strings.NewReader(body), "chunked": io.MultiReader(strings.NewReader(body))} {
				request, err := http.NewRequest(http.MethodPost, s.URL+"/api/notes", reader)
				if err != nil {
					t.Fatal(err)
				}
				if sized := request.ContentLength > 0; sized != (how == "sized") {
					t.Fatalf("%s: Content-Length %d", how, request.ContentLength)
				}
				request.Header.Set("Authorization", "Bearer "+token)
				response, err := s.Client().Do(request)
				if err != nil {
					t.Fatal(err)
				}
				response.Body.Close()
				if response.StatusCode != status {
					t.Errorf("%s, %d bytes: %d, want %d", how, size, response.StatusCode, status)
				}
			}
		}
		large := `{"content":"` + strings.Repeat("x", 1_400_000) + `"}`
		s.call(t, "POST", "/api/notes", token, large).want(t, "POST", 413, "The request body is too large")
		s.call(t, "PUT", "/api/notes/"+id, token, large).want(t, "PUT", 413, "The request body is too large")
	})
}

// TestIfMatch: tags are opaque, and several may be given, also in several lines. Any other value
// matches nothing.
func TestIfMatch(t *testing.T) {
	storetest.Each(t, func(t *testing.T, open storetest.Open) {
		s := newService(t, open, true)
		alice, mallory := s.signIn(t, "alice"), s.signIn(t, "mallory")
		const none = "/api/notes/0197a1d2-7b1f-7c3e-8a44-1b2c3d4e5f60"
		for name, tc := range map[string]struct {
			lines  []string
			status int
		}{
			"no header":             {status: 200},
			"any":                   {lines: []string{"*"}, status: 200},
			"the revision":          {lines: []string{`"2"`}, status: 200},
			"the one before":        {lines: []string{`"1"`}, status: 412},
			"a list":                {lines: []string{`"1", "2"`}, status: 200},
			"a list without it":     {lines: []string{`"1", "3"`}, status: 412},
			"several lines":         {lines: []string{`"1"`, `"2"`}, status: 200},
			"a foreign tag, and it": {lines: []string{`"abc,def"`, `"2"`}, status: 200},
			"with a sign":           {lines: []string{`"+2"`}, status: 412},
			"with a zero":           {lines: []string{`"02"`}, status: 412},
			"weak":                  {lines: []string{`W/"2"`}, status: 412},
			"without quotes":        {lines: []string{`2`}, status: 412},
			"any, in a list":        {lines: []string{`*`, `"2"`}, status: 412},
			"no tag":                {lines: []string{``}, status: 412},
			"a damaged list":        {lines: []string{`"2", 3`}, status: 412},
		} {
			t.Run(name, func(t *testing.T) {
				path := "/api/notes/" + s.call(t, "POST", "/api/notes", alice, `{"content":"1"}`).body["id"].(string)
				s.call(t, "PUT", path, alice, `{"content":"2"}`).want(t, "the second revision", 200, "")
				var header []string
				for _, line := range tc.lines {
					header = append(header, "If-Match", line)
				}
				s.call(t, "PUT", path, mallory, `{"content":"3"}`, header...).want(t, "another user", 404, "Note not found")
				s.call(t, "DELETE", none, alice, "", header...).want(t, "no note", 404, "Note not found")
				s.call(t, "PUT", path, "a.b.c.d.e", `{"content":"3"}`, header...).want(t, "nobody", 401, "Invalid token")
				written := s.call(t, "PUT", path, alice, `{"content":"3"}`, header...)
				written.want(t, "PUT", tc.status, "")
				if tag := written.header.Get("ETag"); tc.status == 200 && tag != `"3"` {
					t.Errorf("ETag %s after the third write", tag)
				}
				if tc.status == 200 && tc.lines != nil && tc.lines[0] != "*" {
					s.call(t, "DELETE", path, alice, "", header...).want(t, "DELETE, stale by now", 412, "")
					header = []string{"If-Match", `"3"`}
				}
				s.call(t, "DELETE", path, alice, "", header...).want(t, "DELETE", tc.status, "")
			})
		}
	})
}

// TestIfMatchAfterARestore checks that tags contain the epoch of the database: a tag from before a
// restore matches nothing, even if its number is that of the note's revision now.
func TestIfMatchAfterARestore(t *testing.T) {
	const epoch, earlier = "abcdefghijklmnop", "qrstuvwxyz234567"
	storetest.Each(t, func(t *testing.T, open storetest.Open) {
		s := newService(t, open, true, func(s *httpapi.Service) { s.Epoch = epoch })
		alice, mallory := s.signIn(t, "alice"), s.signIn(t, "mallory")
		const none = "/api/notes/0197a1d2-7b1f-7c3e-8a44-1b2c3d4e5f60"
		for name, tc := range map[string]struct {
			line   string
			status int
		}{
			"the revision":                     {line: `"2-` + epoch + `"`, status: 200},
			"any":                              {line: `*`, status: 200},
			"before the first restore":         {line: `"2"`, status: 412},
			"before another restore":           {line: `"2-` + earlier + `"`, status: 412},
			"an earlier revision":              {line: `"1-` + epoch + `"`, status: 412},
			"several of an earlier epoch":      {line: `"2", "2-` + earlier + `"`, status: 412},
			"an earlier one, and the revision": {line: `"2", "2-` + epoch + `"`, status: 200},
			"weak":                             {line: `W/"2-` + epoch + `"`, status: 412},
			"weak, and one from before":        {line: `W/"2-` + epoch + `", "2"`, status: 412},
			"the epoch without its revision":   {line: `"` + epoch + `"`, status: 412},
			"the epoch and the number swapped": {line: `"` + epoch + `-2"`, status: 412},
		} {
			t.Run(name, func(t *testing.T) {
				created := s.call(t, "POST", "/api/notes", alice, `{"content":"1"}`)
				path := "/api/notes/" + created.body["id"].(string)
				updated := s.call(t, "PUT", path, alice, `{"content":"2"}`)
				read := s.call(t, "GET", path, alice, "")
				head, err := http.NewRequest(http.MethodHead, s.URL+path, nil)
				if err != nil {
					t.Fatal(err)
				}
				head.Header.Set("Authorization", "Bearer "+alice)
				headed, err := s.Client().Do(head)
				if err != nil {
					t.Fatal(err)
				}
				headed.Body.Close()
				got := []string{created.header.Get("ETag"), updated.header.Get("ETag"), read.header.Get("ETag"), headed.Header.Get("ETag")}
				want := []string{`"1-` + epoch + `"`, `"2-` + epoch + `"`, `"2-` + epoch + `"`, `"2-` + epoch + `"`}
				if !slices.Equal(got, want) {
					t.Errorf("ETags %v, want %v", got, want)
				}
				s.call(t, "PUT", path, mallory, `{"content":"3"}`, "If-Match", tc.line).want(t, "another user", 404, "Note not found")
				s.call(t, "DELETE", none, alice, "", "If-Match", tc.line).want(t, "no note", 404, "Note not found")
				s.call(t, "PUT", path, alice, `{"content":"3"}`, "If-Match", tc.line).want(t, "PUT", tc.status, "")
				after, line := s.call(t, "GET", path, alice, ""), tc.line
				if want := map[int]any{200: "3", 412: "2"}[tc.status]; after.body["content"] != want {
					t.Errorf("the note is %v, want %v", after.body["content"], want)
				}
				if tc.status == 200 {
					line = after.header.Get("ETag")
				}
				s.call(t, "DELETE", path, alice, "", "If-Match", line).want(t, "DELETE", tc.status, "")
			})
		}
	})
}

func TestNoteLimits(t *testing.T) {
	storetest.Each(t, func(t *testing.T, open storetest.Open) {
		s := newService(t, open, true)
		token := s.signIn(t, "alice")
		note := func(fields map[string]any) string {
			raw, err := json.Marshal(fields)
			if err != nil {
				t.Fatal(err)
			}
			return string(raw)
		}
		s.call(t, "POST", "/api/notes", token, `{"content":"x","title":null,"tags":null}`).want(t, "null title and tags", 201, "")
		// Each character has four bytes: the limit counts characters.
		s.call(t, "POST", "/api/notes", token, note(map[string]any{"content": strings.Repeat("𝄞", 100_000)})).want(t, "100,000 characters", 201, "")
		for what, tc := range map[string]struct{ body, message string }{
			"blank":         {body: note(map[string]any{"content": " \n\t"}), message: "Invalid note content"},
			"none":          {body: `{}`, message: "Invalid note content"},
			"too long":      {body: note(map[string]any{"content": strings.Repeat("x", 100_001)}), message: "Invalid note content"},
			"long title":    {body: note(map[string]any{"content": "x", "title": strings.Repeat("x", 201)}), message: "Invalid note title"},
			"many tags":     {body: note(map[string]any{"content": "x", "tags": strings.Split(strings.Repeat("x", 21), "")}), message: "Invalid note tags"},
			"blank tag":     {body: note(map[string]any{"content": "x", "tags": []string{" "}}), message: "Invalid note tags"},
			"content of 7":  {body: `{"content":7}`, message: "Field content has the wrong type"},
			"unknown field": {body: `{"content":"x","owner":"y"}`},
		} {
			s.call(t, "POST", "/api/notes", token, tc.body).want(t, what, 400, tc.message)
		}
	})
}

func TestListPages(t *testing.T) {
	storetest.Each(t, func(t *testing.T, open storetest.Open) {
		s := newService(t, open, true)
		token := s.signIn(t, "alice")
		if empty := s.call(t, "GET", "/api/notes", token, ""); !gocmp.Equal(empty.body, map[string]any{"notes": []any{}}) {
			t.Errorf("no notes: %v", empty.body)
		}
		var want []string
		for range 5 {
			created := s.call(t, "POST", "/api/notes", token, `{"content":"x"}`)
			want = append([]string{created.body["id"].(string)}, want...)
		}
		var got []string
		cursor := ""
		for pages := 0; pages == 0 || cursor != ""; pages++ {
			page := s.call(t, "GET", "/api/notes?limit=2&cursor="+cursor, token, "")
			page.want(t, "page", 200, "")
			for _, n := range page.body["notes"].([]any) {
				got = append(got, n.(map[string]any)["id"].(string))
			}
			cursor, _ = page.body["next_cursor"].(string)
		}
		if diff := gocmp.Diff(want, got); diff != "" {
			t.Error(diff)
		}
		for query, message := range map[string]string{
			"limit=0": "", "limit=201": "", "limit=x": "", "cursor=x": "",
			// The service must not guess which of them is meant.
			"limit=1&limit=2": "Parameter limit is given twice", "cursor=&cursor=x": "Parameter cursor is given twice",
		} {
			s.call(t, "GET", "/api/notes?"+query, token, "").want(t, query, 400, message)
		}
	})
}

// TestKeyProviderAway: requests that find their key in the cache succeed. All others get 503, and
// nothing is stored.
func TestKeyProviderAway(t *testing.T) {
	for name, cause := range map[string]error{
		"unavailable": envelope.ErrUnavailable, "sealed": errors.Join(envelope.ErrUnavailable, envelope.ErrVaultSealed), "denied": envelope.ErrDenied,
	} {
		t.Run(name, func(t *testing.T) {
			storetest.Each(t, func(t *testing.T, open storetest.Open) { testKeyProviderAway(t, open, cause) })
		})
	}
}

func testKeyProviderAway(t *testing.T, open storetest.Open, cause error) {
	s := newService(t, open, true)
	s.provider.cause = cause
	warm, cold := s.signIn(t, "warm"), s.signIn(t, "cold")
	id := s.call(t, "POST", "/api/notes", warm, `{"content":"before"}`).body["id"].(string)
	s.provider.away = true
	s.call(t, "GET", "/api/notes/"+id, warm, "").want(t, "cached key, read", 200, "")
	s.call(t, "POST", "/api/notes", warm, `{"content":"during"}`).want(t, "cached key, create", 201, "")
	refused := s.call(t, "POST", "/api/notes", cold, `{"content":"during"}`)
	refused.want(t, "no cached key", 503, "The key service is unavailable, try again later")
	if refused.header.Get("Retry-After") == "" {
		t.Error("503 without Retry-After")
	}
	s.call(t, "POST", "/api/auth/register", "", `{"username":"late","password":"correct horse battery"}`).want(t, "register", 503, "")
	if list := s.call(t, "GET", "/api/notes", cold, ""); len(list.body["notes"].([]any)) != 0 {
		t.Errorf("stored although it could not be sealed: %v", list.body)
	}
	s.provider.away = false
	s.call(t, "POST", "/api/notes", cold, `{"content":"after"}`).want(t, "provider back", 201, "")
	s.call(t, "POST", "/api/auth/register", "", `{"username":"late","password":"correct horse battery"}`).want(t, "register", 201, "")
}

// TestKeyProviderSlow: a client that waits for a key gets an answer in time, and others are served
// meanwhile.
func TestKeyProviderSlow(t *testing.T) {
	storetest.Each(t, func(t *testing.T, open storetest.Open) {
		s := newService(t, open, true, func(s *httpapi.Service) { s.RequestTimeout = time.Second })
		warm, cold := s.signIn(t, "alice"), s.signIn(t, "bob")
		id := s.call(t, "POST", "/api/notes", warm, `{"content":"mine"}`).body["id"].(string)
		s.provider.slow = make(chan struct{})
		defer close(s.provider.slow)
		a := s.call(t, "POST", "/api/notes", cold, `{"content":"his"}`)
		a.want(t, "the key does not arrive", 503, "")
		if a.header.Get("Retry-After") == "" {
			t.Error("503 without Retry-After")
		}
		s.call(t, "GET", "/api/notes/"+id, warm, "").want(t, "another user, whose key is cached", 200, "")
		s.call(t, "GET", "/api/notes", cold, "").want(t, "a request that needs no key", 200, "")
	})
}

func TestDatabaseAway(t *testing.T) {
	storetest.Each(t, func(t *testing.T, open storetest.Open) {
		s := newService(t, open, true)
		token := s.signIn(t, "alice")
		if err := s.db.Close(); err != nil {
			t.Fatal(err)
		}
		a := s.call(t, "POST", "/api/notes", token, `{"content":"secret content"}`)
		if a.status < 500 || a.body["id"] != nil {
			t.Errorf("answered %d %v without a database", a.status, a.body)
		}
	})
}

func TestLogHoldsNoSecret(t *testing.T) {
	storetest.Each(t, func(t *testing.T, open storetest.Open) {
		s := newService(t, open, true)
		token := s.signIn(t, "alice")
		id := s.call(t, "POST", "/api/notes", token, `{"content":"the secret content","title":"the secret title"}`).body["id"].(string)
		s.call(t, "GET", "/api/notes/"+id+"?q=the+secret+query", token, "")
		s.call(t, "POST", "/api/auth/login", "", `{"username":"alice","password":"the secret password"}`)
		log := s.log.String()
		if strings.Count(log, "msg=request") < 5 {
			t.Errorf("requests are not logged:\n%s", log)
		}
		for _, secret := range []string{"secret", "correct horse", token, id} {
			if strings.Contains(log, secret) {
				t.Errorf("the log contains %q:\n%s", secret, log)
			}
		}
	})
}
