//go:build integration

package chaos_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/url"
	"os/exec"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/securenotes/securenotes/app/config"
	"github.com/securenotes/securenotes/hack/chaos"
	"github.com/securenotes/securenotes/hack/notesclient"
	"github.com/securenotes/securenotes/hack/testenv"
)

// world is two replicas of the service, rotation Jobs, one PostgreSQL and one Vault. Replicas and
// Jobs have separate links to PostgreSQL. All are real processes, and each can be killed.
type world struct {
	testing.TB
	shape    shape
	program  testenv.Program
	postgres *testenv.Postgres
	vault    *testenv.Vault
	key      *testenv.TransitKey
	database string
	// logins is the role with which Vault creates logins. If nil, every process logs in as the
	// superuser.
	logins   *testenv.DatabaseRole
	replicas [2]replica
	// held is the replica that gets no answers of the database for a whole rotation; nil: none.
	held *replica
	// holding is how many links are held for a whole rotation.
	holding int
	// jobs and sleeper are the routes of Jobs to the database.
	jobs, sleeper way
	seed          uint64
	// random is the source for the current activity; see dice.
	random    *rand.Rand
	load      *chaos.Load
	rotations int
	faults    map[string]int
}

// way is a link, and the configuration that uses it.
type way struct {
	link   *testenv.Link
	config *config.Config
	file   string
}

type replica struct {
	way
	service *testenv.Service
}

// shape are the options of a world.
type shape struct {
	users, newcomers int
	// jobDelay is the delay of the database's answers to Jobs.
	jobDelay time.Duration
	// lease is the lease of the database logins that Vault creates; 0: Vault creates none.
	lease time.Duration
	// holdEvery is after how many rotations a replica is disconnected from the database; 0: never.
	holdEvery int
	// prepare changes the database.
	prepare func(*world)
}

// newServers returns a world without replicas and load.
func newServers(t testing.TB, program testenv.Program, s shape) *world {
	t.Helper()
	w := &world{TB: t, shape: s, program: program, postgres: testenv.StartPostgres(t), vault: testenv.StartVault(t), faults: map[string]int{}}
	w.key = w.vault.CreateTransitKey(t)
	w.key.StoreSecrets(t)
	if s.lease > 0 {
		w.logins = w.vault.CreateDatabaseRole(t, w.postgres, w.key.Config.TransitKey, s.lease)
		w.database = w.postgres.URI("notes")
	} else {
		w.database = w.postgres.CreateDatabase(t, "notes")
	}
	w.jobs, w.sleeper = w.way(), w.way()
	if out, err := program.Command(t.Context(), "migrate", "--config", w.jobs.file).CombinedOutput(); err != nil {
		t.Fatalf("migrate: %v: %s", err, out)
	}
	if s.prepare != nil {
		s.prepare(w)
	}
	return w
}

func newWorld(t testing.TB, program testenv.Program, seed uint64, s shape) *world {
	t.Helper()
	w := newServers(t, program, s)
	w.seed = seed
	w.jobs.link.Delay(s.jobDelay)
	var replicas []*notesclient.Client
	for i := range w.replicas {
		r := &w.replicas[i]
		r.way = w.way()
		r.service = program.StartService(t, r.config)
		replicas = append(replicas, clientOf(t, r.service))
	}
	load, err := chaos.Start(t.Context(), chaos.Options{
		Replicas: replicas, Seed: seed, Users: s.users, Notes: 12, Newcomers: s.newcomers, MaxAccounts: 300, Pause: 2 * time.Millisecond,
	})
	if err != nil {
		t.Fatal(err)
	}
	w.load = load
	t.Cleanup(load.End)
	return w
}

// clientTimeout exceeds the service's own timeouts, including those for a server that does not
// answer.
const clientTimeout = 40 * time.Second

