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
}

// StartVault starts a Vault server: not in dev mode, so that sealing is real.
func StartVault(t testing.TB) *Vault {
	t.Helper()
	path := binary(t, VaultVariable)
	dir := t.TempDir()
	certificate := NewCertificate(t, dir)
	port := freePort(t)
	v := &Vault{Address: fmt.Sprintf("https://127.0.0.1:%d", port), CAFile: certificate.CertFile}
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
`, filepath.Join(dir, "data"), port, certificate.CertFile, certificate.KeyFile, v.Address)
	file := filepath.Join(dir, "vault.hcl")
	if err := os.WriteFile(file, []byte(configuration), 0o600); err != nil {
		t.Fatal(err)
	}
	server := start(t, dir, "vault", syscall.SIGTERM, exec.Command(path, "server", "-config", file))

	client := v.client(t)
	server.await(t, func(ctx context.Context) error {
		_, err := client.Sys().InitStatusWithContext(ctx)
		return err
	})
	keys, err := client.Sys().Init(&api.InitRequest{SecretShares: 1, SecretThreshold: 1})
	if err != nil {
		t.Fatalf("vault init: %v", err)
	}
	v.RootToken, v.unsealKey = keys.RootToken, keys.KeysB64[0]
	v.Unseal(t)
	return v
}

// Client is a client with the root token.
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
		t.Fatal("vault unseal: it is still sealed")
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
