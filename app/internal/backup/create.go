package backup

import (
	"context"
	"errors"
	"io"

	"github.com/securenotes/securenotes/app/internal/backup/destination"
)

// errUpload is what a producer gets once the destination has stopped reading.
var errUpload = errors.New("the upload has ended")

// createFrom stores what produce writes as a new file.
func createFrom(ctx context.Context, in destination.Destination, name string, produce func(io.Writer) error) error {
	from, to := io.Pipe()
	stored := make(chan error, 1)
	go func() {
		err := in.Create(ctx, name, from)
		// The producer must not wait for a reader that has gone.
		_ = from.CloseWithError(errors.Join(errUpload, err))
		stored <- err
	}()
	err := produce(to)
	_ = to.CloseWithError(err) // nil: end of file
	if failed := <-stored; failed != nil && (err == nil || errors.Is(err, errUpload)) {
		return failed
	}
	return err
}
