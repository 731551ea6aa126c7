// Package notes is the domain of notes: what one is, what its limits are, and how it is sealed,
// opened and changed without ever being stored in the clear.
package notes

import (
	"errors"
	"time"
)

// Limits of a note.
const (
	// maxContent is in characters (Unicode code points), not bytes.
	maxContent = 100_000
	// maxTitle is in characters.
	maxTitle = 200
	// MaxTags is how many tags a note may have.
	MaxTags = 20
	// maxTag is in characters.
	maxTag = 50
)

// Errors that callers tell apart with errors.Is.
var (
	// ErrNotFound means that the owner has no such note.
	ErrNotFound = errors.New("note not found")
	// ErrStale means that the note has another revision than the write expects.
	ErrStale = errors.New("the note was changed meanwhile")
	// ErrExists means that there is already a note with this id.
	ErrExists = errors.New("the note exists already")
	// ErrInvalidContent, ErrInvalidTitle and ErrInvalidTags: outside the limits.
	ErrInvalidContent = errors.New("Invalid note content")
	ErrInvalidTitle   = errors.New("Invalid note title")
	ErrInvalidTags    = errors.New("Invalid note tags")
)

// Text is what a client writes.
type Text struct {
	Content string
	// Title may be empty.
	Title string
	Tags  []string
}

// Note is what a client reads.
type Note struct {
	Text
	ID                   string
	Revision             int64
	CreatedAt, UpdatedAt time.Time
}

// Summary is a note in a list: nothing of it needs decryption.
type Summary struct {
	ID                   string
	CreatedAt, UpdatedAt time.Time
}

// Sealed is a note as it is stored.
type Sealed struct {
	ID       string
	KeyID    string
	Revision int64
	// Content is always there; Title and Tags are nil when the note has none.
	Content, Title, Tags []byte
	CreatedAt, UpdatedAt time.Time
}
