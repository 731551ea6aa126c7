//go:build bench

package bench

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"text/tabwriter"
	"time"

	"github.com/jackc/pgx/v5"
	"golang.org/x/crypto/bcrypt"
)

const (
	// concurrency is the number of concurrent clients of the service and of each peer.
	concurrency = 16
	// period is the duration of each measurement.
	period = 8 * time.Second
	// noteSize is the size of a note's content, in bytes.
	noteSize = 1024
)

// measured is one measurement: the operations per second, and how long an operation took.
type measured struct {
	rate     float64
	p50, p99 time.Duration
}

// use is the machine's resources that a measurement used.
type use struct {
	service, clients, elapsed time.Duration
	// memory is the service's resident memory, in MiB.
	memory int64
}

// ownTime returns the processor time that this process, which runs the clients, has used so far.
func ownTime(t *testing.T) time.Duration {
	t.Helper()
	var usage syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &usage); err != nil {
		t.Fatal(err)
	}
	return time.Duration(usage.Utime.Nano() + usage.Stime.Nano())
}

// measure runs work in concurrent clients for the period, after a warm-up of a tenth of it.
func measure(t *testing.T, clients int, work func(client, i int) error) measured {
	t.Helper()
	run := func(period time.Duration) (took []time.Duration, elapsed time.Duration) {
		var mu sync.Mutex
		var all sync.WaitGroup
		start := time.Now()
		for client := range clients {
			all.Go(func() {
				var own []time.Duration
				for i := 0; time.Since(start) < period; i++ {
					at := time.Now()
					if err := work(client, i); err != nil {
						t.Error(err)
						return
					}
					own = append(own, time.Since(at))
				}
				mu.Lock()
				defer mu.Unlock()
				took = append(took, own...)
			})
		}
		all.Wait()
		return took, time.Since(start)
	}
	run(period / 10)
	took, elapsed := run(period)
	if t.Failed() || len(took) == 0 {
		t.FailNow()
	}
	slices.Sort(took)
	return measured{
		rate: float64(len(took)) / elapsed.Seconds(),
		p50:  took[len(took)/2], p99: took[len(took)*99/100],
	}
}

// pgbench runs a script with PostgreSQL's own load generator, with the same concurrency.
func (s *service) pgbench(t *testing.T, script string) float64 {
	t.Helper()
	file := filepath.Join(t.TempDir(), "script.sql")
	if err := os.WriteFile(file, []byte(script), 0o600); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(filepath.Join(os.Getenv("SECURENOTES_TEST_POSTGRES"), "pgbench"), "--no-vacuum", "--protocol=prepared",
		"--client", strconv.Itoa(concurrency), "--jobs", strconv.Itoa(runtime.NumCPU()), "--time", strconv.Itoa(int(period.Seconds())),
		"--file", file, s.uri)
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("pgbench: %v: %s", err, out)
	}
	match := regexp.MustCompile(`tps = ([0-9.]+)`).FindSubmatch(out)
	if match == nil {
		t.Fatalf("pgbench printed no rate: %s", out)
	}
	rate, err := strconv.ParseFloat(string(match[1]), 64)
	if err != nil {
		t.Fatal(err)
	}
	return rate
}

