//go:build bench

package backup_test

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"text/tabwriter"
	"time"

	"filippo.io/age"
	"github.com/jackc/pgx/v5"

	"github.com/securenotes/securenotes/app/config"
	"github.com/securenotes/securenotes/app/internal/storetest"
	"github.com/securenotes/securenotes/hack/testenv"
)

// notesVariable overrides the number of notes, for a shorter measurement.
const notesVariable = "SECURENOTES_BENCH_NOTES"

// bench is one deployment with many notes, on real servers, and a directory for its backups.
type bench struct {
	*testing.T
	program  testenv.Program
	postgres *testenv.Postgres
	vault    *testenv.Vault
	config   *config.Config
	// calls counts the calls of Vault's Transit engine.
	calls testenv.TransitCalls
	// identity is the file of the age identity that opens the backups.
	identity string
	dir      string
}

func newBench(t *testing.T, program testenv.Program, count int) *bench {
	t.Helper()
	b := &bench{T: t, program: program, postgres: testenv.StartPostgres(t), vault: testenv.StartVault(t), dir: t.TempDir()}
	key := b.vault.CreateTransitKey(t)
	key.StoreSecrets(t)
	key.AllowBackups(t)
	b.config = testenv.ServiceConfig(t, b.postgres.CreateDatabase(t, "notes"), b.postgres.CAFile, key)
	identity, err := age.GenerateX25519Identity()
	if err != nil {
		t.Fatal(err)
	}
	b.identity = filepath.Join(b.dir, "identity")
	if err := os.WriteFile(b.identity, []byte(identity.String()), 0o600); err != nil {
		t.Fatal(err)
	}
	b.config.Backup = &config.Backup{SecureNotesUID: "uid", Recipients: []string{identity.Recipient().String()}}
	b.calls = b.vault.CountTransitCalls(t)
	storetest.FillNotes(t, b.config, b.postgres.URI("notes"), count)
	return b
}

// cost is the cost of one process.
type cost struct {
	took, processor time.Duration
	// memory is the maximum resident set in MiB.
	memory int64
	// calls is the number of calls of Vault's Transit engine.
	calls int
	// size is the size of what it wrote, in bytes; 0: not measured.
	size int64
}

// measure runs a command to its end, after everything that was written before is on disk.
func (b *bench) measure(command *exec.Cmd) cost {
	b.Helper()
	conn, err := pgx.Connect(context.Background(), b.postgres.URI("postgres"))
	if err != nil {
		b.Fatal(err)
	}
	if _, err := conn.Exec(context.Background(), "CHECKPOINT"); err != nil {
		b.Fatal(err)
	}
	if err := conn.Close(context.Background()); err != nil {
		b.Fatal(err)
	}
	syscall.Sync()
	calls := b.calls.Count(b)
	var output bytes.Buffer
	command.Stdout, command.Stderr = &output, &output
	begun := time.Now()
	if err := command.Run(); err != nil {
		b.Fatalf("%v: %v: %s", command.Args, err, &output)
	}
	took := time.Since(begun)
	usage, ok := command.ProcessState.SysUsage().(*syscall.Rusage)
	if !ok {
		b.Fatal("no usage")
	}
	return cost{
		took: took, processor: command.ProcessState.UserTime() + command.ProcessState.SystemTime(),
		memory: usage.Maxrss >> 10, calls: b.calls.Count(b) - calls,
	}
}

// backup measures one backup and returns the path of its manifest.
func (b *bench) backup(escrow bool) (c cost, manifest string) {
	b.Helper()
	full, settings := *b.config, *b.config.Backup
	full.Backup = &settings
	if escrow {
		settings.Escrow = &config.Escrow{Recipients: settings.Recipients}
	}
	settings.Destination = config.Destination{Directory: &config.Directory{Path: b.TempDir()}}
	c = b.measure(b.program.Command(context.Background(), "backup", "--config", testenv.WriteConfig(b.T, &full)))
	written, err := filepath.Glob(settings.Destination.Directory.Path + "/*")
	if err != nil {
		b.Fatal(err)
	}
	for _, file := range written {
		info, err := os.Stat(file)
		if err != nil {
			b.Fatal(err)
		}
		c.size += info.Size()
		if strings.HasSuffix(file, ".manifest.json") {
			manifest = file
		}
	}
	if manifest == "" {
		b.Fatalf("no manifest in %v", written)
	}
	return c, manifest
}

