package audit

import (
	"sync"
	"time"
)

// entry is a line to write, and its result.
type entry struct {
	record Record
	// called is the time of the call.
	called time.Time
	// begin and end are the bounds of the line in the Log's text. digest is the digest of the line
	// without its newline.
	begin, end int
	digest     string

	// done reports that the other fields are set. queued reports that the line is written, or will
	// be once the output accepts it.
	done, queued bool
	err          error
}

// waiting are the entries that are not being written yet. It is safe for concurrent use.
type waiting struct {
	mu  sync.Mutex
	all []*entry
}

func (w *waiting) add(e *entry) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.all = append(w.all, e)
}

func (w *waiting) take() []*entry {
	w.mu.Lock()
	defer w.mu.Unlock()
	all := w.all
	w.all = nil
	return all
}

// append writes entries in their order. Those that are queued extend the chain. The caller holds
// the lock.
func (l *Log) append(entries []*entry) {
	lines := l.format(entries)
	for _, e := range l.out.write(l, l.text, lines) {
		l.sequence, l.previous = e.record.Sequence+1, e.digest
		if e.record.Signature != "" {
			continue
		}
		if l.unsigned++; l.unsigned >= checkpointLines {
			select {
			case l.due <- struct{}{}:
			default:
			}
		}
	}
}

// format writes the lines of the entries into the Log's text. It returns the entries that have a
// line; the others are refused.
func (l *Log) format(entries []*entry) (lines []*entry) {
	l.text = l.text[:0]
	now, sequence, previous := l.now().UTC(), l.sequence, l.previous
	for _, e := range entries {
		e.done = true
		if l.ended && e.record.Action != actionEnd {
			e.err = ErrEnded
			continue
		}
		if time.Since(e.called) >= writeTimeout {
			e.err = errSlow
			continue
		}
		r := &e.record
		r.Version, r.Chain, r.Sequence, r.Previous, r.Time = version, l.chain, sequence, previous, now
		e.begin = len(l.text)
		l.text = append(r.appendJSON(l.text), '\n')
		e.end = len(l.text)
		e.digest = digest(l.text[e.begin : e.end-1])
		sequence, previous = sequence+1, e.digest
		lines = append(lines, e)
	}
	return lines
}
