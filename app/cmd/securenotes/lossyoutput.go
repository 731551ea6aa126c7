package main

import (
	"io"
	"os"
	"sync"
	"time"

	"github.com/securenotes/securenotes/app/internal/audit"
)

const (
	// logPatience bounds the write of one log line. stalledPatience bounds the write of the rest of
	// a line once the reader has stalled.
	logPatience, stalledPatience = 100 * time.Millisecond, 5 * time.Millisecond
)

// lossyOutput writes the process's log. It drops lines instead of blocking the process when the
// reader stalls. It is safe for concurrent use.
type lossyOutput struct {
	mu sync.Mutex
	to *os.File
	// rest is the unwritten end of a line. It is written before the next line, so that lines stay
	// whole.
	rest []byte
}

// newLossyOutput returns a writer to the file, the process's standard error.
func newLossyOutput(f *os.File) io.Writer {
	own, err := audit.Output(f)
	if err != nil {
		return f // it may block, and drops nothing
	}
	return &lossyOutput{to: own}
}

// Write implements io.Writer. It returns no error, because there is nowhere to report one.
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
	_ = o.to.SetWriteDeadline(time.Now().Add(logPatience)) // a regular file has no deadline
	if n, err := o.to.Write(line); err != nil && n > 0 {
		o.rest = append([]byte{}, line[n:]...)
	}
	return len(line), nil
}
