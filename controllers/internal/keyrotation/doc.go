// Package keyrotation carries out KeyRotations.
//
// The steps of one rotation, each recorded in the object's status before it is acted on, so that an
// operator that dies at any instant goes on where it stopped:
//
//  1. Wait for its turn: one rotation of a SecureNotes at a time, a Compromise first, then the
//     oldest. A Compromise does not wait for a Routine rotation that has begun: that one ends as
//     Failed, Superseded, before the Compromise takes a version, and its Job stops at the fence of
//     the database as soon as the Compromise's Job has raised it.
//  2. Record fromVersion, the key's latest version, with the resourceVersion as a guard.
//  3. Read fromVersion back past the cache, and rotate the key in Vault if its latest version is
//     still that one. Record toVersion, the latest version read afterwards. A rotation whose answer
//     was lost, or one made by hand, thus costs a version at most, never data.
//  4. Raise min_encryption_version to toVersion, so that nothing new is sealed under the old one.
//  5. Run the re-encryption Job; record Reencrypted.
//  6. Run the verification Job, a fresh process; record Verified.
//  7. Record on the SecureNotes when the old version is to be retired; end as Complete.
//
// next, a pure function, decides the step from what was observed. The old version still decrypts until
// its retirement, which is the securenotes package's.
//
// Whose word is taken: whoever may create Jobs in the namespace can make one of the right name, with
// our labels and our owner reference, that completes and did nothing. So the UID of each Job is
// recorded in the status right after it was made, and only the Job of that UID is believed, whatever
// image a newer operator would start. When the operator died between the two, the Job counts only if
// its spec is, but for the API server's defaults, the one that the operator would make; then its UID is
// recorded. Any other Job of that name fails the rotation with a NameConflict. What remains: who can
// create Pods in the namespace can make one that the Job controller counts as the Job's; the namespace
// is the boundary of trust.
package keyrotation