// TestBench prints the table.
func TestBench(t *testing.T) {
	s := startService(t)
	var table strings.Builder
	out := tabwriter.NewWriter(&table, 0, 0, 2, ' ', 0)
	fmt.Fprintln(out, "work\tours /s\tp50\tp99\tpeer\tpeer /s\tratio\tgoal\tservice\tclients\tmemory")
	var profiles strings.Builder
	row := func(work string, m measured, peer string, peerRate, goal float64, u use) {
		fmt.Fprintf(out, "%s\t%.0f\t%.1f ms\t%.1f ms\t%s\t%.0f\t%.2f\t%.2f\t%.2f cores\t%.2f cores\t%d MiB\n", work, m.rate,
			float64(m.p50.Microseconds())/1000, float64(m.p99.Microseconds())/1000, peer, peerRate, m.rate/peerRate, goal,
			u.service.Seconds()/u.elapsed.Seconds(), u.clients.Seconds()/u.elapsed.Seconds(), u.memory)
	}
	ours := func(work string, clients int, do func(client, i int) error) (m measured, u use) {
		start, before := time.Now(), ownTime(t)
		serviceBefore, _ := s.usage(t)
		profile := s.profiled(t, func() {
			m = measure(t, clients, do)
			u.elapsed, u.clients = time.Since(start), ownTime(t)-before
		})
		after, memory := s.usage(t)
		u.service, u.memory = after-serviceBefore, memory
		fmt.Fprintf(&profiles, "%s: where the service's processor time goes\n%s\n", work, profile)
		return m, u
	}

	users := make([]string, concurrency)
	const password = "correct horse battery"
	name := func(client int) string { return fmt.Sprintf("bench-user-%d", client) }
	for client := range users {
		if err := s.client.Register(t.Context(), name(client), password); err != nil {
			t.Fatal(err)
		}
		login, err := s.client.Login(t.Context(), name(client), password)
		if err != nil {
			t.Fatal(err)
		}
		users[client] = login.Token
	}

	const hashes = 8
	start := time.Now()
	for range hashes {
		if _, err := bcrypt.GenerateFromPassword([]byte(password), bcryptCost); err != nil {
			t.Fatal(err)
		}
	}
	oneHash := time.Since(start) / hashes
	logins, used := ours("login", 2*runtime.NumCPU(), func(client, _ int) error {
		_, err := s.client.Login(t.Context(), name(client), password)
		return err
	})
	row("login", logins, "cores / bcrypt", float64(runtime.NumCPU())/oneHash.Seconds(), 0.95, used)

	connections, creates := make([]*connection, concurrency), make([][]byte, concurrency)
	note := `{"content":"` + strings.Repeat("x", noteSize) + `"}`
	for client := range users {
		connections[client] = connect(t, s.process.Address, s.process.Pool)
		creates[client] = request("POST", "/api/notes", users[client], note)
	}
	last := make([][]byte, concurrency)
	create, creating := ours("create", concurrency, func(client, _ int) error {
		answer, err := connections[client].do(creates[client], 201)
		last[client] = append(last[client][:0], answer...)
		return err
	})
	reads := make([][]byte, concurrency)
	for client := range users {
		var created struct{ ID string }
		if err := json.Unmarshal(last[client], &created); err != nil {
			t.Fatal(err)
		}
		reads[client] = request("GET", "/api/notes/"+created.ID, users[client], "")
	}
	owner, key, id := s.anyNote(t)
	row("create", create, "pgbench INSERT", s.pgbench(t, fmt.Sprintf(`INSERT INTO notes (owner, id, key_id, revision, content, created_at, updated_at)
		VALUES ('%s', gen_random_uuid(), '%s', 1, decode('01' || repeat('ab', %d), 'hex'), 0, 0);`, owner, key, noteSize+28)), 0.8, creating)
	read, reading := ours("read", concurrency, func(client, _ int) error {
		_, err := connections[client].do(reads[client], 200)
		return err
	})
	row("read", read, "pgbench SELECT", s.pgbench(t, fmt.Sprintf(`SELECT n.*, k.wrapped FROM sessions s
		LEFT JOIN notes n ON n.owner = s.owner AND n.id = '%s' LEFT JOIN owner_keys k ON k.owner = n.owner AND k.id = n.key_id
		WHERE s.owner = '%s' LIMIT 1;`, id, owner)), 0.5, reading)

	kv := s.vault.Client(t).KVv2("secret")
	data := map[string]any{"content": strings.Repeat("x", noteSize)}
	write := measure(t, concurrency, func(client, i int) error {
		_, err := kv.Put(context.Background(), fmt.Sprintf("bench/%d/%d", client, i), data)
		return err
	})
	row("create", create, "Vault KV v2 write", write.rate, 3, creating)
	get := measure(t, concurrency, func(client, _ int) error {
		_, err := kv.Get(context.Background(), fmt.Sprintf("bench/%d/0", client))
		return err
	})
	row("read", read, "Vault KV v2 read", get.rate, 2, reading)

	if flaskInstalled() {
		row("read", read, "Flask's own server", flaskReads(t, true).rate, 20, reading)
		row("read", read, "Flask under gunicorn", flaskReads(t, false).rate, 1, reading)
	} else {
		fmt.Println("not measured: Flask; it needs Debian packages gunicorn python3-flask python3-jwt python3-cryptography")
	}

	if err := out.Flush(); err != nil {
		t.Fatal(err)
	}
	fmt.Printf("\n%d clients, %s each, notes of %d bytes, %d cores shared by clients, service, PostgreSQL and peers\n\n%s\n%s",
		concurrency, period, noteSize, runtime.NumCPU(), table.String(), profiles.String())
}

// anyNote returns an owner with an active key, and a note under that key.
func (s *service) anyNote(t *testing.T) (owner, key, id string) {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), s.uri)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(context.Background())
	if err := conn.QueryRow(t.Context(), "SELECT owner::text, key_id, id::text FROM notes LIMIT 1").Scan(&owner, &key, &id); err != nil {
		t.Fatal(err)
	}
	return owner, key, id
}
