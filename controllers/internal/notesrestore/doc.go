// Package notesrestore carries out NotesRestores: it has the SecureNotes stand still, restores a
// backup into the database by a Job, and records which deployment the database then has.
//
// A restore is an ordered list of steps, as package steps describes. Start reading at list in
// steps.go and at testdata/escrow.golden. The steps:
//
//  1. Wait for the SecureNotes, and for the turn: no other restore, rotation or backup runs.
//  2. Record the start, read past the cache that nothing else has started, and record that the turn
//     is certain. From now on, package securenotes keeps the Deployment at 0 replicas.
//  3. Wait until no pod of the SecureNotes is left.
//  4. Create the service account and the configuration of the Job.
//  5. Run the Job. It verifies the backup before it writes, and marks the database until it is
//     done: no release serves a marked one. Record its report.
//  6. Record the deployment and the pepper in the marker in Vault, then in the SecureNotes, then on
//     the volume of an embedded database.
//  7. Queue a rotation that re-encrypts everything and retires the old versions at once: an escrow
//     file has had the owner keys outside Vault.
//  8. Record Complete, delete the service account, and remove the finalizer. The API starts.
//
// Until the report is recorded, a deleted restore stops: its Job is deleted, and it fails once no
// pod of the Job is left. After that it finishes first, because the database is restored.
//
// # What does not run beside a restore
//
// A rotation or a backup records its own start, and then asks [restores.Active] past the cache
// before it changes anything. A restore likewise records its start before it reads them. So of two
// that start at once, at least one sees the other. A rotation and a backup yield to a started
// restore unless they were certain before. To those that were, the restore yields. Package
// securenotes retires and trims nothing while a restore is started: it makes the SecureNotes stand
// still in the same sequence of passes, so that what it has begun has ended by then.
package notesrestore
