package archive

import (
	"errors"
	"fmt"
)

// Reasons of a [Refusal].
var (
	// ErrNoPublicKeys means that there are no public keys to verify a manifest with.
	ErrNoPublicKeys = errors.New("no public keys")
	// ErrNotSigned means that a manifest has no signature.
	ErrNotSigned = errors.New("not signed")
	// ErrOtherKey means that the signature is not of the trusted key: the file was edited, or
	// another key signed it.
	ErrOtherKey = errors.New("not signed by the trusted key")
	// ErrEndedVersion means that a Compromise ended the version of the key that signed.
	ErrEndedVersion = errors.New("signed by a version that a Compromise ended")
	// ErrNewerFormat means that a later release wrote the backup.
	ErrNewerFormat = errors.New("newer format")
	// ErrNoIdentity means that no age identity was given.
	ErrNoIdentity = errors.New("no identity")
	// ErrWrongIdentity means that no given identity is one of the file's recipients.
	ErrWrongIdentity = errors.New("wrong identity")
	// ErrMissing means that a file of the backup is not there.
	ErrMissing = errors.New("file is missing")
	// ErrDamaged means that a file is not what the backup wrote: truncated, extended, edited,
	// replaced, or of another backup.
	ErrDamaged = errors.New("damaged")
	// ErrRead means that a file could not be read. It may be whole.
	ErrRead = errors.New("cannot be read")
	// ErrNotArchived means that something cannot be written to a backup.
	ErrNotArchived = errors.New("cannot be archived")
)

// Refusal says why a file is not accepted, and what to do.
type Refusal struct {
	// Reason is one of the errors above.
	Reason error
	// Object is what is refused, usually the name of a file.
	Object string
	// Cause is the detail.
	Cause string
	// Next is what to do.
	Next string
	// Err is the error behind it, or nil.
	Err error
}

// Error says what failed, why, and what to do.
func (r *Refusal) Error() string {
	text := r.Object + ": " + r.Cause
	if r.Err != nil {
		text += ": " + r.Err.Error()
	}
	return text + ": " + r.Next
}

// Unwrap returns the reason and the error behind it.
func (r *Refusal) Unwrap() []error {
	if r.Err == nil {
		return []error{r.Reason}
	}
	return []error{r.Reason, r.Err}
}

// damaged returns the refusal of a file that is not what the backup wrote.
func damaged(object, cause string) *Refusal {
	return &Refusal{Reason: ErrDamaged, Object: object, Cause: cause, Next: "use another copy of the backup, or another backup"}
}

// notArchived returns the error for something that the format cannot hold.
func notArchived(object, cause string) *Refusal {
	return &Refusal{Reason: ErrNotArchived, Object: object, Cause: cause, Next: "this is an error in the program that writes the backup; report it"}
}

// newerFormat returns the refusal of a backup of a later release.
func newerFormat(object string, format int) *Refusal {
	return &Refusal{Reason: ErrNewerFormat, Object: object, Cause: fmt.Sprintf("it has format %d, and this program reads up to format %d", format, Format),
		Next: "use the release of securenotes that wrote it, or a later one"}
}
