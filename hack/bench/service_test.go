//go:build bench

package bench

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/securenotes/securenotes/app/config"
	"github.com/securenotes/securenotes/hack/testenv"
)

// bcryptCost is production's least.
const bcryptCost = 12

// service is the running binary and what it runs on.
type service struct {
	url      string
	address  string
	pool     *x509.CertPool
	client   *http.Client
	profile  string
	process  *exec.Cmd
	vault    *testenv.Vault
	postgres *testenv.Postgres
	uri      string
}

func startService(t *testing.T) *service {
	t.Helper()
	dir := t.TempDir()
	binary := filepath.Join(dir, "securenotes")
	build := exec.Command("go", "build", "-tags", "bench", "-o", binary, "github.com/securenotes/securenotes/app/cmd/securenotes")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("go build: %v: %s", err, out)
	}
	s := &service{vault: testenv.StartVault(t), postgres: testenv.StartPostgres(t)}
	s.uri = s.postgres.CreateDatabase(t, "notes")
	key := s.vault.CreateTransitKey(t)
	s.storeSecrets(t, key.Config)
	certificate := testenv.NewCertificate(t, dir)
	uriFile, file := filepath.Join(dir, "uri"), filepath.Join(dir, "config.yaml")
	if err := os.WriteFile(uriFile, []byte(s.uri), 0o600); err != nil {
		t.Fatal(err)
	}
	listen, metrics := freeAddress(t), freeAddress(t)
	raw, err := config.Marshal(&config.Config{
		Deployment: config.Deployment{ID: "bench", Namespace: "ns", Name: "name"},
		Listen:     listen, MetricsListen: metrics,
		TLS:        &config.TLS{CertFile: certificate.CertFile, KeyFile: certificate.KeyFile},
		Database:   config.Database{Postgres: &config.Postgres{URIFile: uriFile, CAFile: s.postgres.CAFile, MaxConnections: concurrency}},
		Keys:       config.Keys{Vault: &key.Config},
		Auth:       config.Auth{Registration: config.RegistrationOpen, TokenTTL: config.Duration(time.Hour), BcryptCost: bcryptCost, MinPasswordLength: 8},
		RateLimits: config.RateLimits{FailedLoginsPerMinute: 1000, RequestsPerMinute: 1_000_000},
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(file, raw, 0o600); err != nil {
		t.Fatal(err)
	}
	if out, err := exec.Command(binary, "migrate", "--config", file).CombinedOutput(); err != nil {
		t.Fatalf("migrate: %v: %s", err, out)
	}
	s.process = exec.Command(binary, "serve", "--config", file)
	s.profile = filepath.Join(dir, "cpu.pprof")
	s.process.Env = append(os.Environ(), "SECURENOTES_PROFILE="+s.profile)
	// As in a pod: the logs are written, and somebody reads them.
	s.process.Stdout, s.process.Stderr = io.Discard, io.Discard
	if err := s.process.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = s.process.Process.Signal(syscall.SIGTERM)
		_ = s.process.Wait()
	})
	s.url, s.address, s.pool = "https://"+listen, listen, certificate.Pool
	s.client = &http.Client{Timeout: time.Minute, Transport: &http.Transport{
		TLSClientConfig: &tls.Config{RootCAs: certificate.Pool, ServerName: "localhost"}, MaxIdleConnsPerHost: concurrency,
		// One connection for each client, as with many clients; HTTP/2 would put all on one.
		TLSNextProto: map[string]func(string, *tls.Conn) http.RoundTripper{},
	}}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	for {
		response, err := http.Get("http://" + metrics + "/readyz")
		if err == nil {
			response.Body.Close()
			if response.StatusCode == http.StatusOK {
				return s
			}
		}
		select {
		case <-ctx.Done():
			t.Fatalf("the service is not ready: %v", err)
		case <-time.After(100 * time.Millisecond):
		}
	}
}

// storeSecrets leaves in Vault what the operator does.
func (s *service) storeSecrets(t *testing.T, c config.Vault) {
	t.Helper()
	keys, err := config.NewSessionKeys()
	if err != nil {
		t.Fatal(err)
	}
	for leaf, value := range map[string]any{config.SessionKeysLeaf: keys, config.PepperLeaf: config.NewPepper()} {
		raw, err := json.Marshal(value)
		if err != nil {
			t.Fatal(err)
		}
		data := map[string]any{}
		if err := json.Unmarshal(raw, &data); err != nil {
			t.Fatal(err)
		}
		if _, err := s.vault.Client(t).KVv2(c.KVMount).Put(t.Context(), c.KVPath+"/"+leaf, data); err != nil {
			t.Fatal(err)
		}
	}
}

func freeAddress(t *testing.T) string {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	return listener.Addr().String()
}

// call makes a request and returns the decoded answer, or an error unless it has the status.
func (s *service) call(method, path, token, body string, want int) (map[string]any, error) {
	request, err := http.NewRequest(method, s.url+path, strings.NewReader(body))
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
	proc := "/proc/" + strconv.Itoa(s.process.Process.Pid)
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
