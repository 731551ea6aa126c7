//go:build integration

package chaos_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/securenotes/securenotes/app/config"
	"github.com/securenotes/securenotes/hack/notesclient"
	"github.com/securenotes/securenotes/hack/poll"
	"github.com/securenotes/securenotes/hack/testenv"
)

// peace is a world without load and faults, in which Vault or the database is restored to an
// earlier state. Its user has notes that must be readable at the end.
type peace struct {
	*world
	token string
	notes map[string]string
	// unready is the URL at which the newest process reports why it is not ready.
	unready string
}

func newPeace(t *testing.T) *peace {
	t.Helper()
	w := newServers(t, program(t), shape{})
	w.replicas[0].way = w.way()
	p := &peace{world: w, notes: map[string]string{}}
	w.replicas[0].service = w.program.StartService(w, w.replicas[0].config)
	s := w.replicas[0].service
	p.register(s, "alice")
	login, err := clientOf(p, s).Login(p.Context(), "alice", password)
	if err != nil {
		p.Fatal(err)
	}
	p.token = login.Token
	for range 3 {
		p.write(s)
	}
	return p
}

// password is the password of every user.
const password = "correct horse battery staple"

// at returns a client of a process in the user's session.
func (p *peace) at(s *testenv.Service) *notesclient.Client {
	p.Helper()
	return clientOf(p, s).WithToken(p.token)
}

func (p *peace) register(s *testenv.Service, name string) {
	p.Helper()
	if err := clientOf(p, s).Register(p.Context(), name, password); err != nil {
		p.Fatal(err)
	}
}

func (p *peace) write(s *testenv.Service) {
	p.Helper()
	content := fmt.Sprintf("note %d", len(p.notes))
	note, err := p.at(s).CreateNote(p.Context(), notesclient.Content{Content: content})
	if err != nil {
		p.Fatal(err)
	}
	p.notes[note.ID] = content
}

// mustRead checks that every note can be read.
func (p *peace) mustRead(s *testenv.Service) {
	p.Helper()
	for id, want := range p.notes {
		note, err := p.at(s).GetNote(p.Context(), id)
		if err != nil {
			p.Fatal(err)
		}
		if got := note.Content.Content; got != want {
			p.Errorf("note %s: %q, want %q", id, got, want)
		}
	}
}

// mustFail checks that the service answered with a server error.
func (p *peace) mustFail(what string, err error) {
	p.Helper()
	if status := notesclient.Status(err); status < http.StatusInternalServerError {
		p.Errorf("%s: status %d, want 500 or above: %v", what, status, err)
	}
}

// another starts a process, whose cache is empty. The process need not become ready.
func (p *peace) another() *testenv.Service {
	p.Helper()
	c := p.way().config
	s := p.program.BeginService(p, c)
	p.unready = "http://" + c.MetricsListen + "/readyz"
	return s
}

// mustSay waits until the newest process is not ready and reports the reason want.
func (p *peace) mustSay(want string) {
	p.Helper()
	poll.Eventually(p, noticeTimeout, "readiness to report "+want, func(ctx context.Context) error {
		request, err := http.NewRequestWithContext(ctx, http.MethodGet, p.unready, nil)
		if err != nil {
			return err
		}
		response, err := http.DefaultClient.Do(request)
		if err != nil {
			return err
		}
		defer response.Body.Close()
		raw, err := io.ReadAll(response.Body)
		if err != nil {
			return err
		}
		if response.StatusCode != http.StatusServiceUnavailable || !strings.Contains(string(raw), want) {
			return fmt.Errorf("status %d: %s", response.StatusCode, raw)
		}
		return nil
	})
}

// noticeTimeout bounds how long the service may take to notice a restore.
const noticeTimeout = 30 * time.Second

// work runs a Job until it ends.
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

// TestVaultIsRestored restores Vault to a state that lacks the version to which all data was moved.
// The service cannot read that data, and must accept no data that it could not read later. Once the
// newer state is back, everything is as before.
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
		_, err := p.at(running).GetNote(t.Context(), id)
		p.mustFail("read a note that was moved", err)
	}
	_, err := p.at(running).CreateNote(t.Context(), notesclient.Content{Content: "lost?"})
	p.mustFail("create a note", err)
	// First with the restored key, then after somebody has added a version by hand, which gets the
	// number of the lost one. The service must refuse both; data under the second would be
	// unreadable for good.
	for _, prepare := range []func(){func() {}, func() { p.key.Rotate(t) }} {
		prepare()
		p.mustFail("register", p.at(running).Register(t.Context(), "bob", password))
		if u, k := p.count("SELECT count(*) FROM users"), p.count("SELECT count(*) FROM owner_keys"); u != users || k != keys {
			t.Errorf("%d users and %d keys were stored under a version that will be lost", u-users, k-keys)
		}
	}
	// The Job waits, because the data that it would verify is not lost.
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
	p.register(running, "bob")
}

// backUp copies the database, and restore replaces the database with that copy while the service
// runs.
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

// TestDatabaseIsRestored restores the database to a time before a rotation, first while the old
// version still decrypts, then after it was retired. It follows docs/key-rotation.md exactly.
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
	p.register(cold, "bob")
	// This is the verification that the operator starts before it retires a version.
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
	p.mustFail("register", p.at(running).Register(t.Context(), "carol", password))
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

// awaitReady waits until a process that had lost its database is ready again.
func (p *peace) awaitReady(s *testenv.Service) {
	p.Helper()
	c := p.at(s)
	poll.Eventually(p, noticeTimeout, "the service to reconnect to the database", func(ctx context.Context) error {
		_, err := c.ListNotes(ctx, 0, "")
		return err
	})
}

// allow makes Vault decrypt a retired version again, as its administrator can.
func (p *peace) allow(version int) {
	p.Helper()
	path := p.key.Config.TransitMount + "/keys/" + p.key.Config.TransitKey + "/config"
	if _, err := p.vault.Client(p).Logical().Write(path, map[string]any{"min_decryption_version": version}); err != nil {
		p.Fatal(err)
	}
}

// TestVaultIsRestoredDuringAJob restores Vault to a state before the rotation's version while its
// Job works. Somebody then adds a version by hand, which gets the number of the lost one. The Job
// must wrap nothing under that version, because it would be lost when the newer state is back.
func TestVaultIsRestoredDuringAJob(t *testing.T) {
	t.Parallel()
	p := newPeace(t)
	for _, strategy := range []string{"Reencrypt", "Rewrap"} {
		older := p.vault.Snapshot(t)
		to := p.key.Rotate(t)
		newer := p.vault.Snapshot(t)

		// The Job has created a canary under the new version, and waits to store it.
		release := p.lockMeta()
		running := p.startJob(p.jobs, reencryptArgs(strategy, to)...)
		poll.Eventually(t, noticeTimeout, "the Job to wait for the canary's row", func(context.Context) error {
			if p.count("SELECT count(*) FROM pg_stat_activity WHERE datname = 'notes' AND wait_event_type = 'Lock'") == 0 {
				return errors.New("no session waits")
			}
			return nil
		})
		p.vault.Restore(t, older)
		if another := p.key.Rotate(t); another != to {
			t.Fatalf("the version added by hand is %d, want %d", another, to)
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

// lockMeta locks the row with the canary against writes until release is called.
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
