package addons

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"time"

	"github.com/securenotes/securenotes/hack/kind/imagelock"
	"github.com/securenotes/securenotes/hack/kind/internal/kube"
	"github.com/securenotes/securenotes/hack/kind/layout"
)

// vaultKeys is what Vault returns once, when it is initialised. It is stored in the checkout's
// .cluster directory, which only its owner can read, and in no Kubernetes object.
type vaultKeys struct {
	UnsealKey string `json:"unsealKey"`
	RootToken string `json:"rootToken"`
}

func (a Addons) keysPath() string { return a.Layout.Cluster("vault", "keys.json") }

// Vault installs a Vault server with TLS and Raft storage on a volume, initialises it and unseals
// it.
func (a Addons) Vault(ctx context.Context) (note string, err error) {
	if keysNeverKept(a.keysPath()) {
		// Nobody ever had the keys of this Vault, so it contains nothing. Its state is not queried,
		// because a Vault whose initialisation was interrupted answers with errors.
		a.Say("an earlier run was interrupted while it initialised Vault: recreating Vault")
		if err := a.Kube.Command("-n", "vault", "delete", "statefulset/vault", "pvc/data-vault-0", "--ignore-not-found", "--timeout=90s").Run(ctx); err != nil {
			return "", err
		}
	}
	if note, err = a.startVault(ctx); err != nil {
		return "", err
	}
	return note, a.Kube.Rollout(ctx, "vault", "statefulset/vault", 2*time.Minute)
}

func (a Addons) startVault(ctx context.Context) (note string, err error) {
	if err := a.apply(ctx, "namespace.yaml", map[string]string{"Name": "vault"}); err != nil {
		return "", err
	}
	if err := a.apply(ctx, "vault-certificate.yaml", nil); err != nil {
		return "", err
	}
	if err := a.installVault(ctx); err != nil {
		return "", err
	}
	if err := a.Kube.WaitFor(ctx, "vault", "certificate/vault-tls", "Ready", 2*time.Minute); err != nil {
		return "", err
	}
	v, stop, err := a.openVault(ctx)
	if err != nil {
		return "", err
	}
	defer stop()
	return v.unseal(ctx)
}

// installVault does not wait, because Vault is not ready before it is unsealed.
func (a Addons) installVault(ctx context.Context) error {
	if a.Lock.Offline {
		return a.applyImage(ctx, "vault.yaml", imagelock.Vault)
	}
	dir, flags, err := a.arguments(ctx, vaultChart)
	if err != nil {
		return err
	}
	return a.Install(ctx, "vault", dir, "vault", flags...)
}

// vault is the server's HTTP API on a local port that is open during this run only.
type vault struct {
	address string
	client  *http.Client
	keys    string
}

// openVault forwards a local port to the server and waits until it answers.
func (a Addons) openVault(ctx context.Context) (v vault, stop func(), err error) {
	pem, err := os.ReadFile(a.Layout.CA())
	if err != nil {
		return v, nil, err
	}
	roots := x509.NewCertPool()
	if !roots.AppendCertsFromPEM(pem) {
		return v, nil, fmt.Errorf("%s holds no certificate", a.Layout.CA())
	}
	v = vault{keys: a.keysPath(), client: &http.Client{
		Timeout:   30 * time.Second,
		Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: roots, MinVersion: tls.VersionTLS13}},
	}}
	err = kube.Until(ctx, 2*time.Minute, time.Second, func(ctx context.Context) error {
		address, close, err := a.Kube.Forward(ctx, "vault", "pod/vault-0", "8200")
		if err != nil {
			return err
		}
		v.address = "https://" + address
		if err := v.call(ctx, http.MethodGet, "sys/seal-status", nil, nil); err != nil {
			close()
			return err
		}
		stop = close
		return nil
	})
	if err != nil {
		return v, nil, fmt.Errorf("%w%s", err, a.Kube.Describe(ctx, "vault"))
	}
	return v, stop, nil
}

