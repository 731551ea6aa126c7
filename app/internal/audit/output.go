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
	// writeTimeout bounds the time of one line, including the wait for earlier lines.
	writeTimeout = time.Second
	// retryInterval is the pause before a failed write is repeated, as on a full disk.
	retryInterval = time.Second
	// maxWrite bounds the lines of one write in bytes; a single line may be longer. Linux writes
	// that much to a pipe atomically, so that no output of another process appears within a line.
	maxWrite = 4096
)

// Output returns the file to write lines to instead of f, the process's standard output. A pipe
// becomes non-blocking, so that a stalled reader cannot block the process: [Log] refuses lines
// instead. Output opens the pipe again, because f may be shared, for example with standard error,
// which must not become non-blocking.
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
	// A socket, or a pipe of another user, cannot be opened. Then the file is shared.
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

// errSlow means that the time of a line was over before its write could start.
var errSlow = fmt.Errorf("%w: its reader takes lines too slowly", ErrUnavailable)

// output writes whole lines in order. If a line is only partly written in time, a goroutine writes
// the rest once the output accepts it. Until then every other line is refused at once.
type output struct {
	to  io.Writer
	log *slog.Logger

	// rest is the unwritten part of a line, or nil. The lock of the Log guards it.
	rest []byte
	// refused counts the lines that were refused since rest was set. The lock of the Log guards it.
	refused int
	// cause is the reason that rest is set, for readers without the lock.
	cause atomic.Pointer[error]
	// broken is closed when the output has no reader.
	broken chan struct{}
}

// deadlines is implemented by an output that a reader can block: an [os.File] of a pipe.
type deadlines interface{ SetWriteDeadline(time.Time) error }

func (o *output) limit(t time.Time) {
	if file, ok := o.to.(deadlines); ok {
		_ = file.SetWriteDeadline(t) // a regular file or a terminal has no deadline
	}
}

// healthy returns the reason that lines are refused, or nil.
func (o *output) healthy() error {
	if cause := o.cause.Load(); cause != nil {
		return fmt.Errorf("%w: %w", ErrUnavailable, *cause)
	}
	return nil
}

// write writes the lines of text, as many at once as [maxWrite] allows. It returns those that are
// queued: the written ones and the first unwritten one. The others are refused. The caller holds
// the lock of l.
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

// fail starts to write the rest of a line in the background.
func (o *output) fail(l *Log, rest []byte, cause error) {
	o.rest, o.refused = rest, 1
	o.cause.Store(&cause)
	// Standard error may block like the output, and the rest must not wait for it.
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
