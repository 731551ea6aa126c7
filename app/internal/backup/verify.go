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
}

// Run verifies. If the original files are missing, or are not for the identities, it reads the
// copies for other recipients.
func (v *Verification) Run(ctx context.Context) (*Verified, error) {
	found, err := Find(ctx, v.Source, v.PublicKeys, v.ID, v.EndedSHA256)
	if err != nil {
		return nil, err
	}
	check := archive.Check{Manifest: found.Manifest, Files: files{v.Source}, Identities: v.Identities}
	report, _, err := readFiles(ctx, check, v.Phase)
	return &Verified{found, report}, err
}

// readFiles verifies the original files of a backup. If these are missing or not for the
// identities, and there are copies for other recipients, it verifies and selects those.
func readFiles(ctx context.Context, check archive.Check, phase Phase) (report *archive.Report, rekeyed bool, err error) {
	report, err = readKind(ctx, check, phase)
	if len(check.Identities) == 0 || !errors.Is(err, archive.ErrWrongIdentity) && !errors.Is(err, archive.ErrMissing) {
		return report, false, err
	}
	check.Rekeyed = true
	if copies, errCopies := readKind(ctx, check, phase); !errors.Is(errCopies, archive.ErrMissing) {
		return copies, true, errCopies
	}
	return report, false, err
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
