// Package destination stores the files of backups in a directory, or in a bucket of S3 or of a
// server with the same protocol. It knows names and bytes, and not what is in a file.
//
// A file is never renamed or overwritten, and only [Destination.Delete] and [Destination.Sweep]
// delete. So credentials that may put, get and list are enough for a backup. In a directory the
// other files have their names while they are written, and a manifest gets its name with its whole
// content.
// Start reading at [Destination].
package destination

import (
	"context"
	"errors"
	"io"
	"time"

	"github.com/securenotes/securenotes/app/config"
)

// Destination is where the files of backups are. It is safe for concurrent use.
type Destination interface {
	// Create stores content under a new name, and returns after the content is durable. The error
	// is [ErrExists] if there is a file of that name. After another error Create removes what it
	// wrote, as far as the destination still answers and the credentials allow it.
	Create(ctx context.Context, name string, content io.Reader) error
	// Open returns the content and the size of a file. The error is [ErrNotFound] if there is none.
	Open(ctx context.Context, name string) (content io.ReadCloser, size int64, err error)
	// List returns the files that have names of backups' files, sorted by name.
	List(ctx context.Context) ([]Entry, error)
	// Delete removes a file, and returns after that is durable. It is no error if there is none. A
	// bucket with versions keeps the content as an older version.
	Delete(ctx context.Context, name string) error
	// Sweep removes what failed backups left and nothing has changed since olderThan: unfinished
	// uploads, temporary files, and the files of a backup that has no manifest, not even an empty
	// one. It returns how many it removed, also with an error, which is only worth a report.
	Sweep(ctx context.Context, olderThan time.Time) (removed int, err error)
	// String names the destination in messages. It contains no secret.
	String() string
}

// Entry is a file of a backup.
type Entry struct {
	Name    string
	Size    int64
	ModTime time.Time
}

// Classes of errors. An error of no class is a wrong configuration, or the context's, or the error
// of the content that Create reads.
var (
	ErrNotFound = errors.New("not found")
	ErrExists   = errors.New("already exists")
	ErrDenied   = errors.New("access denied")
	ErrFull     = errors.New("no space left")
	// ErrUnavailable is worth another attempt later.
	ErrUnavailable = errors.New("unavailable")
)

// New returns the destination that a configuration describes. It does not connect to it.
func New(c config.Destination) (Destination, error) {
	switch {
	case c.ObjectStore != nil:
		return newBucket(*c.ObjectStore)
	case c.Directory != nil:
		return newDirectory(*c.Directory), nil
	default:
		return nil, errors.New("backup.destination is empty: it needs a directory or an objectStore")
	}
}

// Prepare creates the directory of a destination, with the mode 0700, if it is missing in a
// directory that is there. It creates no bucket. The error has a class; it is [ErrNotFound] if the
// directory above is missing, too.
func Prepare(c config.Destination) error {
	if c.Directory == nil {
		return nil
	}
	return newDirectory(*c.Directory).prepare()
}