// restore measures one restore into a new database.
func (b *bench) restore(database, manifest string) cost {
	b.Helper()
	full, settings := *b.config, *b.config.Backup
	full.Backup = &settings
	settings.Destination = config.Destination{Directory: &config.Directory{Path: filepath.Dir(manifest)}}
	full.Database = testenv.ServiceConfig(b.T, b.postgres.CreateDatabase(b.T, database), b.postgres.CAFile, &testenv.TransitKey{}).Database
	return b.measure(b.program.Command(context.Background(), "restore", "--config", testenv.WriteConfig(b.T, &full),
		"--identity", b.identity, manifest))
}

// postgresTool returns a command that runs one of PostgreSQL's programs.
func postgresTool(name string, args ...string) *exec.Cmd {
	return exec.Command(filepath.Join(os.Getenv("SECURENOTES_TEST_POSTGRES"), name), args...)
}

// count returns the number of notes in a database.
func (b *bench) count(database string) (count int) {
	b.Helper()
	conn, err := pgx.Connect(context.Background(), b.postgres.URI(database))
	if err != nil {
		b.Fatal(err)
	}
	defer conn.Close(context.Background())
	if err := conn.QueryRow(context.Background(), "SELECT count(*) FROM notes").Scan(&count); err != nil {
		b.Fatal(err)
	}
	return count
}

// TestBenchBackup measures a backup and a restore of many notes against pg_dump and pg_restore of
// the same rows, and their memory against that for a hundredth of the notes.
func TestBenchBackup(t *testing.T) {
	count := 1_000_000
	if text := os.Getenv(notesVariable); text != "" {
		var err error
		if count, err = strconv.Atoi(text); err != nil {
			t.Fatalf("%s: %v", notesVariable, err)
		}
	}
	program := testenv.BuildProgram(t, t.TempDir())
	few := max(count/100, storetest.NotesPerOwner)
	small := newBench(t, program, few)
	smallBackup, smallManifest := small.backup(true)
	smallRestore := small.restore("restored", smallManifest)

	b := newBench(t, program, count)
	dump := filepath.Join(b.dir, "notes.dump")
	dumped := b.measure(postgresTool("pg_dump", "-Fc", "--file", dump, "--dbname", b.postgres.URI("notes")))
	info, err := os.Stat(dump)
	if err != nil {
		t.Fatal(err)
	}
	dumped.size = info.Size()
	backup, manifest := b.backup(false)
	escrowed, _ := b.backup(true)
	reloaded := b.measure(postgresTool("pg_restore", "--dbname", b.postgres.CreateDatabase(t, "peer"), dump))
	restored := b.restore("restored", manifest)
	for _, database := range []string{"peer", "restored"} {
		if got := b.count(database); got != count {
			t.Errorf("%s has %d notes, want %d", database, got, count)
		}
	}

	fmt.Printf("\n%d notes of %d bytes of %d owners; the program, PostgreSQL and Vault share this machine\n", count, storetest.NoteSize, count/storetest.NotesPerOwner)
	w := tabwriter.NewWriter(os.Stdout, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "work\ttook\tnotes/s\tratio\tgoal\tprocessor\tmemory\tgoal\tVault calls\tsize")
	row := func(name string, notes int, c cost, peer *cost) {
		ratio, goal, memory := "", "", ""
		if peer != nil {
			ratio, goal, memory = fmt.Sprintf("%.2f", c.took.Seconds()/peer.took.Seconds()), "1.50", "128 MiB"
		}
		size := ""
		if c.size > 0 {
			size = fmt.Sprintf("%d MB", c.size/1_000_000)
		}
		fmt.Fprintf(w, "%s\t%s\t%.0f\t%s\t%s\t%s\t%d MiB\t%s\t%d\t%s\n", name, c.took.Round(10*time.Millisecond),
			float64(notes)/c.took.Seconds(), ratio, goal, c.processor.Round(10*time.Millisecond), c.memory, memory, c.calls, size)
	}
	row("pg_dump -Fc", count, dumped, nil)
	row("backup", count, backup, &dumped)
	row("backup with escrow", count, escrowed, &dumped)
	row("pg_restore", count, reloaded, nil)
	row("restore", count, restored, &reloaded)
	row("backup with escrow, a hundredth", few, smallBackup, nil)
	row("restore, a hundredth", few, smallRestore, nil)
	if err := w.Flush(); err != nil {
		t.Fatal(err)
	}
}
