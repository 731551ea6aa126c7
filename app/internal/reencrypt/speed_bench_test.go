//go:build bench

package reencrypt_test

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"text/tabwriter"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/securenotes/securenotes/app/config"
	"github.com/securenotes/securenotes/app/internal/storetest"
	"github.com/securenotes/securenotes/hack/testenv"
)

const (
	// notesVariable overrides the number of notes, for a shorter measurement.
	notesVariable = "SECURENOTES_BENCH_NOTES"
	// benchUsers send requests continuously, with a pause between two of them.
	benchUsers, userPause = 4, 5 * time.Millisecond
	// watch is how long users' latency is measured in each of the rounds. One round is too few,
	// because other load on the host of a virtual machine varies. A Job notices users during
	// arrival, which is not measured.
	watch, rounds, arrival = 10 * time.Second, 5, time.Second
)

// bench is one deployment with many notes, on real servers.
type bench struct {
	*testing.T
	program  testenv.Program
	postgres *testenv.Postgres
	vault    *testenv.Vault
	key      *testenv.TransitKey
	config   *config.Config
	file     string
	// calls counts the calls of Vault's Transit engine.
	calls   testenv.TransitCalls
	version int
	notes   int
}

func newBench(t *testing.T, program testenv.Program, count int) *bench {
	t.Helper()
	b := &bench{T: t, program: program, postgres: testenv.StartPostgres(t), vault: testenv.StartVault(t), version: 1, notes: count}
	b.key = b.vault.CreateTransitKey(t)
	b.key.StoreSecrets(t)
	b.config = testenv.ServiceConfig(t, b.postgres.CreateDatabase(t, "notes"), b.postgres.CAFile, b.key)
	b.file = testenv.WriteConfig(t, b.config)
	b.calls = b.vault.CountTransitCalls(t)
	storetest.FillNotes(t, b.config, b.postgres.URI("notes"), count)
	return b
}

func (b *bench) connect(database string) *pgx.Conn {
	b.Helper()
	conn, err := pgx.Connect(ctx, b.postgres.URI(database))
	if err != nil {
		b.Fatal(err)
	}
	return conn
}

func (b *bench) execute(conn *pgx.Conn, sql string) {
	b.Helper()
	if _, err := conn.Exec(ctx, sql); err != nil {
		b.Fatal(err)
	}
}

// update measures the baseline on a copy of the database: one statement that rewrites every note
// and sets its key.
func (b *bench) update() time.Duration {
	b.Helper()
	admin := b.connect("postgres")
	defer admin.Close(ctx)
	b.execute(admin, "CREATE DATABASE peer TEMPLATE notes")
	conn := b.connect("peer")
	b.execute(conn, `INSERT INTO owner_keys SELECT owner, 'next-' || id, kek_version, born_version, wrapped, 'retiring', created_at FROM owner_keys`)
	b.execute(conn, "ANALYZE owner_keys")
	b.execute(conn, "CHECKPOINT")
	begun := time.Now()
	b.execute(conn, "UPDATE notes n SET key_id = 'next-' || n.key_id, content = n.content")
	took := time.Since(begun)
	if err := conn.Close(ctx); err != nil {
		b.Fatal(err)
	}
	b.execute(admin, "DROP DATABASE peer")
	b.execute(admin, "CHECKPOINT")
	return took
}

// rotation is the cost of one rotation.
type rotation struct {
	took time.Duration
	// memory is the Job's maximum resident set in MiB, and processor its processor time.
	memory    int64
	processor time.Duration
	// calls is the number of calls of Vault's master key.
	calls int
}

// rotate runs one Job to its end.
func (b *bench) rotate(strategy string, flags ...string) rotation {
	b.Helper()
	before := b.calls.Count(b)
	job, begun := b.begin(strategy, flags...), time.Now()
	if err := job.Wait(); err != nil {
		b.Fatalf("reencrypt: %v: %s", err, job.Stderr)
	}
	took := time.Since(begun)
	usage, ok := job.ProcessState.SysUsage().(*syscall.Rusage)
	if !ok {
		b.Fatal("no usage")
	}
	return rotation{
		took: took, memory: usage.Maxrss >> 10, processor: job.ProcessState.UserTime() + job.ProcessState.SystemTime(),
		calls: b.calls.Count(b) - before,
	}
}

// compared is users' latency without and during a rotation. The two alternate in each round,
// because the speed of the machine drifts.
type compared struct {
	strategy      string
	alone, during []time.Duration
	// requests is how many requests ran during the rotation, in all rounds.
	requests int
	// speed is how many notes per second the rotation moved while users were at work, in each
	// round.
	speed []float64
}

// ratio returns the median of the rounds' ratios.
func (c compared) ratio() float64 {
	ratios := make([]float64, len(c.alone))
	for i := range ratios {
		ratios[i] = c.during[i].Seconds() / c.alone[i].Seconds()
	}
	return median(ratios)
}

