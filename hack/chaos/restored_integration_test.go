//go:build integration

package chaos_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/securenotes/securenotes/app/config"
	"github.com/securenotes/securenotes/hack/testenv"
)

// peace is a world without load and faults, in which a Vault or a database is restored to an earlier state. Its
// user has notes that must be readable at its end.
type peace struct {
	*world
	token string
	notes map[string]string
	// unready is where the newest process says why it is not ready.
	unready string
}

func newPeace(t *testing.T) *peace {
	t.Helper()
	w := newServers(t, program(t), shape{})
	w.replicas[0].way = w.way()
	p := &peace{world: w, notes: map[string]string{}}
	w.replicas[0].service = w.program.StartService(w, w.replicas[0].config)
	s := w.replicas[0].service
	p.must(s, http.StatusCreated, http.MethodPost, "/api/auth/register", credentials("alice"))
	p.token = p.must(s, http.StatusOK, http.MethodPost, "/api/auth/login", credentials("alice"))["token"].(string)
	for range 3 {
		p.write(s)
	}
	return p
}

func credentials(name string) map[string]any {
	return map[string]any{"username": name, "password": "correct horse battery staple"}
}

// send gives an answer's status and body.
func (p *peace) send(s *testenv.Service, method, path string, body any) (int, map[string]any) {
	p.Helper()
	raw, err := json.Marshal(body)
	if err != nil {
		p.Fatal(err)
	}
	request, err := http.NewRequestWithContext(context.Background(), method, s.URL+path, bytes.NewReader(raw))
	if err != nil {
		p.Fatal(err)
	}
	request.Header.Set("Content-Type", "application/json")
	request.Header.Set("Authorization", "Bearer "+p.token)
	client := httpClient(s.Pool)
	defer client.CloseIdleConnections()
	response, err := client.Do(request)
	if err != nil {
		p.Fatal(err)
	}
	defer response.Body.Close()
	answer := map[string]any{}
	if err := json.NewDecoder(response.Body).Decode(&answer); err != nil {
		p.Fatal(err)
	}
	return response.StatusCode, answer
}

func (p *peace) must(s *testenv.Service, want int, method, path string, body any) map[string]any {
	p.Helper()
	status, answer := p.send(s, method, path, body)
	if status != want {
		p.Fatalf("%s %s: status %d, want %d: %v", method, path, status, want, answer)
	}
	return answer
}

func (p *peace) write(s *testenv.Service) {
	p.Helper()
	content := fmt.Sprintf("note %d", len(p.notes))
	p.notes[p.must(s, http.StatusCreated, http.MethodPost, "/api/notes", map[string]any{"content": content})["id"].(string)] = content
}

// mustRead shows that every note reads back.
func (p *peace) mustRead(s *testenv.Service) {
	p.Helper()
	for id, want := range p.notes {
		if got := p.must(s, http.StatusOK, http.MethodGet, "/api/notes/"+id, nil)["content"]; got != want {
			p.Errorf("note %s: %q, want %q", id, got, want)
		}
	}
}

// another is a new process, whose cache is cold; it need not become ready.
func (p *peace) another() *testenv.Service {
	p.Helper()
	c := p.way().config
	s := p.program.BeginService(p, c)
	p.unready = "http://" + c.MetricsListen + "/readyz"
	return s
}

// mustSay waits until the newest process is not ready and says why.
func (p *peace) mustSay(want string) {
	p.Helper()
	said := ""
	p.until("readiness to say "+want, func() bool {
		response, err := http.Get(p.unready)
		if err != nil {
			said = err.Error()
			return false
		}
		defer response.Body.Close()
		raw, _ := io.ReadAll(response.Body)
		said = string(raw)
		return response.StatusCode == http.StatusServiceUnavailable && strings.Contains(said, want)
	}, &said)
}

func (p *peace) until(what string, condition func() bool, said *string) {
	p.Helper()
	deadline := time.Now().Add(30 * time.Second)
	for !condition() {
		if time.Now().After(deadline) {
			p.Fatalf("waited for %s; it says: %s", what, *said)
		}
		time.Sleep(20 * time.Millisecond)
	}
}

// work runs a Job to its end.
func (p *peace) work(args []string) (code int, out string) {
	p.Helper()
	j := p.startJob(p.jobs, args...)
	code = p.exit(j)
	return code, j.out.String()
}