// unseal initialises a new Vault and unseals a sealed one.
func (v vault) unseal(ctx context.Context) (note string, err error) {
	var status struct{ Initialized, Sealed bool }
	if err := v.call(ctx, http.MethodGet, "sys/seal-status", nil, &status); err != nil {
		return "", err
	}
	note = "unsealed already"
	if !status.Initialized {
		// It must not be interrupted: between Vault's answer and the write of the file, that would
		// lose the keys.
		if err := v.initialise(context.WithoutCancel(ctx)); err != nil {
			return "", err
		}
		status.Sealed, note = true, "initialised"
	}
	keys, err := v.readKeys()
	if err != nil {
		return "", err
	}
	if status.Sealed {
		if err := v.call(ctx, http.MethodPut, "sys/unseal", map[string]string{"key": keys.UnsealKey}, nil); err != nil {
			return "", err
		}
		note += ", unsealed"
	}
	return note, nil
}

// initialise initialises Vault and stores its keys. A mark exists meanwhile, so that the next run
// can distinguish keys that were never stored from keys that were lost.
func (v vault) initialise(ctx context.Context) error {
	if err := layout.WriteFile(mark(v.keys), nil, 0o600); err != nil {
		return err
	}
	if err := os.Remove(v.keys); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err // there are keys of an earlier Vault
	}
	var answer struct {
		Keys      []string `json:"keys_base64"`
		RootToken string   `json:"root_token"`
	}
	if err := v.call(ctx, http.MethodPut, "sys/init", map[string]int{"secret_shares": 1, "secret_threshold": 1}, &answer); err != nil {
		return err
	}
	if len(answer.Keys) != 1 {
		return errors.New("vault returned no unseal key")
	}
	b, err := json.MarshalIndent(vaultKeys{UnsealKey: answer.Keys[0], RootToken: answer.RootToken}, "", "  ")
	if err != nil {
		return err
	}
	if err := layout.WriteFile(v.keys, append(b, '\n'), 0o600); err != nil {
		return err
	}
	return os.Remove(mark(v.keys))
}

// keysNeverKept reports whether a run was interrupted after it started to initialise Vault and
// before it stored the keys.
func keysNeverKept(keys string) bool {
	_, errKeys := os.Stat(keys)
	_, errMark := os.Stat(mark(keys))
	return errMark == nil && errors.Is(errKeys, os.ErrNotExist)
}

func mark(keys string) string { return keys + ".initialising" }

func (v vault) readKeys() (k vaultKeys, err error) {
	b, err := os.ReadFile(v.keys)
	if errors.Is(err, os.ErrNotExist) {
		return k, fmt.Errorf("vault is initialised but its unseal key is no longer in %s; run `make down`, then again", v.keys)
	}
	if err != nil {
		return k, err
	}
	return k, json.Unmarshal(b, &k)
}

func (v vault) call(ctx context.Context, method, path string, body, into any) error {
	var in io.Reader
	if body != nil {
		b, err := json.Marshal(body)
		if err != nil {
			return err
		}
		in = bytes.NewReader(b)
	}
	req, err := http.NewRequestWithContext(ctx, method, v.address+"/v1/"+path, in)
	if err != nil {
		return err
	}
	resp, err := v.client.Do(req)
	if err != nil {
		return err
	}
	defer func() { _ = resp.Body.Close() }()
	answer, err := io.ReadAll(io.LimitReader(resp.Body, 1<<20))
	if err != nil {
		return err
	}
	if resp.StatusCode >= http.StatusBadRequest {
		return fmt.Errorf("vault answers %s to %s %s: %s", resp.Status, method, path, answer)
	}
	if into == nil || len(answer) == 0 {
		return nil
	}
	return json.Unmarshal(answer, into)
}

// Administrator runs work with the environment of a Vault administrator for the vault program. The
// local port is open meanwhile.
func (a Addons) Administrator(ctx context.Context, work func(env []string) error) error {
	v, stop, err := a.openVault(ctx)
	if err != nil {
		return err
	}
	defer stop()
	keys, err := v.readKeys()
	if err != nil {
		return err
	}
	return work([]string{"VAULT_ADDR=" + v.address, "VAULT_TOKEN=" + keys.RootToken, "VAULT_CACERT=" + a.Layout.CA()})
}
