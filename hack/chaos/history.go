package chaos

import (
	"fmt"
	"sync"
)

// Value is the state of a note at one moment.
type Value struct {
	Title, Content string
	// Gone is true if the note does not exist.
	Gone bool
}

// effect is what is known about a write.
type effect int

const (
	// unknown means that the write has not been answered, or that its answer was lost.
	unknown effect = iota
	acknowledged
	refused
)

func (e effect) String() string { return [...]string{"unknown", "acknowledged", "refused"}[e] }

type write struct {
	Value
	effect effect
	// seen is true if a read returned it.
	seen bool
}

// History is the list of writes of one writer to one note. All writes have different values, except
// deletions. It is safe for concurrent use.
type History struct {
	mu     sync.Mutex
	writes []write
	// least is the oldest write that a read may return if it begins now: it is known to be stored.
	least int
}

// Begin records a write that is about to be sent, and returns its number.
func (h *History) Begin(v Value) int {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.writes = append(h.writes, write{Value: v})
	return len(h.writes) - 1
}

// Acknowledge records that a write is stored.
func (h *History) Acknowledge(n int) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.writes[n].effect = acknowledged
	h.least = max(h.least, n)
}

// Refuse records that a write never has an effect. It returns an error if a read has already
// returned that write.
func (h *History) Refuse(n int) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.writes[n].effect = refused
	if h.writes[n].seen {
		return fmt.Errorf("write %d was read and then refused: %s", n, short(h.writes[n].Value))
	}
	return nil
}

// BeginRead must be called before a read is sent. Pass its result to EndRead.
func (h *History) BeginRead() (least int) {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.least
}

// EndRead checks the result of a read, and returns an error if it cannot be true.
func (h *History) EndRead(least int, v Value) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	refusal := fmt.Errorf("a read returned %s, which was never written", short(v))
	for n := len(h.writes) - 1; n >= 0; n-- {
		w := &h.writes[n]
		switch {
		case w.Value != v:
		case w.effect == refused:
			refusal = fmt.Errorf("a read returned write %d, which was refused: %s", n, short(v))
		case n < least:
			refusal = fmt.Errorf("write %d was read after write %d (%s, of %d) was in place: %s, not %s",
				n, least, h.writes[least].effect, len(h.writes), short(v), short(h.writes[least].Value))
		default:
			w.seen = true
			h.least = max(h.least, n)
			return nil
		}
	}
	return refusal
}

// last returns the number of the newest write that has begun.
func (h *History) last() int {
	h.mu.Lock()
	defer h.mu.Unlock()
	return len(h.writes) - 1
}

// between returns an error unless the value is that of a write from least to most that may have had
// an effect.
func (h *History) between(least, most int, v Value) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	for n, w := range h.writes {
		if n >= least && n <= most && w.Value == v && w.effect != refused {
			return nil
		}
	}
	return fmt.Errorf("it is %s, and none of the writes %d to %d", short(v), least, most)
}

func short(v Value) string {
	if v.Gone {
		return "no note"
	}
	const most = 40
	if len(v.Content) > most {
		return fmt.Sprintf("%q, %q…", v.Title, v.Content[:most])
	}
	return fmt.Sprintf("%q, %q", v.Title, v.Content)
}