// clientOf returns a client of one process, without a session.
func clientOf(t testing.TB, s *testenv.Service) *notesclient.Client {
	c := notesclient.New(s.URL, notesclient.Options{RootCAs: s.Pool, Timeout: clientTimeout})
	t.Cleanup(c.Close)
	return c
}

func (w *world) way() way {
	w.Helper()
	uri, err := url.Parse(w.database)
	if err != nil {
		w.Fatal(err)
	}
	link := testenv.NewLink(w, uri.Host)
	uri.Host = link.Address()
	if w.logins != nil {
		uri.User = nil
	}
	c := testenv.ServiceConfig(w, uri.String(), w.postgres.CAFile, w.key)
	if w.logins != nil {
		c.Database.Postgres.VaultCredentials = &w.logins.Credentials
	}
	return way{link: link, config: c, file: testenv.WriteConfig(w, c)}
}

// execute runs statements as the database's superuser.
func (w *world) execute(sql string, args ...any) {
	w.Helper()
	conn := w.connect()
	defer conn.Close(context.Background())
	if _, err := conn.Exec(context.Background(), sql, args...); err != nil {
		w.Fatal(err)
	}
}

func (w *world) count(sql string, args ...any) (n int) {
	w.Helper()
	conn := w.connect()
	defer conn.Close(context.Background())
	if err := conn.QueryRow(context.Background(), sql, args...).Scan(&n); err != nil {
		w.Fatal(err)
	}
	return n
}

func (w *world) connect() *pgx.Conn {
	w.Helper()
	conn, err := pgx.Connect(context.Background(), w.database)
	if err != nil {
		w.Fatal(err)
	}
	return conn
}

// say logs an action. The log is shown if the test fails.
func (w *world) say(format string, args ...any) {
	w.Logf(time.Now().UTC().Format("15:04:05.000 ")+format, args...)
}

// violated reports whether an impossible result was found.
func (w *world) violated() bool {
	_, all := w.load.Violations()
	return all > 0
}

// job is one process of the binary.
type job struct {
	command *exec.Cmd
	out     bytes.Buffer
	done    chan error
}

func (w *world) startJob(through way, args ...string) *job {
	w.Helper()
	j := &job{command: w.program.Command(context.Background(), append(args, "--config", through.file)...), done: make(chan error, 1)}
	j.command.Stdout, j.command.Stderr = &j.out, &j.out
	if err := j.command.Start(); err != nil {
		w.Fatal(err)
	}
	go func() { j.done <- j.command.Wait() }()
	w.Cleanup(j.kill)
	return j
}

func (j *job) kill() { _ = j.command.Process.Kill() }

// exit waits until a Job ends and returns its exit code, or -1 if it was killed.
func (w *world) exit(j *job) int {
	w.Helper()
	select {
	case err := <-j.done:
		j.done <- err // for another call of exit
		if failed, ok := errors.AsType[*exec.ExitError](err); ok {
			return failed.ExitCode()
		}
		if err != nil {
			w.Fatal(err)
		}
		return 0
	case <-time.After(2 * time.Minute):
		w.Fatalf("the Job does not end: %v\n%s", j.command.Args, j.out.String())
		return 0
	}
}

func (j *job) ended() bool { return len(j.done) > 0 }

// reencryptArgs returns arguments of a Job that does not give way to users. Users who never pause
// would make each rotation long, but the test needs many rotations.
func reencryptArgs(strategy string, to int) []string {
	return []string{"reencrypt", "--urgent", "--strategy", strategy, "--to-version", strconv.Itoa(to)}
}

func verifyArgs(strategy string, to int) []string {
	return []string{"verify", "--all", "--strategy", strategy, "--to-version", strconv.Itoa(to)}
}

// fault is a fault that is over when its function returns.
type fault struct {
	name   string
	strike func(w *world, running *job)
}

// hold closes one direction of a link until release is called. release must be called once.
func (w *world) hold(direction func() (release func())) (release func()) {
	open := direction()
	w.holding++
	return sync.OnceFunc(func() {
		open()
		w.holding--
	})
}

