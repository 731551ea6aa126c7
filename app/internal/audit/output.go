package audit

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"strconv"
	"sync/atomic"
	"syscall"
	"time"
)

const (
	// writeTimeout bounds how long one line may take, including the wait for the lines of others.
	writeTimeout = time.Second
	// retryInterval is between attempts to write a line that an output has refused, such as a full
	// disk.
	retryInterval = time.Second
	// maxWrite is how many bytes of lines go into one write, unless a single line is longer. It is
	// what Linux writes to a pipe in one piece: nothing that others write to the same pipe can stand
	// within a line.
	maxWrite = 4096
)

// Output returns the file to write lines to in place of f, which is a process's standard output. A
// pipe is made non-blocking, so that a reader that has stalled cannot stop the process: [Log] then
// refuses lines instead. It is opened again for that, because what shares f, such as standard
// error on the same pipe, would become non-blocking, too.
func Output(f *os.File) (*os.File, error) {
	info, err := f.Stat()
	if err != nil {
		return nil, fmt.Errorf("standard output: %w", err)
	}
	if info.Mode()&(os.ModeNamedPipe|os.ModeSocket) == 0 {
		return f, nil
	}
	fd := int(f.Fd())
	out, err := os.OpenFile("/proc/self/fd/"+strconv.Itoa(fd), os.O_WRONLY|syscall.O_NONBLOCK, 0)
	if err == nil {
		return out, nil
	}
	// Refused for a pipe of another user and for sockets: then it is shared after all.
	own, errDup := syscall.Dup(fd)
	if errDup != nil {
		return nil, fmt.Errorf("standard output: %w", errors.Join(err, errDup))
	}
	syscall.CloseOnExec(own)
	if errBlock := syscall.SetNonblock(own, true); errBlock != nil {
		_ = syscall.Close(own)
		return nil, fmt.Errorf("standard output: %w", errors.Join(err, errBlock))
	}
	return os.NewFile(uintptr(own), f.Name()), nil
}

// errSlow is of a line whose time was over before it could begin.
var errSlow = fmt.Errorf("%w: its reader takes lines too slowly", ErrUnavailable)

// output writes lines whole and in order. What of a line could not be written in time stays first
// in the queue: a goroutine writes it when the output takes it again, and until then every other
// line is refused at once.
type output struct {
	to  io.Writer
	log *slog.Logger

	// rest is set while a line waits for the rest of it to be written. It is guarded by the lock of
	// the Log.
	rest []byte
	// refused counts lines since rest is set. It is guarded by the lock of the Log.
	refused int
	// cause is why rest is set, for who asks without the lock.
	cause atomic.Pointer[error]
	// broken is closed when the output has no reader any more.
	broken chan struct{}
}

// deadlines is what an output that a reader can stall has: an [os.File] that is a pipe.
type deadlines interface{ SetWriteDeadline(time.Time) error }

func (o *output) limit(t time.Time) {
	if file, ok := o.to.(deadlines); ok {
		_ = file.SetWriteDeadline(t) // a regular file or a terminal has none
	}
}

// healthy returns why lines are refused, or nil.
func (o *output) healthy() error {
	if cause := o.cause.Load(); cause != nil {
		return fmt.Errorf("%w: %w", ErrUnavailable, *cause)
	}
	return nil
}

// write writes lines, which stand in text one after the other, as many at once as [maxWrite]
// allows. It returns those that are queued: all that were written, and the first that was not. The
// others are refused. The caller holds the lock of l.
func (o *output) write(l *Log, text []byte, lines []*entry) (queued []*entry) {
	written := 0
	for written < len(lines) && o.rest == nil {
		written += o.writeSome(l, text, lines[written:])
	}
	for _, e := range lines[written:] {
		o.refused++
		e.err = o.healthy()
	}
	return lines[:written]
}

// writeSome writes the first lines and returns how many are queued.
func (o *output) writeSome(l *Log, text []byte, lines []*entry) (queued int) {
	begin, count := lines[0].begin, 1
	for count < len(lines) && lines[count].end-begin <= maxWrite {
		count++
	}
	o.limit(lines[0].called.Add(writeTimeout))
	n, err := o.to.Write(text[begin:lines[count-1].end])
	for _, e := range lines[:count] {
		queued++
		e.queued = true
		if written := begin + n; e.end > written {
			o.fail(l, bytes.Clone(text[max(e.begin, written):e.end]), err)
			e.err = o.healthy()
			break
		}
	}
	return queued
}

// fail has the rest of a line written when the output takes it.
func (o *output) fail(l *Log, rest []byte, cause error) {
	o.rest, o.refused = rest, 1
	o.cause.Store(&cause)
	// Standard error may be as stalled as the output is, and the rest must not wait for it.
	go o.log.Error("the audit log cannot be written: requests are refused until it can", "error", cause.Error())
	go o.drain(l, rest)
}

// drain writes the rest of a line, however long that takes.
func (o *output) drain(l *Log, rest []byte) {
	start := time.Now()
	o.limit(time.Time{})
	for {
		n, err := o.to.Write(rest)
		if err == nil {
			break
		}
		if errors.Is(err, syscall.EPIPE) {
			close(o.broken)
			return
		}
		rest = rest[n:]
		<-time.After(retryInterval)
	}
	l.mu.Lock()
	refused := o.refused
	o.rest, o.refused = nil, 0
	o.cause.Store(nil)
	l.mu.Unlock()
	o.log.Info("the audit log is written again", "after", time.Since(start).Round(time.Millisecond).String(), "lines_refused", refused)
}
