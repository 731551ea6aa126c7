package backup

import (
	"errors"

	"github.com/securenotes/securenotes/app/internal/backup/archive"
)

// Reasons of a refusal, in addition to those of package archive. Nothing has been written.
var (
	// ErrUnknown means that there is no such backup.
	ErrUnknown = errors.New("no such backup")
	// ErrOlder means that the destination has a newer backup of the same SecureNotes.
	ErrOlder = errors.New("older than another backup")
	// ErrNewerSchema means that a later release wrote the rows.
	ErrNewerSchema = errors.New("newer schema")
	// ErrOtherDeployment means that the backup is of another deployment, and that no escrow is
	// used.
	ErrOtherDeployment = errors.New("backup of another deployment")
	// ErrNoEscrow means that the backup has no escrow file.
	ErrNoEscrow = errors.New("no escrow")
	// ErrVersionsRefused means that the master key does not unwrap the backup's keys.
	ErrVersionsRefused = errors.New("master key versions are refused")
	// ErrPepperMissing means that nobody has the pepper of a password.
	ErrPepperMissing = errors.New("a pepper is missing")
	// ErrDamagedRows means that owner keys do not unwrap, or that values do not open. The backup is
	// as it was written: the database had the damage. A restore without an escrow notices it at the
	// end, when the database is already marked.
	ErrDamagedRows = errors.New("damaged owner keys or values")
	// ErrChanged means that the files changed while a restore loaded them. Unlike the others it is
	// no refusal: rows have been written.
	ErrChanged = errors.New("the files changed while they were read")
	// ErrVersionsGone means that the master key no longer has the versions that a new backup needs,
	// or that a Compromise has ended the version of the backup key that signed it.
	ErrVersionsGone = errors.New("key versions are gone")
)

// refuse returns a refusal: object is what is refused, because of cause, and next is what to do.
func refuse(reason error, object, cause, next string) error {
	return &archive.Refusal{Reason: reason, Object: object, Cause: cause, Next: next}
}
