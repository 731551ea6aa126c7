package audit

import (
	"bytes"
	"context"
	"errors"
	"io"
	"log/slog"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"
)

// pipe returns an output and its reading end.
func pipe(t *testing.T) (read, write *os.File) {
	t.Helper()
	read, write, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = read.Close()
		_ = write.Close()
	})
	return read, write
}

// socket returns an output that cannot be opened again, like journald's.
func socket(t *testing.T) (read, write *os.File) {
	t.Helper()
	ends, err := syscall.Socketpair(syscall.AF_UNIX, syscall.SOCK_STREAM|syscall.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	read, write = os.NewFile(uintptr(ends[0]), "read"), os.NewFile(uintptr(ends[1]), "write")
	t.Cleanup(func() {
		_ = read.Close()
		_ = write.Close()
	})
	return read, write
}

// waitABit is the pause between two checks of a condition.
func waitABit() { <-time.After(time.Millisecond) }

// fill writes events until one is refused, for at most a second, and returns the number of written
// ones.
func fill(t *testing.T, l *Log) (written int) {
	t.Helper()
	for range 10_000 {
		if err := l.Write(Event{Action: "note.read", Outcome: Success, Object: strings.Repeat("x", 100)}); err != nil {
			if !errors.Is(err, ErrUnavailable) {
				t.Fatalf("the refusal is %v", err)
			}
			return written
		}
		written++
	}
	t.Fatal("a pipe without a reader accepted 10,000 lines")
	return 0
}

// TestStalledReader checks that events are refused at once, without a wait for each, while nobody
// reads the output, and that events are written again, in a valid chain, once somebody reads.
func TestStalledReader(t *testing.T) {
	for name, open := range map[string]func(*testing.T) (read, write *os.File){"pipe": pipe, "socket": socket} {
		t.Run(name, func(t *testing.T) {
			read, write := open(t)
			stall(t, read, write)
		})
	}
}

func stall(t *testing.T, read, write *os.File) {
	t.Helper()
	signer, keys := newSigner(t)
	lines, err := Output(write)
	if err != nil {
		t.Fatal(err)
	}
	defer lines.Close()
	l, err := New(lines, "d1", signer, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	if err := l.Healthy(); err != nil {
		t.Fatalf("before the stall: %v", err)
	}
	fill(t, l)
	if err := l.Healthy(); !errors.Is(err, ErrUnavailable) {
		t.Errorf("during the stall it is healthy: %v", err)
	}
	start := time.Now()
	var all sync.WaitGroup
	for range 1000 {
		all.Go(func() {
			if err := l.Write(Event{Action: "refused"}); !errors.Is(err, ErrUnavailable) {
				t.Errorf("during the stall: %v", err)
			}
		})
	}
	all.Wait()
	if took := time.Since(start); took > writeTimeout {
		t.Errorf("1,000 refusals took %s", took)
	}
	text := make(chan string)
	go func() {
		var raw strings.Builder
		_, _ = io.Copy(&raw, read)
		text <- raw.String()
	}()
	for l.Healthy() != nil {
		waitABit()
	}
	if err := l.Write(Event{Action: "afterwards"}); err != nil {
		t.Fatalf("after the stall: %v", err)
	}
	ended, cancel := context.WithCancel(context.Background())
	cancel()
	l.Run(ended)
	_ = lines.Close()
	_ = write.Close()
	log := <-text
	if _, err := Verify(strings.NewReader(log), keys, false); err != nil {
		t.Error(err)
	}
	if strings.Contains(log, `"refused"`) || !strings.Contains(log, `"afterwards"`) {
		t.Error("a refused line was written, or an accepted line is missing")
	}
}

// TestOutputLeavesOthersBlocking checks that standard error on the same pipe still blocks until it
// is read.
func TestOutputLeavesOthersBlocking(t *testing.T) {
	_, write := pipe(t)
	fd := int(write.Fd()) // blocking from now on, like standard output
	lines, err := Output(write)
	if err != nil {
		t.Fatal(err)
	}
	defer lines.Close()
	if lines == write {
		t.Fatal("the pipe was not opened again")
	}
	flags, _, errno := syscall.Syscall(syscall.SYS_FCNTL, uintptr(fd), syscall.F_GETFL, 0)
	if errno != 0 || flags&syscall.O_NONBLOCK != 0 {
		t.Errorf("the original pipe: flags %x, %v", flags, errno)
	}
	file, err := os.Create(t.TempDir() + "/file")
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	if lines, err := Output(file); err != nil || lines != file {
		t.Errorf("a regular file: %v, %v", lines, err)
	}
}

// halfway is an output that writes a part of a line and fails, until it is repaired.
type halfway struct {
	mu     sync.Mutex
	text   bytes.Buffer
	broken bool
	// asked is closed when a second write arrives before the repair.
	asked chan struct{}
	once  sync.Once
}

func (h *halfway) Write(p []byte) (int, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.broken {
		h.once.Do(func() { close(h.asked) })
		n, _ := h.text.Write(p[:len(p)/2])
		return n, errors.New("no space left on device")
	}
	return h.text.Write(p)
}

func (h *halfway) set(broken bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.broken = broken
}

// TestRestOfALineGoesFirst checks that nothing is written before the rest of a partly written line.
func TestRestOfALineGoesFirst(t *testing.T) {
	signer, keys := newSigner(t)
	out := &halfway{asked: make(chan struct{})}
	l, err := New(out, "d1", signer, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	out.set(true)
	if err := l.Write(Event{Action: "cut"}); !errors.Is(err, ErrUnavailable) {
		t.Errorf("the line that was cut: %v", err)
	}
	<-out.asked
	if err := l.Write(Event{Action: "refused"}); !errors.Is(err, ErrUnavailable) {
		t.Errorf("a line after it: %v", err)
	}
	l.sign(context.Background(), actionCheckpoint)
	out.set(false)
	for l.Healthy() != nil {
		waitABit()
	}
	ended, cancel := context.WithCancel(context.Background())
	cancel()
	l.Run(ended)
	summary, err := Verify(strings.NewReader(out.text.String()), keys, false)
	if want := (Summary{Chains: 1, Lines: 3, Checkpoints: 1}); err != nil || summary != want {
		t.Errorf("%+v, %v; want %+v:\n%s", summary, err, want, out.text.String())
	}
}

// TestSlowReader checks that a line is refused one second after the call, also while it waits for
// other lines.
func TestSlowReader(t *testing.T) {
	signer, keys := newSigner(t)
	read, write := pipe(t)
	lines, err := Output(write)
	if err != nil {
		t.Fatal(err)
	}
	defer lines.Close()
	const page = 4096
	if _, _, errno := syscall.Syscall(syscall.SYS_FCNTL, write.Fd(), syscall.F_SETPIPE_SZ, page); errno != 0 {
		t.Fatal(errno)
	}
	l, err := New(lines, "d1", signer, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	text, fast := make(chan string), make(chan struct{})
	go func() {
		var raw strings.Builder
		for {
			select {
			case <-fast:
				_, _ = io.Copy(&raw, read)
				text <- raw.String()
				return
			case <-time.After(writeTimeout * 9 / 10):
				_, _ = io.CopyN(&raw, read, page)
			}
		}
	}()
	var all sync.WaitGroup
	var written, refused atomic.Int64
	for range 60 {
		all.Go(func() {
			start := time.Now()
			switch err := l.Write(Event{Action: "note.read", Outcome: Success, Object: strings.Repeat("x", 200)}); {
			case err == nil:
				written.Add(1)
			case errors.Is(err, ErrUnavailable):
				refused.Add(1)
			default:
				t.Errorf("the refusal is %v", err)
			}
			if took := time.Since(start); took > 2*writeTimeout {
				t.Errorf("a line took %s", took)
			}
		})
	}
	all.Wait()
	close(fast)
	if written.Load() == 0 || refused.Load() == 0 {
		t.Errorf("%d lines were written, %d refused: the reader was not slow", written.Load(), refused.Load())
	}
	for l.Healthy() != nil {
		waitABit()
	}
	ended, cancel := context.WithCancel(context.Background())
	cancel()
	l.Run(ended)
	_ = lines.Close()
	_ = write.Close()
	summary, err := Verify(strings.NewReader(<-text), keys, false)
	// The line that timed out may have been written in part, and completed later.
	if n := int64(summary.Lines) - 2; err != nil || n < written.Load() || n > written.Load()+1 {
		t.Errorf("%d lines of events, %v; %d were written", n, err, written.Load())
	}
}

// TestLateCaller checks that a caller that gets the lock too late is refused, also if the output
// has no deadlines.
func TestLateCaller(t *testing.T) {
	signer, keys := newSigner(t)
	var out bytes.Buffer
	l, err := New(&out, "d1", signer, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	late := &entry{record: Record{Event: Event{Action: "late"}}, called: time.Now().Add(-writeTimeout)}
	l.append([]*entry{late})
	if late.queued || !errors.Is(late.err, ErrUnavailable) {
		t.Errorf("queued %v, %v", late.queued, late.err)
	}
	if err := l.Healthy(); err != nil {
		t.Errorf("afterwards: %v", err)
	}
	if err := l.Write(Event{Action: "in time"}); err != nil {
		t.Error(err)
	}
	if summary, err := Verify(&out, keys, true); err != nil || summary.Lines != 2 {
		t.Errorf("%+v, %v", summary, err)
	}
}
