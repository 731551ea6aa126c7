// Package sessions knows what a session is and how its token looks. A token alone proves nothing:
// every request also needs the session's row, so that a logout holds at once on every replica.
package sessions

import (
	"errors"
	"time"
)

// ErrInvalid means that the token is not one of ours, has expired, or its session has ended.
var ErrInvalid = errors.New("invalid session")

// ErrNotFound means that the user has no such session.
var ErrNotFound = errors.New("session not found")

// Identity is who a request comes from.
type Identity struct {
	// Owner is the user's id, a UUID.
	Owner string
	// Session is the session's id, a UUID.
	Session string
}

// Session is a login that lasts until it expires or is ended.
type Session struct {
	Identity
	CreatedAt, ExpiresAt time.Time
}
