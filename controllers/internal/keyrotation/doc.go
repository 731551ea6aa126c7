// Package keyrotation carries out KeyRotations: it adds a version to the master key, has everything
// re-encrypted under it and verified, and records when the old version is to be retired.
//
// A rotation is an ordered list of steps. Each pass observes, takes the first step that is due, and
// starts again. A step records what it relies on in the status before it acts, and its result
// afterwards, so that an operator that dies at any instant continues where it stopped. Start
// reading at list in steps.go and at testdata/routine.golden. The reasons are in docs/adr/0005,
// 0006 and 0008.
//
// The steps of every rotation:
//
//  1. Wait for the turn: one rotation of a SecureNotes at a time, a Compromise first, then the
//     oldest.
//  2. Record fromVersion, the key's latest version, and with it that the turn is certain.
//  3. Rotate the key in Vault if its latest version is still fromVersion. Record toVersion.
//  4. Raise min_encryption_version to toVersion: nothing new is wrapped under the old version.
//  5. Run the re-encryption Job; record Reencrypted.
//  6. Run the verification Job, a fresh process; record Verified.
//  7. Record in the SecureNotes when the old version is to be retired; record Complete. Package
//     securenotes retires it.
//
// A Compromise also replaces everything else that could have leaked:
//
//	4a. Record the UIDs of the service accounts, delete these, and wait until they are recreated.
//	    Stop the backup Jobs that run with the old ones; record ServiceAccountsRecreated.
//	4b. Have Vault drop every database user that it has created; record
//	    DatabaseCredentialsReplaced. If that fails, record the failure and retry before the end.
//	4c. Record the latest version of the backup key, add another one, and let no earlier version
//	    sign; record BackupKeyReplaced. If Vault does not allow that, record the failure.
//	4d. Create new session keys under a recorded random name. The pods restart with them.
//	5a. The Job first ends every older session; record SessionsEnded.
//	6a. Once no pod uses the previous session keys, at whichever step, destroy them in Vault;
//	    record SessionKeysReplaced. Only the end waits for it.
//	7a. After the end, once the old version is retired, record OldVersionRetired.
//
// # The turn
//
// A rotation gets its turn in three stages:
//
//   - Queued: it has no startTime. ahead, in queue.go, returns the rotation that it waits for.
//   - Started: it has a startTime. Two operators can start two rotations at once. resolveTurn
//     decides which of them yields, and which one waits until the other has yielded.
//   - Certain: it also has shards and fromVersion (rotations.TurnCertain). Only now does it change
//     anything in Vault.
//
// A started NotesRestore comes before every rotation whose turn is not certain.
//
// A Compromise in its first attempt does not queue behind a started rotation that it supersedes.
// It starts too, and waits until that rotation has failed as Superseded. Only then is its turn
// certain.
package keyrotation
