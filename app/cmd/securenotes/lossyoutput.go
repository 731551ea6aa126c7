package main

import (
	"io"
	"os"
	"sync"
	"time"

	"github.com/securenotes/securenotes/app/internal/audit"
)

const (
	// logPatience is how long a line of the process's log may take, and stalledPatience how long the
	// rest of one may take once the reader has stalled.
	logPatience, stalledPatience = 100 * time.Millisecond, 5 * time.Millisecond
)

// lossyOutput writes the process's log. A reader that stalls loses lines, and does not stop the
// process. It is safe for concurrent use.
type lossyOutput struct {
	mu sync.Mutex
	to *os.File
	// rest is of a line that was cut off: it goes first, so that lines stay whole.
	rest []byte
}

// newLossyOutput returns what writes to the file, which is a process's standard error.
func newLossyOutput(f *os.File) io.Writer {
	own, err := audit.Output(f)
	if err != nil {
		return f // it blocks, and loses nothing
	}
	return &lossyOutput{to: own}
}

// Write implements io.Writer. It returns no error: there is nowhere to report one.
func (o *lossyOutput) Write(line []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if len(o.rest) > 0 {
		_ = o.to.SetWriteDeadline(time.Now().Add(stalledPatience))
		n, err := o.to.Write(o.rest)
		o.rest = o.rest[n:]
		if err != nil {
			return len(line), nil
		}
	}
	_ = o.to.SetWriteDeadline(time.Now().Add(logPatience)) // a regular file has none
	if n, err := o.to.Write(line); err != nil && n > 0 {
		o.rest = append([]byte{}, line[n:]...)
	}
	return len(line), nil
}
