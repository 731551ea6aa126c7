package envelope

import (
	"context"
	"crypto/aes"
	"crypto/cipher"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
)

// localName is the prefix of keys that the local provider wraps.
const localName = "local"

// Local is a KeyProvider whose master key is in a file. It is for development: anyone who can read
// the file can read every note.
type Local struct {
	path string
	file localFile
}

// localFile is the key file's JSON. Versions count from 1.
type localFile struct {
	Versions [][]byte `json:"versions"`
	// MinDecryptionVersion is the oldest version that unwraps. 0 and 1 allow all.
	MinDecryptionVersion int `json:"minDecryptionVersion"`
}

// OpenLocal reads the key file, or creates it with mode 0600.
func OpenLocal(path string) (*Local, error) {
	l := &Local{path: path}
	info, err := os.Stat(path)
	if errors.Is(err, fs.ErrNotExist) {
		l.file.Versions = [][]byte{newRawKey()}
		return l, l.save()
	}
	if err != nil {
		return nil, fmt.Errorf("local key file: %w", err)
	}
	if info.Mode().Perm()&0o077 != 0 {
		return nil, fmt.Errorf("local key file %s: others can read it: chmod 600 %s", path, path)
	}
	raw, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("local key file: %w", err)
	}
	if json.Unmarshal(raw, &l.file) != nil || len(l.file.Versions) == 0 {
		return nil, fmt.Errorf("local key file %s: not a key file of securenotes", path)
	}
	for i, key := range l.file.Versions {
		if len(key) != keySize {
			return nil, fmt.Errorf("local key file %s: version %d is not %d bytes", path, i+1, keySize)
		}
	}
	return l, nil
}

// save replaces the file atomically: after a crash, it has the old or the new content.
func (l *Local) save() error {
	raw, err := json.Marshal(l.file)
	if err != nil {
		return fmt.Errorf("local key file: %w", err)
	}
	f, err := os.CreateTemp(filepath.Dir(l.path), ".key-*") // mode 0600
	if err != nil {
		return fmt.Errorf("local key file: %w", err)
	}
	defer os.Remove(f.Name())
	_, err = f.Write(raw)
	err = errors.Join(err, f.Sync(), f.Close())
	if err == nil {
		err = os.Rename(f.Name(), l.path)
	}
	if err != nil {
		return fmt.Errorf("local key file: %w", err)
	}
	return nil
}

// Versions returns the latest version of the master key, and the oldest that unwraps.
func (l *Local) Versions() (latest, minDecryption int) {
	return len(l.file.Versions), max(1, l.file.MinDecryptionVersion)
}

// Wrap implements KeyProvider.
func (l *Local) Wrap(_ context.Context, items []RawItem) ([]WrapResult, error) {
	results := make([]WrapResult, len(items))
	for i, item := range items {
		results[i].Wrapped, results[i].Err = l.wrap(item.Raw, item.Derivation)
	}
	return results, nil
}

func (l *Local) wrap(raw, derivation []byte) (Wrapped, error) {
	version := len(l.file.Versions)
	aead, err := localAEAD(l.file.Versions[version-1])
	if err != nil {
		return "", err
	}
	body := aead.Seal(nil, nil, raw, derivation)
	return Wrapped(localName + ":v" + strconv.Itoa(version) + ":" + base64.StdEncoding.EncodeToString(body)), nil
}

// Unwrap implements KeyProvider.
func (l *Local) Unwrap(_ context.Context, items []WrappedItem) ([]UnwrapResult, error) {
	results := make([]UnwrapResult, len(items))
	for i, item := range items {
		results[i].Raw, results[i].Err = l.unwrap(item)
	}
	return results, nil
}

func (l *Local) unwrap(item WrappedItem) ([]byte, error) {
	version, err := item.Wrapped.Version()
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrRefused, err)
	}
	if version > len(l.file.Versions) || version < l.file.MinDecryptionVersion {
		return nil, fmt.Errorf("%w: version %d is retired or unknown", ErrRefused, version)
	}
	prefix := localName + ":v" + strconv.Itoa(version) + ":"
	if len(item.Wrapped) < len(prefix) || string(item.Wrapped[:len(prefix)]) != prefix {
		return nil, fmt.Errorf("%w: not wrapped by the local provider", ErrRefused)
	}
	body, err := base64.StdEncoding.DecodeString(string(item.Wrapped[len(prefix):]))
	if err != nil {
		return nil, fmt.Errorf("%w: not base64", ErrRefused)
	}
	aead, err := localAEAD(l.file.Versions[version-1])
	if err != nil {
		return nil, err
	}
	raw, err := aead.Open(nil, nil, body, item.Derivation)
	if err != nil {
		return nil, fmt.Errorf("%w: not authentic", ErrRefused)
	}
	return raw, nil
}

// Rewrap implements KeyProvider.
func (l *Local) Rewrap(_ context.Context, items []WrappedItem) ([]WrapResult, error) {
	results := make([]WrapResult, len(items))
	for i, item := range items {
		raw, err := l.unwrap(item)
		if err != nil {
			results[i].Err = err
			continue
		}
		results[i].Wrapped, results[i].Err = l.wrap(raw, item.Derivation)
		clear(raw)
	}
	return results, nil
}

func localAEAD(key []byte) (cipher.AEAD, error) {
	block, err := aes.NewCipher(key)
	if err != nil {
		return nil, fmt.Errorf("local provider: %w", err)
	}
	return cipher.NewGCMWithRandomNonce(block)
}
