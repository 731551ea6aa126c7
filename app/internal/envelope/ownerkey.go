package envelope

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/rand"
	"fmt"
	"runtime"
)

const (
	// keySize is of an owner key, in bytes: AES-256.
	keySize = 32
	// formatV1 is the first byte of a sealed value.
	formatV1 = 0x01
	// Overhead is how much longer a sealed value is than its content, in bytes.
	Overhead = 1 + 12 + 16
)

// OwnerKey seals and opens the values of one owner. It is safe for concurrent use.
//
// The raw key bytes are wiped as soon as the cipher is made, and the cipher's key schedule by the first garbage
// collection after the last use: a key that a cache has dropped may still be in somebody's hands.
type OwnerKey struct {
	ref  KeyRef
	aead cipher.AEAD
}

// newOwnerKey takes over raw and wipes it.
func newOwnerKey(ref KeyRef, raw []byte) (*OwnerKey, error) {
	defer clear(raw)
	if len(raw) != keySize {
		return nil, fmt.Errorf("owner key %s: %d bytes, not %d", ref.ID, len(raw), keySize)
	}
	block, err := aes.NewCipher(raw)
	if err != nil {
		return nil, fmt.Errorf("owner key %s: %w", ref.ID, err)
	}
	defer func() { clear(memoryOf(block)) }() // GCM has a copy of its own
	aead, err := cipher.NewGCMWithRandomNonce(block)
	if err != nil {
		return nil, fmt.Errorf("owner key %s: %w", ref.ID, err)
	}
	key := &OwnerKey{ref: ref, aead: aead}
	runtime.AddCleanup(key, func(schedule []byte) { clear(schedule) }, memoryOf(aead))
	return key, nil
}

// ID is the key's random id.
func (k *OwnerKey) ID() string { return k.ref.ID }

// Seal encrypts content for its place. The result is Overhead bytes longer.
func (k *OwnerKey) Seal(place Place, content []byte) []byte {
	out := make([]byte, 1, Overhead+len(content))
	out[0] = formatV1
	defer runtime.KeepAlive(k) // and its schedule with it
	return k.aead.Seal(out, nil, content, k.associatedData(place))
}

// Open decrypts a value that Seal made for the same place, else ErrNotAuthentic.
func (k *OwnerKey) Open(place Place, sealed []byte) ([]byte, error) {
	if len(sealed) < Overhead || sealed[0] != formatV1 {
		return nil, ErrNotAuthentic
	}
	defer runtime.KeepAlive(k)
	content, err := k.aead.Open(nil, nil, sealed[1:], k.associatedData(place))
	if err != nil {
		return nil, ErrNotAuthentic
	}
	return content, nil
}

// newRawKey is 32 bytes from the system's random source.
func newRawKey() []byte {
	raw := make([]byte, keySize)
	rand.Read(raw)
	return raw
}
