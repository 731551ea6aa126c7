package chaos

import (
	"fmt"
	"sync"
)

// Value is what a note is at a moment.
type Value struct {
	Title, Content string
	// Gone says that there is no such note.
	Gone bool
}

// effect is what is known of a write.
type effect int

const (
	// unknown: it has not been answered, or its answer was lost.
	unknown effect = iota
	acknowledged
	refused
)

func (e effect) String() string { return [...]string{"unknown", "acknowledged", "refused"}[e] }

type write struct {
	Value
	effect effect
	// seen says that a read gave it.
	seen bool
}

// History is what one writer did to one note. Every write's value is another, but that of deletions. It is safe for concurrent use.
type History struct {
	mu     sync.Mutex
	writes []write
	// least is the first write that a read which begins now may give: it is known to be in place.
	least int
}

// Begin notes a write that is about to be sent, and returns its number.
func (h *History) Begin(v Value) int {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.writes = append(h.writes, write{Value: v})
	return len(h.writes) - 1
}

// Acknowledge notes that a write is in place.
func (h *History) Acknowledge(n int) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.writes[n].effect = acknowledged
	h.least = max(h.least, n)
}

// Refuse notes that a write has no effect, now or later. Error: a read has given it already.
func (h *History) Refuse(n int) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.writes[n].effect = refused
	if h.writes[n].seen {
		return fmt.Errorf("write %d was read and then refused: %s", n, short(h.writes[n].Value))
	}
	return nil
}

// BeginRead is to be called before a read is sent; its result is for EndRead.
func (h *History) BeginRead() (least int) {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.least
}

// EndRead checks what a read gave. Error: it cannot have been so.
func (h *History) EndRead(least int, v Value) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	refusal := fmt.Errorf("%s was read, which nobody wrote", short(v))
	for n := len(h.writes) - 1; n >= 0; n-- {
		w := &h.writes[n]
		switch {
		case w.Value != v:
		case w.effect == refused:
			refusal = fmt.Errorf("write %d, which was refused, was read: %s", n, short(v))
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
