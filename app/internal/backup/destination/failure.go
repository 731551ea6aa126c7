package destination

import (
	"context"
	"errors"
	"fmt"
	"io"
	"unicode"
)

// failure is an error of a destination.
type failure struct {
	// action is what failed, with the file and the destination.
	action string
	// class is one of the classes of errors, or nil.
	class error
	cause error
	// next is what to do about it.
	next string
}

// Error returns the action, the class, the cause and what to do next.
func (f *failure) Error() string {
	text := f.action
	if f.class != nil {
		text += ": " + f.class.Error()
	}
	return text + ": " + printable(f.cause.Error()) + "; " + f.next
}

// Unwrap returns the class and the cause.
func (f *failure) Unwrap() []error {
	if f.class == nil {
		return []error{f.cause}
	}
	return []error{f.class, f.cause}
}

// nextAfterExists is for the files of a backup, and for the copies that rekeying makes.
const nextAfterExists = "a file is never overwritten: use an empty output directory for a copy, or start a new backup"

// maxCause bounds the length of a cause in an error. A server may have written a part of it.
const maxCause = 300

// printable returns a text that is safe to print, and not too long.
func printable(text string) string {
	safe := make([]rune, 0, min(len(text), maxCause))
	for _, r := range text {
		if len(safe) == maxCause {
			return string(safe) + "…"
		}
		if !unicode.IsPrint(r) {
			r = '?'
		}
		safe = append(safe, r)
	}
	return string(safe)
}

// action names an operation in errors. The name of a file is empty for the whole destination.
func action(verb, name string, in fmt.Stringer) string {
	if name == "" {
		return fmt.Sprintf("%s %s", verb, in)
	}
	return fmt.Sprintf("%s %s in %s", verb, name, in)
}

// limitError is a limit that a destination exceeds.
type limitError struct{ what, next string }

// Error names the limit.
func (e *limitError) Error() string { return e.what }

// source is the content that Create reads. It ends with the context, and remembers the error of the
// content, which is not the destination's.
type source struct {
	ctx     context.Context
	content io.Reader
	err     error
}

// Read reads the content.
func (s *source) Read(p []byte) (int, error) {
	if s.ctx.Err() != nil {
		s.err = context.Cause(s.ctx)
		return 0, s.err
	}
	n, err := s.content.Read(p)
	if err != nil && !errors.Is(err, io.EOF) {
		s.err = err
	}
	return n, err
}

// fill reads until p is full or the content ends. An unexpected end is an error, which
// [io.ReadFull] would not tell from the end.
func (s *source) fill(p []byte) (n int, last bool, err error) {
	n, err = io.ReadFull(s, p)
	if s.err != nil {
		return n, false, s.err
	}
	return n, err != nil, nil
}
