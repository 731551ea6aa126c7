package envelope

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/rand"
	"fmt"
)

const (
	// keySize is the size of an owner key in bytes: AES-256.
	keySize = 32
	// formatV1 is the first byte of a sealed value.
	formatV1 = 0x01
	// Overhead is how much longer a sealed value is than its content, in bytes.
	Overhead = 1 + 12 + 16
)

// OwnerKey seals and opens the values of one owner. It is safe for concurrent use.
//
// The raw key bytes are cleared as soon as the cipher exists. The cipher's key schedule stays in
// memory: see docs/security.md.
type OwnerKey struct {
	ref  KeyRef
	aead cipher.AEAD
}

// newOwnerKey returns the key for raw, which it clears.
func newOwnerKey(ref KeyRef, raw []byte) (*OwnerKey, error) {
	defer clear(raw)
	if len(raw) != keySize {
		return nil, fmt.Errorf("owner key %s: %d bytes, not %d", ref.ID, len(raw), keySize)
	}
	block, err := aes.NewCipher(raw)
	if err != nil {
		return nil, fmt.Errorf("owner key %s: %w", ref.ID, err)
	}
	aead, err := cipher.NewGCMWithRandomNonce(block)
	if err != nil {
		return nil, fmt.Errorf("owner key %s: %w", ref.ID, err)
	}
	return &OwnerKey{ref: ref, aead: aead}, nil
}

// ID is the key's random id.
func (k *OwnerKey) ID() string { return k.ref.ID }

// Seal encrypts content for its place. The result is Overhead bytes longer.
func (k *OwnerKey) Seal(place Place, content []byte) []byte {
	out := make([]byte, 1, Overhead+len(content))
	out[0] = formatV1
	return k.aead.Seal(out, nil, content, k.associatedData(place))
}

// Open decrypts a value that Seal returned for the same place. Error: ErrNotAuthentic.
func (k *OwnerKey) Open(place Place, sealed []byte) ([]byte, error) {
	if len(sealed) < Overhead || sealed[0] != formatV1 {
		return nil, ErrNotAuthentic
	}
	content, err := k.aead.Open(nil, nil, sealed[1:], k.associatedData(place))
	if err != nil {
		return nil, ErrNotAuthentic
	}
	return content, nil
}

// newRawKey returns 32 bytes from the system's random source.
func newRawKey() []byte {
	raw := make([]byte, keySize)
	rand.Read(raw)
	return raw
}
