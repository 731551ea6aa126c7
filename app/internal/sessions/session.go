// Package sessions defines sessions and their tokens. A token alone proves nothing: every request
// also needs the session's row in the database, so that a logout takes effect at once on every
// replica.
package sessions

import (
	"errors"
	"time"
)

// ErrInvalid means that the token is not one of this deployment, that it has expired, or that its
// session has ended.
var ErrInvalid = errors.New("invalid session")

// ErrNotFound means that the user has no such session.
var ErrNotFound = errors.New("session not found")

// Identity is the user and the session of a request.
type Identity struct {
	// Owner is the user's id, a UUID.
	Owner string
	// Session is a login. It lasts until it expires or is ended.
	Session string
}

// Session is a login. It lasts until it expires or is ended.
type Session struct {
	Identity
	CreatedAt, ExpiresAt time.Time
}
