// Package backup makes backups of a deployment and restores them. A [Backup] writes the rows of the
// database, with their values still sealed, to an archive, and with an escrow also the keys that
// open them. A [Restore] fills an empty database from them. Both stream, so their memory does not
// grow with the data, and both may be killed at any instant and run again. The package archive
// knows the format, destination the place, and store the rows. Start reading at [Backup.Run] and
// [Restore.Run].
//
// # The order of writes of a backup
//
//  1. The archive, from one consistent snapshot, under its final name.
//  2. The escrow file, if there are escrow recipients, from the same snapshot.
//  3. Both are read back and compared. The master key's versions that the archive needs must still
//     be there.
//  4. The signed manifest, which is read back, too. Only this file makes the backup exist, so a
//     backup that is visible is whole. What a failed run leaves has no manifest, and a later run
//     removes it.
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
//  6. After everything has been opened once: the last transaction replaces the mark by the id of
//     the archive's deployment, and sets fence, pepper and a new epoch.
package backup
