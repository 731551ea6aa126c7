//go:build integration

package chaos_test

import (
	"context"
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
	"github.com/securenotes/securenotes/hack/notesclient"
	"github.com/securenotes/securenotes/hack/poll"
	"github.com/securenotes/securenotes/hack/testenv"
)

// serving is one process of the service, whose database and Vault are made to fail.
type serving struct {
	*testing.T
	vault     *testenv.Vault
	vaultLink *testenv.Link
	service   *testenv.Service
	// client has no session.
	client *notesclient.Client
	readyz string
	// warm is a user whose key the process has cached. It has no keys of cold users.
	warm *account
	cold []*account
}

// account is a user who has logged in, and one of the user's notes.
type account struct {
	*notesclient.Client
	name, note string
}

// startServing starts a process on a database, with some users whose keys it has not cached.
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
	s.client = clientOf(t, s.service)
	s.warm = s.register("warm")
	s.warm.note = s.write(s.warm)
	for i := range coldUsers {
		s.cold = append(s.cold, s.register(fmt.Sprintf("cold-%d", i)))
	}
	return s
}

// register creates an account and logs it in.
func (s *serving) register(name string) *account {
	s.Helper()
	if err := s.client.Register(s.Context(), name, password); err != nil {
		s.Fatal(err)
	}
	login, err := s.client.Login(s.Context(), name, password)
	if err != nil {
		s.Fatal(err)
	}
	return &account{Client: s.client.WithToken(login.Token), name: name}
}

func (s *serving) write(who *account) (id string) {
	s.Helper()
	note, err := who.CreateNote(s.Context(), notesclient.Content{Content: "by " + who.name})
	if err != nil {
		s.Fatal(err)
	}
	return note.ID
}

// read returns a note's content.
func (s *serving) read(who *account, id string) string {
	s.Helper()
	note, err := who.GetNote(s.Context(), id)
	if err != nil {
		s.Fatal(err)
	}
	return note.Content.Content
}

// answers fails the test if a call returned an error.
func (s *serving) answers(err error) {
	s.Helper()
	if err != nil {
		s.Fatal(err)
	}
}

// ready returns the status of the readiness probe, or 0 if it does not answer.
func (s *serving) ready() int {
	client := http.Client{Timeout: 10 * time.Second}
	response, err := client.Get(s.readyz)
	if err != nil {
		return 0
	}
	defer response.Body.Close()
	return response.StatusCode
}

// request returns a request of the API.
func request(method, path string, body map[string]string) notesclient.Request {
	if body == nil {
		return notesclient.Request{Method: method, Path: path}
	}
	return notesclient.Request{Method: method, Path: path, Body: body}
}

func credentials(name string) map[string]string {
	return map[string]string{"username": name, "password": password}
}

// ofDatabase returns the requests that need the database, for a user who has a note: all except
// those for the API's description.
func ofDatabase(who *account) []notesclient.Request {
	note := map[string]string{"content": "another"}
	confirmed := map[string]string{"password": password}
	return []notesclient.Request{
		request(http.MethodPost, "/api/auth/register", credentials("somebody")),
		request(http.MethodPost, "/api/auth/login", credentials(who.name)),
		request(http.MethodPost, "/api/auth/logout", nil),
		request(http.MethodPost, "/api/auth/password", map[string]string{"current_password": password, "new_password": "another horse battery"}),
		request(http.MethodGet, "/api/auth/sessions", nil),
		request(http.MethodDelete, "/api/auth/sessions/"+who.note, confirmed),
		request(http.MethodGet, "/api/auth/totp", nil),
		request(http.MethodPost, "/api/auth/totp", confirmed),
		request(http.MethodDelete, "/api/auth/totp", confirmed),
		request(http.MethodDelete, "/api/account", confirmed),
		request(http.MethodGet, "/api/account/export", nil),
		request(http.MethodPost, "/api/notes", note),
		request(http.MethodGet, "/api/notes", nil),
		request(http.MethodGet, "/api/notes/"+who.note, nil),
		request(http.MethodPut, "/api/notes/"+who.note, note),
		request(http.MethodDelete, "/api/notes/"+who.note, nil),
	}
}

