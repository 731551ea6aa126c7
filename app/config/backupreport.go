package config

import "time"

// EarliestBackup is before any backup was started.
var EarliestBackup = time.Date(2020, 1, 1, 0, 0, 0, 0, time.UTC)

// BackupReport is what a backup Job says of a complete backup, as a part of its [Termination]. All
// times are in UTC, and all sizes in bytes.
type BackupReport struct {
	// ID of the backup, and its signed sequence number.
	ID       string `json:"id"`
	Sequence int64  `json:"sequence"`
	// ArchiveSHA256 and ManifestSHA256 are in hexadecimal.
	ArchiveSHA256  string `json:"archiveSHA256"`
	ManifestSHA256 string `json:"manifestSHA256"`
	// Bytes is the size of the archive and the escrow file.
	Bytes    int64 `json:"bytes"`
	Escrow   bool  `json:"escrow,omitempty"`
	Notes    int64 `json:"notes"`
	Accounts int64 `json:"accounts"`
	// OldestKeyVersion to NewestKeyVersion are the versions of the master key that a restore
	// without the escrow may need.
	OldestKeyVersion int64 `json:"oldestKeyVersion"`
	NewestKeyVersion int64 `json:"newestKeyVersion"`
	// SnapshotAt is when the database was read, VerifiedAt when the files had been read back, and
	// UploadedAt when the manifest was written.
	SnapshotAt time.Time `json:"snapshotAt"`
	VerifiedAt time.Time `json:"verifiedAt"`
	UploadedAt time.Time `json:"uploadedAt"`
	// Destination is what the destination has afterwards. Nil: it could not be listed.
	Destination *DestinationReport `json:"destination,omitempty"`
}

// DestinationReport is a listing of the destination, which other SecureNotes may use too. Except
// Invalid, it counts only backups of the same SecureNotes UID whose signature is of a version of
// the deployment's backup key, also of one that a Compromise ended.
type DestinationReport struct {
	ListedAt time.Time `json:"listedAt"`
	Backups  int64     `json:"backups"`
	// Bytes is the size of their archives and escrow files.
	Bytes int64 `json:"bytes"`
	// OldestAt is when the oldest was started.
	OldestAt time.Time `json:"oldestAt"`
	// OldestKeyVersion is the least of all of them, and of those of Invalid that have such a
	// signature.
	OldestKeyVersion int64 `json:"oldestKeyVersion"`
	// WithoutEscrow is the number of them without an escrow file, which need the master key.
	WithoutEscrow int64 `json:"withoutEscrow,omitempty"`
	// Invalid is the number of manifests that cannot be read or verified, or that say that a backup
	// was started before EarliestBackup or has more bytes than a backup can have. Only
	// OldestKeyVersion may count them.
	Invalid int64 `json:"invalid,omitempty"`
	// Deleted is the number of backups that were deleted because Keep no longer keeps them.
	Deleted int64 `json:"deleted,omitempty"`
	// DeletionError is why others were not deleted, at most 512 bytes.
	DeletionError string `json:"deletionError,omitempty"`
	// DeletionRefused reports whether DeletionError is that the destination refuses to delete. The
	// next backup tries again after any other error.
	DeletionRefused bool `json:"deletionRefused,omitempty"`
}

// DrillReport is what a drill Job says of a backup that is intact, as a part of its [Termination].
type DrillReport struct {
	// Result is DrillPassed or DrillVersionsRetired.
	Result string `json:"result"`
	// ID of the backup, and its signed sequence number.
	ID       string `json:"id"`
	Sequence int64  `json:"sequence"`
	// Entry is that of the identity that opened the archive.
	Entry string `json:"entry"`
	// Accounts and Notes are what the backup has. OwnerKeys and Values are how many were unwrapped
	// and opened; both are 0 with DrillVersionsRetired.
	Accounts  int64 `json:"accounts"`
	Notes     int64 `json:"notes"`
	OwnerKeys int64 `json:"ownerKeys"`
	Values    int64 `json:"values"`
}

// The results of a drill Job.
const (
	// DrillPassed means that the backup was restored.
	DrillPassed = "Passed"
	// DrillVersionsRetired means that the backup needs versions of the master key that no longer
	// decrypt.
	DrillVersionsRetired = "VersionsRetired"
)
