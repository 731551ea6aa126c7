// Package envelope encrypts ("seals") every secret value of the notes service. Start at [Cache] and
// [OwnerKey].
//
// # Hierarchy
//
// One master key (KEK) per deployment lives in a KeyProvider, HashiCorp Vault Transit, and never
// leaves it. It wraps owner keys: 32 random bytes under a random 128-bit id, one active per user.
// An owner key seals values with AES-256-GCM (NIST SP 800-38D) under random 96-bit nonces.
//
// # Formats
//
//	wrapped   provider ":v" version ":" base64     in the provider's text form, at most 512 bytes
//	sealed    0x01 | nonce (12 bytes) | ciphertext | tag (16 bytes)
//
// A wrapped owner key is bound by the provider's derivation context, a sealed value by its
// associated data. Both are sequences of fields, each preceded by its length as 4 bytes big
// endian, so that no two different sequences encode alike:
//
//	context   "securenotes/owner-key/v1", deployment id, owner id, key id
//	AAD       "securenotes/value/v1", kind, deployment id, owner id, key id,
//	          row id, field, revision
//
// # Guarantees
//
//   - A value that was moved to another deployment, owner, key, row, field or revision, truncated,
//     extended or changed in any bit does not open: ErrNotAuthentic.
//     A whole row that is restored to an earlier revision, with its revision number, does open:
//     only the database knows which revision is the latest.
//   - A wrapped key that was moved to another deployment, owner or id does not unwrap.
//   - There is no fallback: without the provider, only cached owner keys work, until they expire.
//   - A key does not seal more values than its nonces allow.
//
// It does not hide the length of a value, nor how many values an owner has.
//
// SP 800-38D section 8.3 allows one key 2^32 seals under random nonces. Processes reserve seals in
// blocks before they use them, and a key that has reached half of that is succeeded by another one.
package envelope

import "errors"

// Errors that callers tell apart with errors.Is. Their text names no value and no key.
var (
	// ErrNotAuthentic means that the value was not sealed by this key for this place, or was
	// changed.
	ErrNotAuthentic = errors.New("the sealed value is not authentic for its place")
	// ErrUnavailable means that the key provider does not answer now. A retry may succeed.
	ErrUnavailable = errors.New("the key provider is unavailable")
	// ErrVaultSealed means that the key provider is sealed, as Vault is after a restart. It comes
	// together with ErrUnavailable.
	ErrVaultSealed = errors.New("the key provider is sealed")
	// ErrDenied means that the key provider rejects this identity.
	ErrDenied = errors.New("the key provider denies access")
	// ErrRefused means that the provider does not unwrap the key: it has another master key or
	// another context, or its version is below the minimum decryption version.
	ErrRefused = errors.New("the key provider does not unwrap this key")
)
