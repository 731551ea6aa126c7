package audit

import (
	"bytes"
	"errors"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"time"
)

// recorder keeps the text of each write. A write accepts at most limit bytes; 0: any number.
type recorder struct {
	mu     sync.Mutex
	writes [][]byte
	limit  int
	// entered gets a value for each write, which then waits for a value from leave. nil: writes do
	// not wait.
	entered, leave chan struct{}
}

func (r *recorder) Write(p []byte) (int, error) {
	if r.entered != nil {
		r.entered <- struct{}{}
		<-r.leave
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.limit > 0 && len(p) > r.limit {
		r.writes = append(r.writes, bytes.Clone(p[:r.limit]))
		n := r.limit
		r.limit = 0
		return n, errors.New("no space left on device")
	}
	r.writes = append(r.writes, bytes.Clone(p))
	return len(p), nil
}

func (r *recorder) text() string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return string(bytes.Join(r.writes, nil))
}

func (l *Log) countWaiting() int {
	l.waiting.mu.Lock()
	defer l.waiting.mu.Unlock()
	return len(l.waiting.all)
}

// TestWaitingLinesShareAWrite checks that waiting lines go into the next write together: whole
// lines, and no more than a pipe accepts atomically.
func TestWaitingLinesShareAWrite(t *testing.T) {
	signer, keys := newSigner(t)
	out := &recorder{}
	l, err := New(out, "d1", signer, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	out.entered, out.leave = make(chan struct{}), make(chan struct{})
	const others = 40
	var all sync.WaitGroup
	write := func() {
		if err := l.Write(Event{Action: "note.read", Outcome: Success}); err != nil {
			t.Error(err)
		}
	}
	all.Go(write)
	<-out.entered
	for range others {
		all.Go(write)
	}
	for l.countWaiting() < others {
		waitABit()
	}
	go func() {
		for range out.entered {
			out.leave <- struct{}{}
		}
	}()
	out.leave <- struct{}{}
	all.Wait()
	close(out.entered)
	bytesOfLines := 0
	for _, text := range out.writes[2:] {
		bytesOfLines += len(text)
		if len(text) > maxWrite || text[len(text)-1] != '\n' {
			t.Errorf("a write of %d bytes", len(text))
		}
	}
	// Each write but the last is so full that no other line fits.
	if got, most := len(out.writes)-2, bytesOfLines/(maxWrite*3/4)+1; got > most {
		t.Errorf("%d bytes of lines took %d writes, want at most %d", bytesOfLines, got, most)
	}
	if summary, err := Verify(strings.NewReader(out.text()), keys, true); err != nil || summary.Lines != others+2 {
		t.Errorf("%+v, %v", summary, err)
	}
}

// TestCutAmongLines checks that after a partial write of several lines, only the lines after the
// one that was cut are refused.
func TestCutAmongLines(t *testing.T) {
	signer, keys := newSigner(t)
	line := func() *entry {
		return &entry{record: Record{Event: Event{Action: "note.read", Outcome: Success}}, called: time.Now()}
	}
	for name, tc := range map[string]struct {
		limit         func(lineSize int) int
		whole, queued int
	}{
		"within a line":   {limit: func(size int) int { return size + size/2 }, whole: 1, queued: 2},
		"between lines":   {limit: func(size int) int { return 2 * size }, whole: 2, queued: 3},
		"in the last one": {limit: func(size int) int { return 4*size - 1 }, whole: 3, queued: 4},
	} {
		t.Run(name, func(t *testing.T) {
			out := &recorder{}
			l, err := New(out, "d1", signer, slog.New(slog.DiscardHandler))
			if err != nil {
				t.Fatal(err)
			}
			begun := time.Now().UTC().Truncate(time.Second)
			l.now = func() time.Time { return begun } // lines of equal size
			if err := l.Write(line().record.Event); err != nil {
				t.Fatal(err)
			}
			out.limit = tc.limit(len(out.writes[1]))
			entries := []*entry{line(), line(), line(), line()}
			l.mu.Lock()
			l.append(entries)
			l.mu.Unlock()
			for i, e := range entries {
				if e.queued != (i < tc.queued) || (e.err == nil) != (i < tc.whole) {
					t.Errorf("line %d: queued %v, %v", i, e.queued, e.err)
				}
			}
			for l.Healthy() != nil {
				waitABit()
			}
			if err := l.Write(Event{Action: "afterwards"}); err != nil {
				t.Error(err)
			}
			if summary, err := Verify(strings.NewReader(out.text()), keys, true); err != nil || summary.Lines != tc.queued+3 {
				t.Errorf("%+v, %v", summary, err)
			}
		})
	}
}
