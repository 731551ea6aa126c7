// Package accounts is the domain of users: registration, passwords, login and logout.
package accounts

import (
	"errors"
	"time"
)

// Errors that callers tell apart with errors.Is.
var (
	ErrUsernameTaken      = errors.New("Username already exists")
	ErrNotFound           = errors.New("no such user")
	ErrInvalidCredentials = errors.New("Invalid credentials")
	ErrRegistrationClosed = errors.New("Registration is closed")
	ErrTooManyAccounts    = errors.New("This service has as many accounts as it allows")
	// ErrFenced means that the new owner key was wrapped under a master key version that a rotation has left
	// behind meanwhile.
	ErrFenced = errors.New("the owner key is below the rotation fence")
	// ErrPepperLost means that a login failed while a pepper that some password needs is not in
	// Vault.
	ErrPepperLost = errors.New("a pepper is not in Vault")
	// ErrBusy means that too many passwords are being hashed right now.
	ErrBusy = errors.New("too many logins at once")
)

// InvalidError says what is wrong with a username or a password.
type InvalidError struct{ Message string }

func (e *InvalidError) Error() string { return e.Message }

// User is an account.
type User struct {
	// ID is a random UUID.
	ID       string
	Username string
	// PasswordHash is bcrypt over the peppered password; PepperID says with which pepper.
	PasswordHash, PepperID string
	// SecondFactor is the id of the second factor that the user has confirmed; empty: none.
	SecondFactor string
	CreatedAt    time.Time
}
