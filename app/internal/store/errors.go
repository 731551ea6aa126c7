package store

import (
	"errors"
	"fmt"
)

// Errors that callers distinguish with errors.Is, in addition to those of the domain packages.
var (
	// ErrUnavailable means that the database does not answer at the moment. A retry may help.
	ErrUnavailable = errors.New("the database is unavailable")
	// ErrRefused is an ErrUnavailable where the server, or a pooler in front of it, answers and
	// says why it refuses the connection.
	ErrRefused = fmt.Errorf("%w: it answers, but refuses the service", ErrUnavailable)
	// ErrPermission means that the database user lacks a privilege.
	ErrPermission = errors.New("the database user lacks a right")
	// ErrAuthentication means that the database rejects the user or the password.
	ErrAuthentication = errors.New("the database refuses the login")
	// ErrSecretMissing means that the file with the connection URI does not exist.
	ErrSecretMissing = errors.New("the database URI is missing")
	// ErrInvalidURI means that the connection URI cannot be used.
	ErrInvalidURI = errors.New("the database URI is not valid")
	// ErrSchema means that the schema is not the one that this program needs.
	ErrSchema = errors.New("the database schema does not fit this program")
	// ErrNoMeta means that no deployment has claimed the database yet.
	ErrNoMeta = errors.New("the database belongs to no deployment yet")
	// ErrOtherDeployment means that the database belongs to another deployment.
	ErrOtherDeployment = errors.New("the database belongs to another deployment")
	// ErrRestored means that the database has been restored from a backup since this process opened
	// it, or is being restored.
	ErrRestored = errors.New("the database was restored from a backup while this process used it")
	// ErrSuperseded means that the fence is above the version of the calling rotation. A newer
	// rotation has begun and the caller must stop.
	ErrSuperseded = errors.New("a newer key rotation has begun")
	// ErrFenceTooLow means that the fence is below the version of the calling rotation, which must
	// raise it first.
	ErrFenceTooLow = errors.New("the rotation fence has not been raised")
)

// Errors that do not leave this package.
var (
	// errNoTable is the ErrSchema of a table that does not exist.
	errNoTable = fmt.Errorf("%w: a table is missing", ErrSchema)
	// errRetry marks an error after which the whole transaction can be retried.
	errRetry = errors.New("the transaction must be retried")
	// errLocked is the errRetry of a lock that another session has kept for too long.
	errLocked = fmt.Errorf("%w: another session keeps a lock", errRetry)
	// errForeignKey means that rows are still sealed with the owner key that a statement deletes,
	// or that the owner key that a statement refers to has been deleted.
	errForeignKey = errors.New("foreign key violation")
	// errDuplicate means that Load would insert a row that exists.
	errDuplicate = errors.New("the row exists")
	// errRunAlone makes a caller repeat its part of a failed batch on its own, so that it does not
	// fail because of another caller's part.
	errRunAlone = errors.New("the call must be repeated on its own")
)
