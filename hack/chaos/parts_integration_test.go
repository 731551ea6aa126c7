//go:build integration

package chaos_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/securenotes/securenotes/app/config"
	"github.com/securenotes/securenotes/hack/testenv"
)

// serving is one process of the service, whose database and Vault fail in turn.
type serving struct {
	*testing.T
	vault     *testenv.Vault
	vaultLink *testenv.Link
	service   *testenv.Service
	client    *http.Client
	readyz    string
	// warm is a user whose key the process has, and of cold users it has none.
	warm *account
	cold []*account
}

type account struct{ name, token, note string }

// startServing starts a process on a database, with some users of whose keys it knows nothing.
func startServing(t *testing.T, v *testenv.Vault, c *config.Config, coldUsers int) *serving {
	t.Helper()
	address, err := url.Parse(c.Keys.Vault.Address)
	if err != nil {
		t.Fatal(err)
	}
	s := &serving{T: t, vault: v, vaultLink: testenv.NewLink(t, address.Host), readyz: "http://" + c.MetricsListen + "/readyz"}
	linked := *c.Keys.Vault
	linked.Address = "https://" + s.vaultLink.Address()
	c.Keys.Vault = &linked
	program := program(t)
	if out, err := program.Command(t.Context(), "migrate", "--config", testenv.WriteConfig(t, c)).CombinedOutput(); err != nil {
		t.Fatalf("migrate: %v: %s", err, out)
	}
	s.service = program.StartService(t, c)
	s.client = httpClient(s.service.Pool)
	s.client.Timeout = 40 * time.Second // above the service's own limit
	t.Cleanup(s.client.CloseIdleConnections)
	s.warm = s.register("warm")
	s.warm.note = s.write(s.warm)
	for i := range coldUsers {
		s.cold = append(s.cold, s.register(fmt.Sprintf("cold-%d", i)))
	}
	return s
}

// answer is what came of one request.
type answer struct {
	status     int
	retryAfter string
	body       map[string]any
}

func (a answer) String() string {
	return fmt.Sprintf("status %d, Retry-After %q, %v", a.status, a.retryAfter, a.body)
}

func (s *serving) ask(who *account, method, path string, body any) (answer, error) {
	raw, err := json.Marshal(body)
	if err != nil {
		return answer{}, err
	}
	request, err := http.NewRequestWithContext(context.Background(), method, s.service.URL+path, bytes.NewReader(raw))
	if err != nil {
		return answer{}, err
	}
	request.Header.Set("Content-Type", "application/json")
	if who.token != "" {
		request.Header.Set("Authorization", "Bearer "+who.token)
	}
	response, err := s.client.Do(request)
	if err != nil {
		return answer{}, err
	}
	defer response.Body.Close()
	a := answer{status: response.StatusCode, retryAfter: response.Header.Get("Retry-After")}
	if response.Header.Get("Content-Type") == "application/x-ndjson" {
		return a, nil
	}
	return a, json.NewDecoder(response.Body).Decode(&a.body)
}

func (s *serving) must(who *account, want int, method, path string, body any) answer {
	s.Helper()
	a, err := s.ask(who, method, path, body)
	if err != nil || a.status != want {
		s.Fatalf("%s %s: %s, %v; want %d", method, path, a, err, want)
	}
	return a
}

func (s *serving) register(name string) *account {
	s.Helper()
	a := &account{name: name}
	s.must(a, http.StatusCreated, http.MethodPost, "/api/auth/register", credentials(name))
	a.token = s.must(a, http.StatusOK, http.MethodPost, "/api/auth/login", credentials(name)).body["token"].(string)
	return a
}

func (s *serving) write(who *account) (id string) {
	s.Helper()
	return s.must(who, http.StatusCreated, http.MethodPost, "/api/notes", map[string]any{"content": "by " + who.name}).body["id"].(string)
}

// ready is the status of the readiness probe; 0: it does not answer.
func (s *serving) ready() int {
	client := http.Client{Timeout: 10 * time.Second}
	response, err := client.Get(s.readyz)
	if err != nil {
		return 0
	}
	defer response.Body.Close()
	return response.StatusCode
}

// call is one of the API.
type call struct {
	method, path string
	body         any
}

