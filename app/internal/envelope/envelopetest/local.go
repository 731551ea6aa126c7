// Package envelopetest has a local key provider whose master key a test rotates and retires. In
// production, only Vault's master key is rotated.
package envelopetest

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"os"
	"sync"

	"github.com/securenotes/securenotes/app/internal/envelope"
)

// Local is an envelope.Local that a test can rotate and retire. It is safe for concurrent use.
type Local struct {
	path string

	mu       sync.RWMutex
	provider *envelope.Local
}

// OpenLocal opens the key file, or creates it.
func OpenLocal(path string) (*Local, error) {
	provider, err := envelope.OpenLocal(path)
	return &Local{path: path, provider: provider}, err
}

// Rotate adds a version of the master key and returns its number.
func (l *Local) Rotate() (version int, err error) {
	err = l.edit(func(file *keyFile) {
		key := make([]byte, 32)
		rand.Read(key)
		file.Versions = append(file.Versions, key)
		version = len(file.Versions)
	})
	return version, err
}

// Retire makes the provider refuse to unwrap keys of versions below least.
func (l *Local) Retire(least int) error {
	return l.edit(func(file *keyFile) { file.MinDecryptionVersion = least })
}

// keyFile is the format of the key file.
type keyFile struct {
	Versions             [][]byte `json:"versions"`
	MinDecryptionVersion int      `json:"minDecryptionVersion"`
}

// edit changes the key file and opens it again.
func (l *Local) edit(change func(*keyFile)) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	raw, err := os.ReadFile(l.path)
	if err != nil {
		return err
	}
	var file keyFile
	if err := json.Unmarshal(raw, &file); err != nil {
		return err
	}
	change(&file)
	if raw, err = json.Marshal(file); err != nil {
		return err
	}
	if err := os.WriteFile(l.path, raw, 0o600); err != nil {
		return err
	}
	l.provider, err = envelope.OpenLocal(l.path)
	return err
}

func (l *Local) current() *envelope.Local {
	l.mu.RLock()
	defer l.mu.RUnlock()
	return l.provider
}

// Wrap implements envelope.KeyProvider.
func (l *Local) Wrap(ctx context.Context, items []envelope.RawItem) ([]envelope.WrapResult, error) {
	return l.current().Wrap(ctx, items)
}

// Unwrap implements envelope.KeyProvider.
func (l *Local) Unwrap(ctx context.Context, items []envelope.WrappedItem) ([]envelope.UnwrapResult, error) {
	return l.current().Unwrap(ctx, items)
}

// Rewrap implements envelope.KeyProvider.
func (l *Local) Rewrap(ctx context.Context, items []envelope.WrappedItem) ([]envelope.WrapResult, error) {
	return l.current().Rewrap(ctx, items)
}
