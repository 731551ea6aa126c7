package backup

import "github.com/securenotes/securenotes/app/config"

// Report returns what the Job says of a backup.
func (m *Made) Report() *config.BackupReport {
	of := m.Manifest
	versions := of.MasterKey.Versions
	return &config.BackupReport{
		ID: of.ID, Sequence: of.Sequence, ArchiveSHA256: of.Archive.SHA256, ManifestSHA256: m.SHA256,
		Bytes: sizeOf(of), Escrow: of.Escrow != nil, Notes: of.Rows[tableNotes], Accounts: of.Rows[tableUsers],
		OldestKeyVersion: int64(of.MasterKey.OldestVersion), NewestKeyVersion: int64(versions[len(versions)-1].Version),
		SnapshotAt: m.SnapshotAt, VerifiedAt: m.VerifiedAt, UploadedAt: m.UploadedAt,
		Destination: m.Destination,
	}
}

// Report returns what the operator records of a restore.
func (r *Restored) Report() *config.RestoreReport {
	report := &config.RestoreReport{
		ID: r.Manifest.ID, DeploymentID: r.Manifest.Deployment.ID, Rows: r.Rows,
		Notes: r.Manifest.Rows[tableNotes], Accounts: r.Manifest.Rows[tableUsers],
		FromEscrow: r.FromEscrow, Fence: r.Fence, Damaged: r.Damaged.Total,
	}
	if r.FromEscrow {
		report.PepperEntry, report.PepperDigest = r.PepperEntry, r.PepperDigest
	}
	return report
}
