package backup

import (
	"context"
	"errors"

	"filippo.io/age"

	"github.com/securenotes/securenotes/app/config"
	"github.com/securenotes/securenotes/app/internal/backup/archive"
	"github.com/securenotes/securenotes/app/internal/backup/destination"
)

// Find returns a backup whose manifest is valid, or has the SHA-256 endedSHA256 although a
// Compromise ended the version of the key that signed it.
func Find(ctx context.Context, from destination.Destination, keys *config.BackupKeys, id, endedSHA256 string) (*Found, error) {
	found, _, err := find(ctx, from, keys, id, endedSHA256)
	return found, err
}

// find is Find, and also returns the bytes of the manifest file.
func find(ctx context.Context, from destination.Destination, keys *config.BackupKeys, id, endedSHA256 string) (*Found, []byte, error) {
	file, err := readManifest(ctx, from, id)
	if err != nil {
		return nil, nil, err
	}
	m, err := file.Verify(keys, endedSHA256)
	if err != nil {
		return nil, nil, err
	}
	return &Found{ID: id, Manifest: m, SHA256: file.SHA256()}, file.raw, nil
}

// Verification checks a backup without cluster, Vault and database.
type Verification struct {
	Source     destination.Destination
	ID         string
	PublicKeys *config.BackupKeys
	// EndedSHA256 is that of [Restore].
	EndedSHA256 string
	// Identities may open the archive and the escrow file. Without them, only the signature and the
	// digests are checked.
	Identities []age.Identity
	Phase      Phase
}

// Verified is what a Verification checked.
type Verified struct {
	*Found
	*archive.Report
	// Values is the number of values that were opened with the keys of the escrow file. If that was
	// opened, these are all values.
	Values int64
}

// Run verifies. If the original files are missing, or are not for the identities, it reads the
// copies for other recipients. A Refusal of the reason ErrDamagedRows names what is damaged.
func (v *Verification) Run(ctx context.Context) (*Verified, error) {
	found, err := Find(ctx, v.Source, v.PublicKeys, v.ID, v.EndedSHA256)
	if err != nil {
		return nil, err
	}
	check := archive.Check{Manifest: found.Manifest, Files: files{v.Source}, Identities: v.Identities}
	read, err := readFiles(ctx, check, v.Phase, ignoreRows)
	if err != nil {
		return nil, err
	}
	verified := &Verified{found, read.Report, read.opened}
	return verified, read.damaged.refuse(found.Manifest, "restore another backup, or all the rest of this one with --accept-damaged")
}

// reading is what a complete reading of a backup has found.
type reading struct {
	*archive.Report
	// rekeyed reports whether the copies for other recipients were read.
	rekeyed bool
	// opened is the number of values that were opened with the escrow's keys, and damaged are
	// those that did not open.
	opened  int64
	damaged Damaged
}

// rowVisitor is called with each row of an archive.
type rowVisitor func(table archive.Table, values []any) error

// ignoreRows returns a rowVisitor that does nothing.
func ignoreRows() rowVisitor { return func(archive.Table, []any) error { return nil } }

// readFiles verifies the original files of a backup. If these are missing or not for the
// identities, and there are copies for other recipients, it verifies and selects those. begin
// returns the visitor of one reading. If the identities open the escrow file, it opens every value.
func readFiles(ctx context.Context, check archive.Check, phase Phase, begin func() rowVisitor) (*reading, error) {
	read, err := readRows(ctx, check, phase, begin())
	if len(check.Identities) == 0 || !errors.Is(err, archive.ErrWrongIdentity) && !errors.Is(err, archive.ErrMissing) {
		return read, err
	}
	check.Rekeyed = true
	if copies, errCopies := readRows(ctx, check, phase, begin()); !errors.Is(errCopies, archive.ErrMissing) {
		return copies, errCopies
	}
	return read, err
}

// readRows is readKind, and opens every value if the identities open the escrow file.
func readRows(ctx context.Context, check archive.Check, phase Phase, visit rowVisitor) (*reading, error) {
	values := newOpener(check)
	defer values.close()
	check.Row = func(table archive.Table, row []any, key []byte) error {
		return errors.Join(visit(table, row), values.row(ctx, table, row, key))
	}
	report, err := readKind(ctx, check, phase)
	return &reading{report, check.Rekeyed, values.opened, values.damaged}, err
}

// readKind verifies either the original files or the copies.
func readKind(ctx context.Context, check archive.Check, phase Phase) (report *archive.Report, err error) {
	err = phase(ctx, "bytes", func(ctx context.Context, progress Report) (err error) {
		var done int64
		total := readBytes(check)
		check.Progress = func(n int) {
			done += int64(n)
			progress(done, max(total, done))
		}
		report, err = archive.Verify(ctx, check)
		return err
	})
	return report, err
}

// readBytes returns how many bytes a verification reads: each file for its digest, and again for
// its content.
func readBytes(check archive.Check) int64 {
	total := check.Manifest.Archive.Size
	if check.Manifest.Escrow != nil {
		total += check.Manifest.Escrow.Size
	}
	if len(check.Identities) > 0 {
		total *= 2
	}
	return total
}
