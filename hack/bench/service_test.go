//go:build bench

package bench

import (
	"bytes"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/securenotes/securenotes/hack/notesclient"
	"github.com/securenotes/securenotes/hack/testenv"
)

// bcryptCost is the minimum cost in production.
const bcryptCost = 12

// service is the running binary and its servers.
type service struct {
	// client is for logins, whose cost far exceeds that of the client, and for calls that are not
	// measured.
	client   *notesclient.Client
	profile  string
	process  *testenv.Service
	vault    *testenv.Vault
	postgres *testenv.Postgres
	uri      string
}

func startService(t *testing.T) *service {
	t.Helper()
	s := &service{vault: testenv.StartVault(t), postgres: testenv.StartPostgres(t), profile: filepath.Join(t.TempDir(), "cpu.pprof")}
	s.uri = s.postgres.CreateDatabase(t, "notes")
	key := s.vault.CreateTransitKey(t)
	key.StoreSecrets(t)
	program := testenv.BuildProgram(t, t.TempDir(), "-tags", "bench")
	c := testenv.ServiceConfig(t, s.uri, s.postgres.CAFile, key)
	c.Database.Postgres.MaxConnections = concurrency
	if out, err := program.Command(t.Context(), "migrate", "--config", testenv.WriteConfig(t, c)).CombinedOutput(); err != nil {
		t.Fatalf("migrate: %v: %s", err, out)
	}
	s.process = program.StartService(t, c, "SECURENOTES_PROFILE="+s.profile)
	s.client = notesclient.New(s.process.URL, notesclient.Options{RootCAs: s.process.Pool, Timeout: time.Minute})
	return s
}

// usage returns the service's processor time so far, and its current memory.
func (s *service) usage(t *testing.T) (cpu time.Duration, residentMiB int64) {
	t.Helper()
	proc := "/proc/" + strconv.Itoa(s.process.PID())
	stat, err := os.ReadFile(proc + "/stat")
	if err != nil {
		t.Fatal(err)
	}
	fields := strings.Fields(string(stat[bytes.LastIndexByte(stat, ')')+2:]))
	var ticks int64
	for _, field := range fields[11:13] { // utime and stime, in 1/100 s
		n, err := strconv.ParseInt(field, 10, 64)
		if err != nil {
			t.Fatal(err)
		}
		ticks += n
	}
	pages, err := strconv.ParseInt(fields[21], 10, 64)
	if err != nil {
		t.Fatal(err)
	}
	return time.Duration(ticks) * 10 * time.Millisecond, pages * int64(os.Getpagesize()) >> 20
}