// mustBeUnavailable sends the requests concurrently. Each must get 503 with Retry-After.
func (s *serving) mustBeUnavailable(who *account, requests []notesclient.Request) {
	s.Helper()
	var all sync.WaitGroup
	for _, r := range requests {
		all.Go(func() {
			a, err := who.Do(s.Context(), r)
			if err != nil {
				s.Error(err)
			} else if a.Status != http.StatusServiceUnavailable || a.Header.Get("Retry-After") == "" || a.Message() == "" {
				s.Errorf("%s %s: status %d, Retry-After %q, %s; want 503 with Retry-After", r.Method, r.Path, a.Status, a.Header.Get("Retry-After"), a.Body)
			}
		})
	}
	all.Wait()
}

// TestDatabaseFails checks each fault of the database: every call that needs the database gets 503
// with Retry-After, readiness reports the fault, nothing is changed, and the same process recovers.
func TestDatabaseFails(t *testing.T) {
	t.Parallel()
	w := newServers(t, program(t), shape{})
	way := w.way()
	s := startServing(t, w.vault, way.config, 0)
	// An idle connection notices this with its next statement; a failover closes it.
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
		// A request that the client gave up may still be executed later, even the deletion of the
		// account.
		victim := s.register("victim-" + fault.name)
		victim.note = s.write(victim)
		end := fault.begin()
		poll.Eventually(t, time.Minute, fault.name+": readiness to report it", func(context.Context) error {
			if status := s.ready(); status == http.StatusOK {
				return fmt.Errorf("the service is still ready")
			}
			return nil
		})
		s.mustBeUnavailable(victim, ofDatabase(victim))
		if a, err := s.client.Do(t.Context(), request(http.MethodGet, "/api/nothing", nil)); err != nil || a.Status != http.StatusNotFound {
			t.Errorf("%s: a call that needs no database: %+v, %v", fault.name, a, err)
		}
		end()
		poll.Eventually(t, time.Minute, fault.name+": the service to recover", func(ctx context.Context) error {
			if status := s.ready(); status != http.StatusOK {
				return fmt.Errorf("readiness %d", status)
			}
			_, err := s.warm.ListNotes(ctx, 0, "")
			return err
		})
		if content := s.read(s.warm, s.warm.note); content != "by warm" {
			t.Errorf("%s: the note has changed to %q", fault.name, content)
		}
		s.write(s.warm)
		if s.service.PID() != pid || syscall.Kill(pid, 0) != nil {
			t.Errorf("%s: it is another process", fault.name)
		}
	}
}

// TestFailover makes the database fail over to its standby. Until the standby accepts writes, each
// call gets 503. Then the same process continues there, with every acknowledged note.
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
	poll.Eventually(t, time.Minute, "the service to recover", func(context.Context) error {
		if status := s.ready(); status != http.StatusOK {
			return fmt.Errorf("readiness %d", status)
		}
		return nil
	})
	for _, id := range notes {
		s.read(s.warm, id)
	}
	s.write(s.warm)
	s.register("after")
}

// TestVaultFails checks each fault of Vault: a call that needs Vault gets 503 with Retry-After, and
// all others are served. Readiness, which is about all users, does not change, and the same process
// recovers.
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
			s.mustBeUnavailable(cold, []notesclient.Request{
				request(http.MethodPost, "/api/notes", map[string]string{"content": "sealed by nobody"}),
				request(http.MethodPost, "/api/auth/register", credentials("nobody")),
				request(http.MethodPost, "/api/auth/totp", map[string]string{"password": password}),
			})
			note := s.write(s.warm)
			s.read(s.warm, note)
			_, err := s.warm.UpdateNote(t.Context(), note, notesclient.Content{Content: "changed"}, "")
			s.answers(err)
			_, err = s.warm.ExportAccount(t.Context())
			s.answers(err)
			s.answers(s.warm.DeleteNote(t.Context(), note, ""))
			_, err = cold.ListNotes(t.Context(), 0, "")
			s.answers(err)
			_, err = s.client.Login(t.Context(), "warm", password)
			s.answers(err)
			if status := s.ready(); status != http.StatusOK {
				t.Errorf("%s: readiness %d", fault.name, status)
			}
		})
		poll.Eventually(t, time.Minute, fault.name+": a cold owner to be served", func(ctx context.Context) error {
			_, err := cold.CreateNote(ctx, notesclient.Content{Content: "by " + cold.name})
			return err
		})
		if n := w.count("SELECT count(*) FROM users"); n != users {
			t.Errorf("%s: %d users were stored", fault.name, n-users)
		}
		if s.service.PID() != pid || syscall.Kill(pid, 0) != nil {
			t.Errorf("%s: it is another process", fault.name)
		}
	}
}
