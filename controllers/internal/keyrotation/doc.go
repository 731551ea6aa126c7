// Package keyrotation carries out KeyRotations.
//
// The steps of one rotation, each recorded in the object's status before it is acted on, so that an
// operator that dies at any instant goes on where it stopped:
//
//  1. Wait for its turn: one rotation of a SecureNotes at a time, a Compromise first, then the
//     oldest. A Compromise does not wait for a rotation that has begun, unless that is a newer
//     Compromise: that one ends as Failed, Superseded, before the Compromise takes a version, and its
//     Job stops at the fence of the database as soon as the Compromise's Job has raised it. One that
//     is tried again after another has made a newer version ends so, too: what it made is out of date,
//     and what it has yet to make the other has made.
//     Two operators, of which one does not know yet that it was deposed, may let two rotations begin at once: each lists
//     the others past the cache after its start is recorded, and of those that see each other all but the first give
//     their turn back, before anything else has happened.
//  2. Record fromVersion, the key's latest version, and with it that the turn is certain, with the resourceVersion as a
//     guard. A retry has a fromVersion, and records its turn alone.
//  3. Read fromVersion back past the cache, and rotate the key in Vault if its latest version is
//     still that one. Record toVersion, the latest version read afterwards. A rotation whose answer
//     was lost, or one made by hand, thus costs a version at most, never data.
//  4. Raise min_encryption_version to toVersion, so that nothing new is sealed under the old one.
//  5. Run the re-encryption Job; record Reencrypted.
//  6. Run the verification Job, a fresh process; record Verified.
//  7. Record on the SecureNotes when the old version is to be retired; end as Complete. The end is recorded in the
//     metadata, too: a backup tool restores that without the status, and a rotation that has ended must not start again.
//
// A Compromise does more, between 4 and 7:
//
//	4a. Record the UIDs of the service accounts; delete those of these UIDs; wait until the SecureNotes'
//	    reconciler has made them anew; record ServiceAccountsRecreated.
//	4b. With database.postgres.vaultCredentials: have Vault drop every database user that it has made; record
//	    DatabaseCredentialsReplaced. If that fails, record that it has, and try again before the end.
//	4c. Record on the SecureNotes the name and the SHA-256 of new session keys, create them in Vault, and record
//	    that they are in use: its pods restart with them, and with tokens of the new accounts. The name is random,
//	    and an entry that exists is never taken for ours, so nobody can create it in advance.
//	5a. With 5, for it is the first thing that the Job does: every session of before ends; record SessionsEnded.
//	6a. As soon as no pod runs that began with the session keys of before, whichever step it is: destroy these
//	    in Vault; record SessionKeysReplaced. Only the end waits for it.
//	7a. After the end, when the SecureNotes has retired the old version: record OldVersionRetired.
//
// Why in this order: the version comes first because it takes two calls, and the session keys' name
// begins with it. The accounts come before everything that is made anew, because whoever stole a
// token of theirs could log in to Vault with it and take the new session keys and the new owner
// keys as well; and before the pods restart, so that they restart once, with both. So do the
// database users, for whom the same is true; each process has another one made as soon as it is
// refused. But a database that Vault cannot reach must not keep the notes under a key that may have
// leaked: only the end waits for it. (A Vault token outlives its account; the operator may not
// revoke it, and docs/key-rotation.md says who can.) The session keys come before the Job, because
// they are as quick as it is long. The Job must not wait for pods to restart, nor the retirement:
// pods that cannot start would leave the notes under a key that may have leaked. The old session
// keys are deleted last, because a pod of before that starts again would find none; until the last
// of these pods is gone their being in Vault is no loss.
//
// Nothing of it takes effect twice. An account is deleted only if its UID is a recorded one.
// Session keys are made until the SecureNotes says that some are in use, and not after; what is
// missing then is reported. An operator that dies between creating and recording them leaves an
// entry that nobody uses, and that 6a destroys. A retry repeats the Jobs alone, and with them 5a.
// The pepper is never replaced, because every password would be lost with it.
//
// next, a pure function, decides the step from what was observed. The old version still decrypts until
// its retirement, which is the securenotes package's.
//
// Which Jobs are believed is decided by package trustedjob.
package keyrotation
