//go:build bench

package bench

import (
	"bytes"
	"crypto/tls"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/securenotes/securenotes/hack/testenv"
)

// bcryptCost is production's least.
const bcryptCost = 12

// service is the running binary and what it runs on.
type service struct {
	client   *http.Client
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
	s.client = &http.Client{Timeout: time.Minute, Transport: &http.Transport{
		TLSClientConfig: &tls.Config{RootCAs: s.process.Pool, ServerName: "localhost"}, MaxIdleConnsPerHost: concurrency,
		// One connection for each client, as with many clients; HTTP/2 would put all on one.
		TLSNextProto: map[string]func(string, *tls.Conn) http.RoundTripper{},
	}}
	return s
}

// call makes a request and returns the decoded answer, or an error unless it has the status.
func (s *service) call(method, path, token, body string, want int) (map[string]any, error) {
	request, err := http.NewRequest(method, s.process.URL+path, strings.NewReader(body))
	if err != nil {
		return nil, err
	}
	if token != "" {
		request.Header.Set("Authorization", "Bearer "+token)
	}
	response, err := s.client.Do(request)
	if err != nil {
		return nil, err
	}
	defer response.Body.Close()
	raw, err := io.ReadAll(response.Body)
	if err != nil {
		return nil, err
	}
	if response.StatusCode != want {
		return nil, fmt.Errorf("%s %s: status %d: %s", method, path, response.StatusCode, raw)
	}
	answer := map[string]any{}
	return answer, json.Unmarshal(raw, &answer)
}

// usage is the service's processor time so far, and its memory now.
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
