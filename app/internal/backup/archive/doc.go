// Package archive is the file format of backups. docs/backup-format.md describes it for readers
// that do not have this program.
//
// A backup is an archive, an optional escrow file with the keys, and a signed manifest beside them.
// Archive and escrow are age( zstd( tar ) ): [Writer] writes one and [Reader] reads one, each as a
// stream in bounded memory. [Seal] signs a [Manifest], and [Envelope.Verify] checks the signature
// against public keys that the caller trusts. [Verify] checks all files of one backup.
//
// The one idea: there is exactly one encoding of everything, and the reader refuses any other. What
// it reads, it compares with what the writer would have written. The package knows no database, no
// Vault and no network.
package archive
