// Package reencrypt does the work of a key rotation: a [Job] moves every owner key, and with it
// every sealed value, to a new version of the master key while users keep writing, and a
// [Verification] checks that nothing is left under an older version. A process may be killed at any
// instant. The next one finds the remaining work in the database, not in notes of an earlier run,
// so that a second process does nothing twice. Start reading at [Job.Run].
//
// # The order of writes
//
//  1. The Job raises the fence. From that commit on, no process can write an owner key under an
//     older version, however late its transaction commits.
//  2. For each owner with a stale key, Reencrypt inserts a new key and makes it the active one, for
//     many owners in one transaction. A crash leaves each owner with either the old or the new
//     active key.
//  3. The Job reads the new keys back from their committed rows and unwraps them. It never seals
//     with key bytes that only this process has.
//  4. The Job opens every row that is sealed with the old key, seals it with the new one, and
//     writes it only if its key and revision are still those that it read: a user's write in
//     between wins.
//  5. The Job deletes the old keys, several in one transaction. While a row still needs one of
//     them, the foreign key rejects the deletion, and the Job repeats step 4 for each of them.
//
// Rewrap keeps the keys and replaces their wrappings, for a page of keys in one transaction, each
// only if the wrapping is still the one that was read.
//
// # Durability
//
// Only step 4 does not wait until its commits are on disk. A crash of PostgreSQL may undo them, and
// then the old keys still exist. Step 5 waits, and because the log has one order, it waits for
// everything before it as well. If the wait of a commit is interrupted, for example while a standby
// server is down, the commit is visible but may still be lost. Therefore the verification ends with
// a wait of its own.
package reencrypt