func median(of []float64) float64 {
	slices.Sort(of)
	return of[len(of)/2]
}

func (b *bench) compare(s *testenv.Service, tokens []string, strategy string) compared {
	b.Helper()
	c := compared{strategy: strategy}
	admin := b.connect("notes")
	defer admin.Close(ctx)
	for range rounds {
		// Exclude the cleanup that an earlier rotation has left.
		b.execute(admin, "VACUUM (ANALYZE)")
		b.execute(admin, "CHECKPOINT")
		syscall.Sync() // and the writes that the system has yet to make
		alone, _ := b.users(s, tokens, watch)
		during, requests, speed := b.usersDuring(s, tokens, strategy, admin)
		c.alone, c.during, c.requests, c.speed = append(c.alone, alone), append(c.during, during), c.requests+requests, append(c.speed, speed)
	}
	return c
}

// usersDuring measures users' latency during a Job that is still moving notes when they stop, and
// how many notes per second the Job moves.
func (b *bench) usersDuring(s *testenv.Service, tokens []string, strategy string, admin *pgx.Conn) (p99 time.Duration, requests int, speed float64) {
	b.Helper()
	job := b.begin(strategy)
	ended := make(chan error, 1)
	go func() { ended <- job.Wait() }()
	for moves := false; !moves; time.Sleep(time.Millisecond) {
		if err := admin.QueryRow(ctx, "SELECT EXISTS (SELECT FROM owner_keys WHERE kek_version >= $1)", b.version).Scan(&moves); err != nil {
			b.Fatal(err)
		}
		select {
		case err := <-ended:
			b.Fatalf("%s ended before it had users: %v: %s", strategy, err, job.Stderr)
		default:
		}
	}
	b.users(s, tokens, arrival)
	begun := time.Now()
	p99, requests = b.users(s, tokens, watch)
	select {
	case err := <-ended:
		b.Fatalf("%s ended before the latency was measured: %v: %s", strategy, err, job.Stderr)
	default:
	}
	if err := job.Process.Kill(); err != nil {
		b.Fatal(err)
	}
	<-ended
	return p99, requests, b.speed(job, begun)
}

// speed returns how many notes per second a Job has moved since then, from its log.
func (b *bench) speed(job *exec.Cmd, begun time.Time) float64 {
	b.Helper()
	type progress struct {
		Time time.Time `json:"time"`
		Rows *float64  `json:"rows"`
	}
	var lines []progress
	for text := range strings.Lines(job.Stderr.(*bytes.Buffer).String()) {
		var line progress
		if err := json.Unmarshal([]byte(text), &line); err != nil {
			b.Fatalf("%v: %s", err, text)
		}
		if line.Rows != nil && line.Time.After(begun) {
			lines = append(lines, line)
		}
	}
	if len(lines) < 2 {
		b.Fatalf("the Job logged too little progress: %s", job.Stderr)
	}
	first, last := lines[0], lines[len(lines)-1]
	return (*last.Rows - *first.Rows) / last.Time.Sub(first.Time).Seconds()
}

func (b *bench) begin(strategy string, flags ...string) *exec.Cmd {
	b.Helper()
	b.version = b.key.Rotate(b)
	job := b.program.Command(context.Background(), append([]string{"reencrypt", "--config", b.file, "--strategy", strategy,
		"--to-version", strconv.Itoa(b.version)}, flags...)...)
	job.Stderr = &bytes.Buffer{}
	if err := job.Start(); err != nil {
		b.Fatal(err)
	}
	return job
}

// users writes and reads notes for a while and returns the 99th percentile of the latency.
func (b *bench) users(s *testenv.Service, tokens []string, watch time.Duration) (p99 time.Duration, requests int) {
	b.Helper()
	client := &http.Client{Timeout: time.Minute, Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: s.Pool}, MaxIdleConnsPerHost: benchUsers}}
	defer client.CloseIdleConnections()
	var mu sync.Mutex
	var all sync.WaitGroup
	var took []time.Duration
	begun := time.Now()
	body := `{"content":"` + strings.Repeat("n", storetest.NoteSize) + `"}`
	for _, token := range tokens {
		all.Go(func() {
			id := ""
			for i := 0; time.Since(begun) < watch; i++ {
				method, path, sent, want := http.MethodPost, "/api/notes", body, http.StatusCreated
				if i%4 != 0 {
					method, path, sent, want = http.MethodGet, "/api/notes/"+id, "", http.StatusOK
				}
				at := time.Now()
				answer, err := call(client, s.URL, method, path, token, sent, want)
				if err != nil {
					b.Error(err)
					return
				}
				mu.Lock()
				took = append(took, time.Since(at))
				mu.Unlock()
				if i%4 == 0 {
					id = answer["id"].(string)
				}
				time.Sleep(userPause)
			}
		})
	}
	all.Wait()
	if b.Failed() || len(took) == 0 {
		b.FailNow()
	}
	slices.Sort(took)
	return took[len(took)*99/100], len(took)
}

