package testenv

import (
	"context"
	"crypto/x509"
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"github.com/securenotes/securenotes/app/config"
	"github.com/securenotes/securenotes/hack/notesclient"
)

// Program is the built securenotes binary.
type Program struct {
	path string
	// group is the control group of its runs; nil: that of the test.
	group *MemoryGroup
}

// BuildProgram builds the binary into directory, with flags of go build.
func BuildProgram(t testing.TB, directory string, flags ...string) Program {
	t.Helper()
	p := Program{path: filepath.Join(directory, "securenotes")}
	build := exec.Command("go", append(append([]string{"build", "-o", p.path}, flags...), "github.com/securenotes/securenotes/app/cmd/securenotes")...)
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("go build: %v: %s", err, out)
	}
	return p
}

// Command returns a command that runs the binary, and that ends with the test binary.
func (p Program) Command(ctx context.Context, args ...string) *exec.Cmd {
	line := append([]string{p.path}, args...)
	if p.group != nil {
		line = p.group.wrap(line)
	}
	command := exec.CommandContext(ctx, line[0], line[1:]...)
	command.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	return command
}

// ServiceConfig returns the configuration of a service that uses a database and a key of the test,
// with a certificate and free ports of loopback. [WriteConfig] writes it for the flag --config.
func ServiceConfig(t testing.TB, databaseURI, databaseCA string, key *TransitKey) *config.Config {
	t.Helper()
	dir := t.TempDir()
	certificate := NewCertificate(t, dir)
	uriFile := filepath.Join(dir, "uri")
	if err := os.WriteFile(uriFile, []byte(databaseURI), 0o600); err != nil {
		t.Fatal(err)
	}
	return &config.Config{
		Deployment: config.Deployment{ID: "test", Namespace: "ns", Name: "name"},
		Listen:     FreeAddress(t), MetricsListen: FreeAddress(t),
		TLS:        &config.TLS{CertFile: certificate.CertFile, KeyFile: certificate.KeyFile},
		Database:   config.Database{Postgres: &config.Postgres{URIFile: uriFile, CAFile: databaseCA, MaxConnections: 16}},
		Keys:       config.Keys{Vault: &key.Config},
		Auth:       config.Auth{Registration: config.RegistrationOpen, TokenTTL: config.Duration(time.Hour), BcryptCost: 12, MinPasswordLength: 8},
		RateLimits: config.RateLimits{FailedLoginsPerMinute: 1000, RequestsPerMinute: 1_000_000, RegistrationsPerDay: 1_000_000},
		Quotas:     config.Quotas{Accounts: 10_000_000, Notes: 10_000_000, Bytes: 1 << 40},
	}
}

// WriteConfig writes a configuration to a file and returns its path.
func WriteConfig(t testing.TB, c *config.Config) string {
	t.Helper()
	raw, err := config.Marshal(c)
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "config.yaml")
	if err := os.WriteFile(file, raw, 0o600); err != nil {
		t.Fatal(err)
	}
	return file
}

// Service is a process that serves the API.
type Service struct {
	// URL is the URL of the API, and Address its host:port.
	URL, Address string
	// Pool trusts its certificate.
	Pool *x509.CertPool

	process *process
	ready   string
}

// StartService starts `securenotes serve` and waits until it is ready. Its environment is that of
// the test, plus env.
func (p Program) StartService(t testing.TB, c *config.Config, env ...string) *Service {
	t.Helper()
	s := p.BeginService(t, c, env...)
	s.Await(t)
	return s
}

// BeginService starts `securenotes serve` without waiting until it is ready.
func (p Program) BeginService(t testing.TB, c *config.Config, env ...string) *Service {
	t.Helper()
	pool, err := notesclient.RootCAs(c.TLS.CertFile)
	if err != nil {
		t.Fatal(err)
	}
	s := &Service{URL: "https://" + c.Listen, Address: c.Listen, Pool: pool, ready: "http://" + c.MetricsListen + "/readyz"}
	command := p.Command(context.Background(), "serve", "--config", WriteConfig(t, c))
	command.Env = append(os.Environ(), env...)
	s.process = start(t, t.TempDir(), "securenotes", syscall.SIGTERM, command)
	return s
}

// Await waits until the service is ready.
func (s *Service) Await(t testing.TB) {
	t.Helper()
	s.process.await(t, func(ctx context.Context) error {
		request, err := http.NewRequestWithContext(ctx, http.MethodGet, s.ready, nil)
		if err != nil {
			return err
		}
		response, err := http.DefaultClient.Do(request)
		if err != nil {
			return err
		}
		response.Body.Close()
		if response.StatusCode != http.StatusOK {
			return fmt.Errorf("%s: status %d", s.ready, response.StatusCode)
		}
		return nil
	})
}

// PID returns the process id.
func (s *Service) PID() int { return s.process.command.Process.Pid }

// Ended reports whether the process has ended.
func (s *Service) Ended() bool {
	select {
	case <-s.process.done:
		return true
	default:
		return false
	}
}

// Signal sends a signal to the process.
func (s *Service) Signal(t testing.TB, signal os.Signal) {
	t.Helper()
	if err := s.process.command.Process.Signal(signal); err != nil {
		t.Fatal(err)
	}
}

// Kill kills the process.
func (s *Service) Kill(t testing.TB) {
	t.Helper()
	s.process.stop(t, syscall.SIGKILL)
}

// StoreSecrets stores the secrets in Vault that the operator stores for a SecureNotes.
func (k *TransitKey) StoreSecrets(t testing.TB) {
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
		if _, err := k.vault.Client(t).KVv2(k.Config.KVMount).Put(context.Background(), k.Config.KVPath+"/"+leaf, data); err != nil {
			t.Fatal(err)
		}
	}
}