// dice returns a random source for the decision with a number. Its values depend only on that
// number and on the seed, and not on how many random values were used before, which depends on
// timing.
func (w *world) dice(number uint64) *rand.Rand { return rand.New(rand.NewPCG(w.seed, number)) }

// another returns a replica that faults may affect now.
func (w *world) another() *replica {
	for {
		if r := &w.replicas[w.random.IntN(len(w.replicas))]; r != w.held {
			return r
		}
	}
}

// pause waits for a random time, which is the duration of a fault.
func (w *world) pause(from, to time.Duration) {
	time.Sleep(from + time.Duration(w.random.Int64N(int64(to-from))))
}

var faults = []fault{
	{"a Job is killed", func(_ *world, running *job) { running.kill() }},
	{"a Job gets no answers from the database", func(w *world, _ *job) {
		release := w.jobs.link.Hold()
		defer release()
		w.pause(20*time.Millisecond, 200*time.Millisecond)
	}},
	{"a replica gets no answers from the database", func(w *world, _ *job) {
		release := w.another().link.Hold()
		defer release()
		w.pause(100*time.Millisecond, time.Second)
	}},
	{"a replica is killed", func(w *world, _ *job) {
		r := w.another()
		r.service.Kill(w)
		r.service = w.program.BeginService(w, r.config)
		r.service.Await(w)
	}},
	{"Vault is sealed", func(w *world, _ *job) {
		w.vault.Seal(w)
		w.pause(50*time.Millisecond, 500*time.Millisecond)
		w.vault.Unseal(w)
	}},
	{"the database crashes", func(w *world, _ *job) {
		if w.holding > 0 {
			return // the process would wait for clients that do not receive its answers
		}
		w.postgres.Stop(w)
		w.postgres.Start(w)
	}},
	{"every database login is revoked", func(w *world, _ *job) {
		if w.logins == nil {
			return
		}
		if err := w.logins.Revoke(w); err != nil {
			w.Errorf("revoke: %v", err)
		}
	}},
	{"a Job runs twice", func(w *world, running *job) {
		second := w.startJob(w.jobs, running.command.Args[1:len(running.command.Args)-2]...)
		if code := w.exit(second); code != 0 && code != config.ExitRetryable {
			w.load.End()
			w.Errorf("the second of two Jobs ended with %d:\n%s", code, second.out.String())
		}
	}},
}

// strikeAt causes some faults, one after another, while a Job runs.
func (w *world) strikeAt(running *job, number uint64) {
	w.random = w.dice(number)
	for range w.random.IntN(3) {
		f := faults[w.random.IntN(len(faults))]
		if running.ended() {
			return
		}
		w.faults[f.name]++
		begun := time.Now()
		f.strike(w, running)
		w.say("%s, for %s", f.name, time.Since(begun).Round(time.Millisecond))
	}
}

// faultyAttempts is how many runs of a Job are disturbed by faults; the next ones have to succeed.
const faultyAttempts = 5

// untilDone runs a Job, with faults, until a run succeeds, as the Job controller does. It returns
// the output of the last run, and false if no run succeeded.
func (w *world) untilDone(args []string) (string, bool) {
	w.Helper()
	number := uint64(w.rotations) << 8
	if args[0] == "verify" {
		number |= 1 << 7
	}
	for attempt := 0; ; attempt++ {
		j := w.startJob(w.jobs, args...)
		if attempt < faultyAttempts {
			w.strikeAt(j, number|uint64(attempt+1))
		}
		code := w.exit(j)
		w.say("%s to version %d: exit code %d", args[0], w.rotations+1, code)
		switch {
		case code == 0:
			return "", true
		case code == config.ExitSuperseded, code == config.ExitConfiguration:
			w.Fatalf("%v ended with %d:\n%s", args, code, j.out.String())
		case attempt == faultyAttempts+2:
			return fmt.Sprintf("%v does not succeed:\n%s", args, j.out.String()), false
		}
	}
}