func call(client *http.Client, url, method, path, token, body string, want int) (map[string]any, error) {
	request, err := http.NewRequestWithContext(ctx, method, url+path, strings.NewReader(body))
	if err != nil {
		return nil, err
	}
	request.Header.Set("Content-Type", "application/json")
	if token != "" {
		request.Header.Set("Authorization", "Bearer "+token)
	}
	response, err := client.Do(request)
	if err != nil {
		return nil, err
	}
	defer response.Body.Close()
	raw, err := io.ReadAll(response.Body)
	if err == nil && response.StatusCode != want {
		err = fmt.Errorf("%s %s: status %d: %s", method, path, response.StatusCode, raw)
	}
	if err != nil {
		return nil, err
	}
	answer := map[string]any{}
	return answer, json.Unmarshal(raw, &answer)
}

func (b *bench) signIn(s *testenv.Service) (tokens []string) {
	b.Helper()
	client := &http.Client{Timeout: time.Minute, Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: s.Pool}}}
	for i := range benchUsers {
		account := fmt.Sprintf(`{"username":"user-%d-%d","password":"correct horse battery"}`, b.version, i)
		_, err := call(client, s.URL, http.MethodPost, "/api/auth/register", "", account, http.StatusCreated)
		if err != nil {
			b.Fatal(err)
		}
		answer, err := call(client, s.URL, http.MethodPost, "/api/auth/login", "", account, http.StatusOK)
		if err != nil {
			b.Fatal(err)
		}
		tokens = append(tokens, answer["token"].(string))
	}
	return tokens
}

// TestBenchRotation measures a rotation of many notes against one UPDATE of the same rows, its
// memory against that for a hundredth of the notes, and its effect on users.
func TestBenchRotation(t *testing.T) {
	count := 1_000_000
	if text := os.Getenv(notesVariable); text != "" {
		var err error
		if count, err = strconv.Atoi(text); err != nil {
			t.Fatalf("%s: %v", notesVariable, err)
		}
	}
	program := testenv.BuildProgram(t, t.TempDir())
	small := newBench(t, program, max(count/100, storetest.NotesPerOwner))
	smallReencrypted, smallRewrapped := small.rotate("Reencrypt", "--urgent"), small.rotate("Rewrap", "--urgent")

	b := newBench(t, program, count)
	peer := b.update()
	reencrypted := b.rotate("Reencrypt", "--urgent")
	rewrapped := b.rotate("Rewrap", "--urgent")
	service := program.StartService(t, b.config)
	tokens := b.signIn(service)
	b.users(service, tokens, watch) // warm up
	results := []compared{b.compare(service, tokens, "Reencrypt"), b.compare(service, tokens, "Rewrap")}

	fmt.Printf("\n%d notes of %d bytes of %d owners; Job, PostgreSQL, Vault and users share this machine\n", count, storetest.NoteSize, count/storetest.NotesPerOwner)
	w := tabwriter.NewWriter(os.Stdout, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "work\ttook\tnotes/s\tratio\tgoal\tJob's processor\tJob's memory\tVault calls")
	row := func(name string, notes int, r rotation, goal string) {
		ratio := ""
		if notes == count {
			ratio = fmt.Sprintf("%.2f", r.took.Seconds()/peer.Seconds())
		}
		fmt.Fprintf(w, "%s\t%s\t%.0f\t%s\t%s\t%s\t%d MiB\t%d\n", name, r.took.Round(10*time.Millisecond),
			float64(notes)/r.took.Seconds(), ratio, goal, r.processor.Round(10*time.Millisecond), r.memory, r.calls)
	}
	fmt.Fprintf(w, "one UPDATE\t%s\t%.0f\t1\t\t\t\t\n", peer.Round(10*time.Millisecond), float64(count)/peer.Seconds())
	row("Reencrypt", count, reencrypted, "1.50")
	row("Rewrap", count, rewrapped, "")
	row("Reencrypt, a hundredth", small.notes, smallReencrypted, "")
	row("Rewrap, a hundredth", small.notes, smallRewrapped, "")
	if err := w.Flush(); err != nil {
		t.Fatal(err)
	}
	fmt.Fprintf(w, "\nusers' p99\twithout\tduring it\tratio\tgoal\trequests during it\tnotes/s with users\n")
	for _, c := range results {
		fmt.Fprintf(w, "routine %s\t%s\t%s\t%.2f\t1.25\t%d\t%.0f\n", c.strategy, milliseconds(c.alone), milliseconds(c.during), c.ratio(), c.requests, median(c.speed))
	}
	if err := w.Flush(); err != nil {
		t.Fatal(err)
	}
}

// milliseconds returns the durations of the rounds as text.
func milliseconds(list []time.Duration) string {
	var text []string
	for _, d := range list {
		text = append(text, fmt.Sprintf("%.2f", d.Seconds()*1000))
	}
	return strings.Join(text, ", ") + " ms"
}