func (p *peace) mustWork(args []string) {
	p.Helper()
	if code, out := p.work(args); code != 0 {
		p.Fatalf("%v ended with %d:\n%s", args, code, out)
	}
}

// TestVaultIsRestored: Vault is restored to a state from before the version that everything was moved to. What was
// moved cannot be read, and nothing new is accepted that could not be read later; once the newer state is back,
// everything is as it was.
func TestVaultIsRestored(t *testing.T) {
	t.Parallel()
	p := newPeace(t)
	running := p.replicas[0].service
	older := p.vault.Snapshot(t)
	to := p.key.Rotate(t)
	p.mustWork(reencryptArgs("Reencrypt", to))
	newer := p.vault.Snapshot(t)

	p.vault.Restore(t, older)
	cold := p.another()
	p.mustSay("the master key is not the one of this database")
	users, keys := p.count("SELECT count(*) FROM users"), p.count("SELECT count(*) FROM owner_keys")
	for id := range p.notes {
		if status, answer := p.send(running, http.MethodGet, "/api/notes/"+id, nil); status < 500 {
			t.Errorf("a note that was moved: status %d, %v", status, answer)
		}
	}
	if status, answer := p.send(running, http.MethodPost, "/api/notes", map[string]any{"content": "lost?"}); status < 500 {
		t.Errorf("a new note: status %d, %v", status, answer)
	}
	// Once as it was restored, and once when somebody has added a version by hand, which takes the number of the
	// lost one: both must be refused, and the second would be unreadable for ever.
	for _, prepare := range []func(){func() {}, func() { p.key.Rotate(t) }} {
		prepare()
		if status, answer := p.send(running, http.MethodPost, "/api/auth/register", credentials("bob")); status < 500 {
			t.Errorf("a new user: status %d, %v", status, answer)
		}
		if u, k := p.count("SELECT count(*) FROM users"), p.count("SELECT count(*) FROM owner_keys"); u != users || k != keys {
			t.Errorf("%d users and %d keys were stored under a version that will be lost", u-users, k-keys)
		}
	}
	// The Job waits: what it would verify is not lost.
	verification := p.startJob(p.jobs, verifyArgs("Reencrypt", to)...)

	p.vault.Restore(t, newer)
	if code := p.exit(verification); code != 0 {
		t.Errorf("the verification ended with %d:\n%s", code, verification.out.String())
	}
	cold.Await(t)
	p.key.Retire(t, to)
	for _, s := range []*testenv.Service{running, cold} {
		p.mustRead(s)
		p.write(s)
	}
	p.must(running, http.StatusCreated, http.MethodPost, "/api/auth/register", credentials("bob"))
}

// backUp keeps the database as it is now, and restore puts that into its place, while the service runs.
func (p *peace) backUp() {
	p.Helper()
	p.administer("ALTER DATABASE notes ALLOW_CONNECTIONS false",
		"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = 'notes'",
		"CREATE DATABASE backup TEMPLATE notes", "ALTER DATABASE notes ALLOW_CONNECTIONS true")
}

func (p *peace) restore() {
	p.Helper()
	p.administer("DROP DATABASE notes WITH (FORCE)", "CREATE DATABASE notes TEMPLATE backup")
}

func (p *peace) administer(statements ...string) {
	p.Helper()
	p.postgres.Execute(p, statements...)
}

