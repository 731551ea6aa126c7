// Package notesbackup carries out NotesBackups: it runs the Job that writes a backup, and records
// what the Job reports of it.
//
// A backup is an ordered list of steps; see package steps. Start reading at list in steps.go and at
// testdata/scheduled.golden.
//
//  1. Wait until the SecureNotes can be backed up, and until the older backups have ended.
//  2. Record the start, and the SecureNotes that is backed up.
//  3. Create the ConfigMap with the configuration of the Job. Its name has a hash of the content.
//     So a later change of spec.backup does not change what a running Job does.
//  4. Run the Job; record its identity and where it writes.
//  5. Record what its pod reported, and Complete, in one write.
//
// A backup does not retry: the Job does so for a few hours. After it has failed, the schedule
// creates another NotesBackup. What the Job has left in the destination has no manifest, so it is
// no backup, and a later Job removes it.
//
// A NotesBackup has no finalizer and may be deleted at any time. Kubernetes then deletes its Job.
// It is not owned by the SecureNotes, because it tells where the backup is after that is gone.
//
// If the SecureNotes or its spec.backup is removed while the Job runs, the backup fails, and the
// Job is stopped. A Compromise of the keys deletes the Job; see package keyrotation. The backup
// then starts again, with the recreated service account.
package notesbackup
