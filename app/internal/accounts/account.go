// Package accounts is the domain of users: registration, passwords, login and logout.
package accounts

import (
	"errors"
	"time"
)

// Errors that callers tell apart with errors.Is.
var (
	ErrUsernameTaken      = errors.New("the username already exists")
	ErrNotFound           = errors.New("no such user")
	ErrInvalidCredentials = errors.New("invalid credentials")
	ErrRegistrationClosed = errors.New("registration is closed")
	ErrTooManyAccounts    = errors.New("the maximum number of accounts is reached")
	// ErrFenced means that the new owner key was wrapped under a master key version below the fence
	// of a rotation that has started since.
	ErrFenced = errors.New("the owner key is below the rotation fence")
	// ErrPepperLost means that a login failed while a pepper that some password needs is missing in
	// Vault.
	ErrPepperLost = errors.New("a pepper is missing in Vault")
	// ErrBusy means that too many passwords are being hashed.
	ErrBusy = errors.New("too many passwords are being hashed")
)

// InvalidError means that a username or a password is not allowed. Its message is for the user.
type InvalidError struct{ Message string }

func (e *InvalidError) Error() string { return e.Message }

// User is an account.
type User struct {
	// ID is a random UUID.
	ID       string
	Username string
	// PasswordHash is bcrypt over the peppered password; PepperID is the id of that pepper.
	PasswordHash, PepperID string
	// SecondFactor is the id of the user's confirmed second factor; empty if there is none.
	SecondFactor string
	CreatedAt    time.Time
}
