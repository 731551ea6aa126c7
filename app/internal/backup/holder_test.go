package backup_test

import (
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"encoding/base64"
	"fmt"
	"maps"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/securenotes/securenotes/app/config"
	"github.com/securenotes/securenotes/app/internal/envelope/envelopetest"
	"github.com/securenotes/securenotes/app/internal/vault"
)

// holder has the keys and secrets of one deployment, in place of Vault.
type holder struct {
	name   string
	master *envelopetest.Local

	mu      sync.Mutex
	signing []ed25519.PrivateKey
	// peppers are the entries; entry is that of the configuration.
	peppers map[string]*config.Pepper
	entry   string
	// latest and minDecryption are of the master key.
	latest, minDecryption int
	// interrupt, if set, is called before each operation, and may return an error.
	interrupt func(operation string) error
}

func newHolder(t testing.TB, name string) *holder {
	t.Helper()
	master, err := envelopetest.OpenLocal(filepath.Join(t.TempDir(), "master.key"))
	if err != nil {
		t.Fatal(err)
	}
	h := &holder{name: name, master: master, peppers: map[string]*config.Pepper{"pepper": config.NewPepper()}, entry: "pepper", latest: 1, minDecryption: 1}
	h.renewSigning(t)
	return h
}

// renewSigning adds a version to the backup key, as a Compromise does.
func (h *holder) renewSigning(t testing.TB) {
	t.Helper()
	_, private, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	h.signing = append(h.signing, private)
}

// rotate adds a version of the master key.
func (h *holder) rotate(t testing.TB) int {
	t.Helper()
	version, err := h.master.Rotate()
	if err != nil {
		t.Fatal(err)
	}
	h.latest = version
	return version
}

// retire sets the oldest version that decrypts.
func (h *holder) retire(t testing.TB, least int) {
	t.Helper()
	if err := h.master.Retire(least); err != nil {
		t.Fatal(err)
	}
	h.minDecryption = least
}

func (h *holder) begin(operation string) error {
	h.mu.Lock()
	interrupt := h.interrupt
	h.mu.Unlock()
	if interrupt == nil {
		return nil
	}
	return interrupt(operation)
}

// SignBackup implements backup.Signer.
func (h *holder) SignBackup(ctx context.Context, message []byte) (string, error) {
	if err := h.begin("sign"); err != nil {
		return "", err
	}
	version := len(h.signing)
	return h.version(version).SignBackup(ctx, message)
}

// version returns a signer with one version of the backup key, as the thief of it has it.
func (h *holder) version(version int) versionSigner {
	return versionSigner{h.signing[version-1], version}
}

// versionSigner signs with one version of a backup key.
type versionSigner struct {
	key     ed25519.PrivateKey
	version int
}

// SignBackup implements archive.Signer.
func (v versionSigner) SignBackup(_ context.Context, message []byte) (string, error) {
	return fmt.Sprintf("vault:v%d:%s", v.version, base64.StdEncoding.EncodeToString(ed25519.Sign(v.key, message))), nil
}

// BackupKeys implements backup.KeyReader.
func (h *holder) BackupKeys(context.Context) (*config.BackupKeys, error) {
	if err := h.begin("read the public keys"); err != nil {
		return nil, err
	}
	return h.publicKeys(), nil
}

func (h *holder) publicKeys() *config.BackupKeys {
	keys := &config.BackupKeys{Key: "sn-backup-" + h.name}
	for i, private := range h.signing {
		since := time.Unix(int64(1_000_000*(i+1)), 0).UTC()
		if i > 0 {
			keys.Versions[i-1].Until = &since
		}
		keys.Versions = append(keys.Versions, config.BackupKey{Version: i + 1, PublicKey: private.Public().(ed25519.PublicKey), Since: since})
	}
	return keys
}

// MasterKeyVersions implements backup.VersionReader.
func (h *holder) MasterKeyVersions(context.Context) (*vault.KeyVersions, error) {
	if err := h.begin("read the versions"); err != nil {
		return nil, err
	}
	return &vault.KeyVersions{Latest: h.latest, MinDecryption: h.minDecryption, Created: map[int]time.Time{1: time.Unix(5, 0).UTC()}}, nil
}

// Pepper implements backup.PepperReader.
func (h *holder) Pepper(context.Context) (*config.Pepper, error) {
	if err := h.begin("read the pepper"); err != nil {
		return nil, err
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	pepper := h.peppers[h.entry]
	if pepper == nil {
		return nil, vault.ErrNotFound
	}
	return pepper, nil
}

// CreatePepper implements backup.PepperCreator.
func (h *holder) CreatePepper(_ context.Context, entry string, pepper *config.Pepper) error {
	if err := h.begin("create the pepper"); err != nil {
		return err
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.peppers[entry] != nil {
		return vault.ErrExists
	}
	h.peppers[entry] = pepper
	return nil
}

// entries returns a copy of the peppers.
func (h *holder) entries() map[string]*config.Pepper {
	h.mu.Lock()
	defer h.mu.Unlock()
	return maps.Clone(h.peppers)
}
