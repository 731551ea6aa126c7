// Package reencrypt is the work of a key rotation: it moves every owner key, and with it every
// sealed value, to a new version of the master key, while users keep writing; and it verifies that
// nothing is left behind.
//
// The order of writes is what makes it safe to kill at any instant:
//
//  1. The fence is raised. From its commit on, no owner key can be written under an older version,
//     by anyone, however late its transaction commits.
//  2. For each owner with a stale key, Reencrypt inserts a new key and makes it the active one, those of
//     many owners in one transaction; a crash leaves each with either the old or the new active key.
//  3. The new keys are read back from their committed rows and unwrapped. Nothing is ever sealed with
//     bytes that only this process has.
//  4. Every row sealed with the old key is opened, sealed with the new one, and written only if its
//     key and revision are still the ones that were read: a user's write in between wins.
//  5. The old keys are deleted, several in one transaction. While one row still needs one of them, the
//     foreign key refuses, and step 4 is repeated for each of them.
//
// Step 4 alone does not wait until what it commits is on the disk: a crash of PostgreSQL may undo it, and then finds the
// old keys where they were. Step 5 waits, and with it, because the log has one order, for all that came before. A wait that
// is cut off, as with a standby server away, leaves a commit that is seen and may yet be lost: so the verification ends
// with one of its own.
//
// Rewrap keeps the keys and replaces their wrappings, those of a page of keys in one transaction, each only if the old one
// is still there.
//
// The work is what the database says is stale, not what an earlier run noted as done: a second run,
// or a second process at the same time, does what is left and nothing twice.
package reencrypt