// ofDatabase are the calls that need the database, as one makes them who has a note: all but the documents'.
func ofDatabase(who *account) []call {
	note := map[string]any{"content": "another"}
	password := map[string]any{"password": credentials("")["password"]}
	return []call{
		{http.MethodPost, "/api/auth/register", credentials("somebody")},
		{http.MethodPost, "/api/auth/login", credentials(who.name)},
		{http.MethodPost, "/api/auth/logout", nil},
		{http.MethodPost, "/api/auth/password", map[string]any{"current_password": password["password"], "new_password": "another horse battery"}},
		{http.MethodGet, "/api/auth/sessions", nil},
		{http.MethodDelete, "/api/auth/sessions/" + who.note, password},
		{http.MethodGet, "/api/auth/totp", nil},
		{http.MethodPost, "/api/auth/totp", password},
		{http.MethodDelete, "/api/auth/totp", password},
		{http.MethodDelete, "/api/account", password},
		{http.MethodGet, "/api/account/export", nil},
		{http.MethodPost, "/api/notes", note},
		{http.MethodGet, "/api/notes", nil},
		{http.MethodGet, "/api/notes/" + who.note, nil},
		{http.MethodPut, "/api/notes/" + who.note, note},
		{http.MethodDelete, "/api/notes/" + who.note, nil},
	}
}

// mustBeUnavailable makes the calls at once and wants each to be answered that it may be tried again later.
func (s *serving) mustBeUnavailable(who *account, calls []call) {
	s.Helper()
	var all sync.WaitGroup
	for _, c := range calls {
		all.Go(func() {
			a, err := s.ask(who, c.method, c.path, c.body)
			if err != nil || a.status != http.StatusServiceUnavailable || a.retryAfter == "" || a.body["error"] == nil {
				s.Errorf("%s %s: %s, %v; want 503 with Retry-After", c.method, c.path, a, err)
			}
		})
	}
	all.Wait()
}

// TestDatabaseFails: whatever is the matter with the database, each call that needs it is answered 503 with
// Retry-After, readiness says so, nothing has changed, and the same process goes on when it is over.
func TestDatabaseFails(t *testing.T) {
	t.Parallel()
	w := newServers(t, program(t), shape{})
	way := w.way()
	s := startServing(t, w.vault, way.config, 0)
	// A connection that is idle learns of it with the answer to its next statement; a failover ends it.
	readOnly := func(on string) {
		w.postgres.Execute(t, "ALTER SYSTEM SET default_transaction_read_only = "+on, "SELECT pg_reload_conf()",
			"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = 'notes'")
	}
	for _, fault := range []struct {
		name  string
		begin func() (end func())
	}{
		{"gone", func() func() {
			w.postgres.Stop(t)
			return func() { w.postgres.Start(t) }
		}},
		{"silent", way.link.Hold},
		{"read-only", func() func() {
			readOnly("on")
			return func() { readOnly("off") }
		}},
	} {
		pid := s.service.PID()
		// What is given up may be carried out all the same, later: also the deletion of the account.
		victim := s.register("victim-" + fault.name)
		victim.note = s.write(victim)
		end := fault.begin()
		eventually(t, fault.name+": readiness to say so", func() error {
			if status := s.ready(); status == http.StatusOK {
				return fmt.Errorf("it is ready")
			}
			return nil
		})
		s.mustBeUnavailable(victim, ofDatabase(victim))
		if a, err := s.ask(&account{}, http.MethodGet, "/api/nothing", nil); err != nil || a.status != http.StatusNotFound {
			t.Errorf("%s: what needs no database: %s, %v", fault.name, a, err)
		}
		end()
		eventually(t, fault.name+": the service to be back", func() error {
			if status := s.ready(); status != http.StatusOK {
				return fmt.Errorf("readiness %d", status)
			}
			a, err := s.ask(s.warm, http.MethodGet, "/api/notes", nil)
			if err != nil || a.status != http.StatusOK {
				return fmt.Errorf("%s, %w", a, err)
			}
			return nil
		})
		content := s.must(s.warm, http.StatusOK, http.MethodGet, "/api/notes/"+s.warm.note, nil).body["content"]
		if content != "by warm" {
			t.Errorf("%s: the note is %q", fault.name, content)
		}
		s.write(s.warm)
		if s.service.PID() != pid || syscall.Kill(pid, 0) != nil {
			t.Errorf("%s: it is another process", fault.name)
		}
	}
}

