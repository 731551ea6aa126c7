package testenv

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"

	"github.com/hashicorp/vault/api"
)

// Vault is a running, initialised, unsealed Vault server with TLS and file storage.
type Vault struct {
	// Address is its https URL.
	Address string
	// CAFile verifies its certificate.
	CAFile string
	// RootToken can do everything.
	RootToken string

	unsealKey string
	// data is the directory of its storage, and configuration its configuration file.
	data, configuration string
	server              *process
	// test is the test that started the server. The server ends with it.
	test testing.TB
}

// StartVault starts a Vault server: not in dev mode, so that sealing is real.
func StartVault(t testing.TB) *Vault {
	t.Helper()
	dir := t.TempDir()
	certificate := NewCertificate(t, dir)
	port := freePort(t)
	v := &Vault{
		Address: fmt.Sprintf("https://127.0.0.1:%d", port), CAFile: certificate.CertFile,
		data: filepath.Join(dir, "data"), configuration: filepath.Join(dir, "vault.hcl"),
		test: t,
	}
	configuration := fmt.Sprintf(`
storage "file" { path = %q }
listener "tcp" {
  address       = "127.0.0.1:%d"
  tls_cert_file = %q
  tls_key_file  = %q
}
api_addr      = %q
disable_mlock = true
log_level     = "warn"
`, v.data, port, certificate.CertFile, certificate.KeyFile, v.Address)
	if err := os.WriteFile(v.configuration, []byte(configuration), 0o600); err != nil {
		t.Fatal(err)
	}
	v.serve(t)
	client := v.client(t)
	keys, err := client.Sys().Init(&api.InitRequest{SecretShares: 1, SecretThreshold: 1})
	if err != nil {
		t.Fatalf("vault init: %v", err)
	}
	v.RootToken, v.unsealKey = keys.RootToken, keys.KeysB64[0]
	v.Unseal(t)
	return v
}

// serve starts the server, which is sealed after the start.
func (v *Vault) serve(t testing.TB) {
	t.Helper()
	v.server = start(v.test, filepath.Dir(v.configuration), "vault", syscall.SIGTERM, exec.Command(binary(t, VaultVariable), "server", "-config", v.configuration))
	client := v.client(t)
	v.server.await(t, func(ctx context.Context) error {
		_, err := client.Sys().InitStatusWithContext(ctx)
		return err
	})
}

// Snapshot is the whole storage of a Vault at one time.
type Snapshot struct{ dir string }

// Snapshot stops the server, copies its storage, and starts it again.
func (v *Vault) Snapshot(t testing.TB) Snapshot {
	t.Helper()
	s := Snapshot{dir: filepath.Join(t.TempDir(), "data")}
	v.stopped(t, func() error { return os.CopyFS(s.dir, os.DirFS(v.data)) })
	return s
}

// Restore replaces the server's whole storage with a snapshot, as an administrator restores a
// backup.
func (v *Vault) Restore(t testing.TB, s Snapshot) {
	t.Helper()
	v.stopped(t, func() error {
		if err := os.RemoveAll(v.data); err != nil {
			return err
		}
		return os.CopyFS(v.data, os.DirFS(s.dir))
	})
}

// WhileStopped calls do while the server is stopped, so that nothing answers at its address.
func (v *Vault) WhileStopped(t testing.TB, do func()) {
	t.Helper()
	v.stopped(t, func() error {
		do()
		return nil
	})
}

// stopped calls do while the server is stopped, and then starts and unseals the server again.
func (v *Vault) stopped(t testing.TB, do func() error) {
	t.Helper()
	v.server.stop(t, syscall.SIGTERM)
	if err := do(); err != nil {
		t.Fatal(err)
	}
	v.serve(t)
	v.Unseal(t)
}

// Client returns a client with the root token.
func (v *Vault) Client(t testing.TB) *api.Client {
	t.Helper()
	client := v.client(t)
	client.SetToken(v.RootToken)
	return client
}

// Seal seals the server: from then on it answers 503.
func (v *Vault) Seal(t testing.TB) {
	t.Helper()
	if err := v.Client(t).Sys().Seal(); err != nil {
		t.Fatalf("vault seal: %v", err)
	}
}

// Unseal unseals the server and waits until it is active.
func (v *Vault) Unseal(t testing.TB) {
	t.Helper()
	client := v.client(t)
	status, err := client.Sys().Unseal(v.unsealKey)
	if err != nil {
		t.Fatalf("vault unseal: %v", err)
	}
	if status.Sealed {
		t.Fatal("vault unseal: the server is still sealed")
	}
	ctx, cancel := context.WithTimeout(context.Background(), startTimeout)
	defer cancel()
	for {
		health, err := client.Sys().HealthWithContext(ctx)
		if err == nil && !health.Sealed && !health.Standby {
			return
		}
		if errors.Is(ctx.Err(), context.DeadlineExceeded) {
			t.Fatalf("vault did not become active: %v", err)
		}
	}
}

func (v *Vault) client(t testing.TB) *api.Client {
	t.Helper()
	configuration := api.DefaultConfig()
	if configuration.Error != nil {
		t.Fatal(configuration.Error)
	}
	configuration.Address = v.Address
	if err := configuration.ConfigureTLS(&api.TLSConfig{CACert: v.CAFile}); err != nil {
		t.Fatal(err)
	}
	client, err := api.NewClient(configuration)
	if err != nil {
		t.Fatal(err)
	}
	client.ClearToken()
	return client
}
