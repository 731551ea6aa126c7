// Package pepper derives keys from the pepper, one for each use, and computes keyed digests with
// them.
//
// A digest replaces a value that must not be stored or logged in the clear, such as a name that a
// user typed, or a request that a client may repeat. The pepper is in Vault and not in the
// database. Without it, nobody can compute a digest or test a guess.
package pepper

import (
	"crypto/hkdf"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"fmt"

	"github.com/securenotes/securenotes/app/config"
)

// The uses of derived keys. A use never changes its meaning, because digests may be stored.
const (
	// Usernames are names that were tried in logins.
	Usernames = "securenotes/username/v1"
	// Requests are requests with an idempotency key.
	Requests = "securenotes/idempotent-request/v1"
)

// keySize is the size of a derived key, in bytes.
const keySize = 32

// Key computes digests for one use. It is safe for concurrent use.
type Key struct {
	// Pepper is the id of the pepper that the key is derived from.
	Pepper     string
	deployment string
	key        []byte
}

// NewKey derives the key for a use from the current pepper of a deployment (HKDF-SHA-256, RFC
// 5869).
func NewKey(deployment string, p *config.Pepper, use string) (*Key, error) {
	values, err := p.Values()
	if err != nil {
		return nil, err
	}
	key, err := hkdf.Key(sha256.New, values[p.CurrentID], nil, use, keySize)
	if err != nil {
		return nil, fmt.Errorf("pepper: key for %s: %w", use, err)
	}
	return &Key{Pepper: p.CurrentID, deployment: deployment, key: key}, nil
}

// Digest returns the HMAC-SHA-256 of the deployment and the fields, in 64 hex digits. The length
// precedes each field, so that no two lists of fields have the same input.
func (k *Key) Digest(fields ...string) string {
	mac := hmac.New(sha256.New, k.key)
	write := func(field string) {
		var length [8]byte
		binary.BigEndian.PutUint64(length[:], uint64(len(field)))
		mac.Write(length[:])
		mac.Write([]byte(field))
	}
	write(k.deployment)
	for _, field := range fields {
		write(field)
	}
	return hex.EncodeToString(mac.Sum(nil))
}
