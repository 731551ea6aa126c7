// Package backup makes backups of a deployment and restores them. A [Backup] writes the rows of the
// database, with their values still sealed, to an archive, and with an escrow also the keys that
// open them. A [Restore] fills an empty database from them, and a [Drill] does so to test the
// newest backup. All stream, so their memory does not grow with the data, and all may be killed at
// any instant and run again. The package archive knows the format, destination the place, and store
// the rows. Start reading at [Backup.Run] and [Restore.Run].
//
// # The order of writes of a backup
//
//  1. The archive, from one consistent snapshot, under its final name.
//  2. The escrow file, if there are escrow recipients, from the same snapshot.
//  3. Both are read back and compared. The master key's versions that the archive needs must still
//     be there.
//  4. The signed manifest, which is read back, too. Only this file makes the backup exist, so a
//     backup that is visible is whole. What a failed run leaves has no manifest, and a later run
//     removes it. The versions of both keys are read once more: if one that the backup needs ended
//     at that time, the run fails, and is repeated.
//  5. With keep, the backups that it no longer keeps are deleted, the manifest of each before its
//     other files. If a run ends between the two, files without a manifest are left. A later run
//     removes them once they are two days old, like those of a failed run.
//
// # The order of writes of a restore
//
//  1. Nothing, until everything is verified: the signature, the digests, every row, the keys, the
//     peppers and the target.
//  2. Migrations of the target.
//  3. The mark that a restore fills the database. Every release refuses a marked database. A later
//     run takes it over and starts over.
//  4. From an escrow, a new entry with the peppers. A run that fails later leaves an entry that
//     nothing uses.
//  5. The rows, in batches. Each batch is refused once another run has taken over. From an escrow,
//     the owner keys are wrapped again. The digests of what was read are compared at the end.
//  6. After every owner key has been unwrapped, and one value of each table opened under it: the
//     last transaction replaces the mark by the id of the archive's deployment, and sets fence,
//     pepper and a new epoch.
//
// # Damage
//
// A backup copies owner keys that do not unwrap, and values that do not open, as they are: it does
// not decrypt. A restore collects them, and refuses the backup unless it is told to restore all the
// rest. From an escrow, step 1 opens every value: the escrow file is read a second time beside the
// values, in the same order. Without one, only Vault unwraps the owner keys, so the damage is found
// in step 6, while the database is still marked. To find it before would ask Vault for every key
// twice. A [Verification] with the escrow opens every value without Vault.
package backup
