// Package notes is the domain of notes: their limits, and how they are sealed, stored, opened and
// changed. Only sealed text reaches the database.
//
// write.go is the way of a note to its row. It validates the text, seals it with the owner's active
// key, reserves the user's quota and runs one statement.
package notes

import (
	"errors"
	"strings"
	"time"
	"unicode/utf8"
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
	// ErrStale means that the note's revision is not the one that the write expects.
	ErrStale = errors.New("the note has another revision")
	// ErrExists means that there is already a note with this id.
	ErrExists = errors.New("the note exists already")
	// ErrInvalidContent, ErrInvalidTitle and ErrInvalidTags mean that a limit is exceeded.
	ErrInvalidContent = errors.New("invalid note content")
	ErrInvalidTitle   = errors.New("invalid note title")
	ErrInvalidTags    = errors.New("invalid note tags")
)

// Text is what a client writes.
type Text struct {
	Content string
	// Title may be empty.
	Title string
	Tags  []string
}

// validate checks a note's limits. Errors: ErrInvalidContent, ErrInvalidTitle, ErrInvalidTags.
func (t Text) validate() error {
	if strings.TrimSpace(t.Content) == "" || !fits(t.Content, maxContent) {
		return ErrInvalidContent
	}
	if !fits(t.Title, maxTitle) {
		return ErrInvalidTitle
	}
	if len(t.Tags) > MaxTags {
		return ErrInvalidTags
	}
	for _, tag := range t.Tags {
		if strings.TrimSpace(tag) == "" || !fits(tag, maxTag) {
			return ErrInvalidTags
		}
	}
	return nil
}

func fits(text string, limit int) bool {
	return utf8.ValidString(text) && utf8.RuneCountInString(text) <= limit
}

// Note is what a client reads.
type Note struct {
	Text
	ID                   string
	Revision             int64
	CreatedAt, UpdatedAt time.Time
}

// Summary is a note in a list. It needs no decryption.
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

// size is how many bytes of a quota the note takes.
func (n Sealed) size() int64 { return int64(len(n.Content) + len(n.Title) + len(n.Tags)) }

// note returns the note with the given text, which n seals.
func (n Sealed) note(text Text) Note {
	return Note{Text: text, ID: n.ID, Revision: n.Revision, CreatedAt: n.CreatedAt, UpdatedAt: n.UpdatedAt}
}
