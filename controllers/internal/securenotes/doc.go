// Package securenotes reconciles SecureNotes: the keys in Vault, the child objects, the schedule of
// rotations, the retirement of old key versions, and the status that tells people where it stands.
//
// A pass is: get; suspended or going, then that; the finalizer first, with an early return; then the
// phases in their order, all of them, each leaving what it found in the scope; then one status,
// computed by a pure function and patched once, if it changed. A settled object costs no write.
package securenotes