// TestDatabaseIsRestored: the database is restored to before a rotation, first while the old version still
// decrypts, then after it was retired. What docs/key-rotation.md says to do is done to the letter.
func TestDatabaseIsRestored(t *testing.T) {
	t.Parallel()
	p := newPeace(t)
	running := p.replicas[0].service
	p.backUp()
	to := p.key.Rotate(t)
	rotate := func() {
		t.Helper()
		p.mustWork(reencryptArgs("Reencrypt", to))
		p.mustWork(verifyArgs("Reencrypt", to))
	}
	rotate()

	p.restore()
	p.awaitReady(running)
	p.mustRead(running)
	cold := p.another()
	cold.Await(t)
	p.mustRead(cold)
	p.must(cold, http.StatusCreated, http.MethodPost, "/api/auth/register", credentials("bob"))
	// What the operator starts before it retires a version.
	if code, out := p.work([]string{"verify", "--strategy", "Rewrap", "--to-version", fmt.Sprint(to)}); code != config.ExitRetryable || !strings.Contains(out, config.ReasonStaleRows) {
		t.Fatalf("the verification before the retirement ended with %d:\n%s", code, out)
	}
	to = p.key.Rotate(t)
	rotate()
	p.key.Retire(t, to)
	p.mustRead(running)

	p.restore()
	cold = p.another()
	p.mustSay("the master key is not the one of this database")
	if status, answer := p.send(running, http.MethodPost, "/api/auth/register", credentials("carol")); status < 500 {
		t.Errorf("a new user: status %d, %v", status, answer)
	}
	p.allow(p.count("SELECT min(kek_version) FROM owner_keys"))
	cold.Await(t)
	p.mustRead(cold)
	to = p.key.Rotate(t)
	rotate()
	p.key.Retire(t, to)
	cold = p.another()
	cold.Await(t)
	p.awaitReady(running)
	for _, s := range []*testenv.Service{running, cold} {
		p.mustRead(s)
	}
	if n := p.count("SELECT count(*) FROM owner_keys WHERE kek_version < $1", to); n > 0 {
		t.Errorf("%d owner keys are below version %d", n, to)
	}
}

// awaitReady waits until a process that was cut off from the database has found it again.
func (p *peace) awaitReady(s *testenv.Service) {
	p.Helper()
	said := ""
	p.until("the database to be found again", func() bool {
		status, answer := p.send(s, http.MethodGet, "/api/notes", nil)
		said = fmt.Sprint(status, answer)
		return status == http.StatusOK
	}, &said)
}

// allow lets Vault decrypt a version that was retired, as its administrator can.
func (p *peace) allow(version int) {
	p.Helper()
	path := p.key.Config.TransitMount + "/keys/" + p.key.Config.TransitKey + "/config"
	if _, err := p.vault.Client(p).Logical().Write(path, map[string]any{"min_decryption_version": version}); err != nil {
		p.Fatal(err)
	}
}

// TestVaultIsRestoredDuringAJob: Vault is restored to before the rotation's version while its Job is at work, and
// somebody adds a version by hand, which takes the number of the lost one. The Job puts nothing under that one, which
// would be lost when the newer state is back.
func TestVaultIsRestoredDuringAJob(t *testing.T) {
	t.Parallel()
	p := newPeace(t)
	for _, strategy := range []string{"Reencrypt", "Rewrap"} {
		older := p.vault.Snapshot(t)
		to := p.key.Rotate(t)
		newer := p.vault.Snapshot(t)

		// The Job has made a canary under the new version, and waits to store it.
		release := p.lockMeta()
		running := p.startJob(p.jobs, reencryptArgs(strategy, to)...)
		said := ""
		p.until("the Job to wait for the canary's row", func() bool {
			waiting := p.count("SELECT count(*) FROM pg_stat_activity WHERE datname = 'notes' AND wait_event_type = 'Lock'")
			said = fmt.Sprint(waiting, " sessions wait")
			return waiting > 0
		}, &said)
		p.vault.Restore(t, older)
		if another := p.key.Rotate(t); another != to {
			t.Fatalf("the version made by hand is %d, not %d", another, to)
		}
		release()
		if code := p.exit(running); code != config.ExitRetryable || !strings.Contains(running.out.String(), config.ReasonKeyMismatch) {
			t.Errorf("%s: the Job ended with %d:\n%s", strategy, code, running.out.String())
		}

		p.vault.Restore(t, newer)
		p.mustWork(reencryptArgs(strategy, to))
		p.mustWork(verifyArgs(strategy, to))
		p.key.Retire(t, to)
		p.mustRead(p.replicas[0].service)
		cold := p.another()
		cold.Await(t)
		p.mustRead(cold)
		p.write(cold)
	}
}

// lockMeta keeps everybody from writing the row with the canary until release is called.
func (p *peace) lockMeta() (release func()) {
	p.Helper()
	ctx := context.Background()
	conn := p.connect()
	tx, err := conn.Begin(ctx)
	if err == nil {
		_, err = tx.Exec(ctx, "SELECT FROM meta FOR UPDATE")
	}
	if err != nil {
		p.Fatal(err)
	}
	return func() {
		if err := errors.Join(tx.Rollback(ctx), conn.Close(ctx)); err != nil {
			p.Error(err)
		}
	}
}