// TestFailover: the database fails over to its standby. Until that takes writes each call is answered 503; then the same
// process goes on there, with every note that was acknowledged.
func TestFailover(t *testing.T) {
	t.Parallel()
	w := newServers(t, program(t), shape{})
	c := testenv.ServiceConfig(t, w.database, w.postgres.CAFile, w.key)
	standby := w.postgres.StartStandby(t)
	both := strings.Replace(w.database, w.postgres.Host(), w.postgres.Host()+","+standby.Host(), 1)
	if err := os.WriteFile(c.Database.Postgres.URIFile, []byte(both), 0o600); err != nil {
		t.Fatal(err)
	}
	s := startServing(t, w.vault, c, 0)
	var notes []string
	for range 20 {
		notes = append(notes, s.write(s.warm))
	}
	w.postgres.Stop(t)
	s.mustBeUnavailable(s.warm, ofDatabase(s.warm))
	if status := s.ready(); status != http.StatusServiceUnavailable {
		t.Errorf("readiness before the promotion: %d", status)
	}
	standby.Promote(t)
	standby.Execute(t, "ALTER SYSTEM RESET synchronous_standby_names", "SELECT pg_reload_conf()")
	eventually(t, "the service to be back", func() error {
		if status := s.ready(); status != http.StatusOK {
			return fmt.Errorf("readiness %d", status)
		}
		return nil
	})
	for _, id := range notes {
		s.must(s.warm, http.StatusOK, http.MethodGet, "/api/notes/"+id, nil)
	}
	s.write(s.warm)
	s.register("after")
}

// TestVaultFails: whatever is the matter with Vault, who needs it is answered 503 with Retry-After and everybody else is
// served; readiness, which is about all users, does not change; and the same process goes on when it is over.
func TestVaultFails(t *testing.T) {
	t.Parallel()
	w := newServers(t, program(t), shape{})
	faults := []struct {
		name  string
		while func(s *serving, do func())
	}{
		{"sealed", func(s *serving, do func()) {
			s.vault.Seal(s)
			do()
			s.vault.Unseal(s)
		}},
		{"gone", func(s *serving, do func()) { s.vault.WhileStopped(s, do) }},
		{"silent", func(s *serving, do func()) {
			release := s.vaultLink.Hold()
			do()
			release()
		}},
		{"denied", func(s *serving, do func()) {
			sys := s.vault.Client(s).Sys()
			policy, err := sys.GetPolicy("api")
			if err == nil {
				err = sys.DeletePolicy("api")
			}
			if err != nil {
				s.Fatal(err)
			}
			do()
			if err := sys.PutPolicy("api", policy); err != nil {
				s.Fatal(err)
			}
		}},
	}
	s := startServing(t, w.vault, w.way().config, len(faults))
	users := w.count("SELECT count(*) FROM users")
	for i, fault := range faults {
		pid, cold := s.service.PID(), s.cold[i]
		fault.while(s, func() {
			s.mustBeUnavailable(cold, []call{
				{http.MethodPost, "/api/notes", map[string]any{"content": "sealed by nobody"}},
				{http.MethodPost, "/api/auth/register", credentials("nobody")},
				{http.MethodPost, "/api/auth/totp", map[string]any{"password": credentials("")["password"]}},
			})
			note := s.write(s.warm)
			s.must(s.warm, http.StatusOK, http.MethodGet, "/api/notes/"+note, nil)
			s.must(s.warm, http.StatusOK, http.MethodPut, "/api/notes/"+note, map[string]any{"content": "changed"})
			s.must(s.warm, http.StatusOK, http.MethodGet, "/api/account/export", nil)
			s.must(s.warm, http.StatusOK, http.MethodDelete, "/api/notes/"+note, nil)
			s.must(cold, http.StatusOK, http.MethodGet, "/api/notes", nil)
			s.must(&account{}, http.StatusOK, http.MethodPost, "/api/auth/login", credentials("warm"))
			if status := s.ready(); status != http.StatusOK {
				t.Errorf("%s: readiness %d", fault.name, status)
			}
		})
		eventually(t, fault.name+": a cold owner to be served", func() error {
			a, err := s.ask(cold, http.MethodPost, "/api/notes", map[string]any{"content": "by " + cold.name})
			if err != nil || a.status != http.StatusCreated {
				return fmt.Errorf("%s, %w", a, err)
			}
			return nil
		})
		if n := w.count("SELECT count(*) FROM users"); n != users {
			t.Errorf("%s: %d users were stored", fault.name, n-users)
		}
		if s.service.PID() != pid || syscall.Kill(pid, 0) != nil {
			t.Errorf("%s: it is another process", fault.name)
		}
	}
}

func eventually(t *testing.T, what string, check func() error) {
	t.Helper()
	deadline := time.Now().Add(time.Minute)
	for err := check(); err != nil; err = check() {
		if time.Now().After(deadline) {
			t.Fatalf("%s: %v", what, err)
		}
		time.Sleep(50 * time.Millisecond)
	}
}
