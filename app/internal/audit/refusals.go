package audit

import (
	"slices"
	"sync"
	"time"
)

// maxRefusals bounds the requesters whose refusals are counted apart in one minute.
const maxRefusals = 1024

// actionRefusals is of the line for the refusals of all others.
const actionRefusals = "refusals"

// refusal is what refused requests have in common that are counted together.
type refusal struct {
	action, network, user string
	status                int
}

// counted is how many requests were refused that have no line of their own, and when.
type counted struct {
	refusal
	n           int
	from, until time.Time
}

func (c *counted) add(n int, from, until time.Time) {
	if c.n == 0 || from.Before(c.from) {
		c.from = from
	}
	if until.After(c.until) {
		c.until = until
	}
	c.n += n
}

// refusals are those of a minute. Its methods are safe for concurrent use.
type refusals struct {
	mu     sync.Mutex
	known  map[refusal]*counted
	others counted
}

// first counts a refusal and returns false, or returns true for the first of its kind, which gets
// its own line.
func (r *refusals) first(k refusal, now time.Time) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if c := r.known[k]; c != nil {
		c.add(1, now, now)
		return false
	}
	if len(r.known) >= maxRefusals {
		r.others.add(1, now, now)
		return false
	}
	if r.known == nil {
		r.known = map[refusal]*counted{}
	}
	r.known[k] = &counted{refusal: k}
	return true
}

// forget takes back a first of its kind whose line was not written.
func (r *refusals) forget(k refusal) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if c := r.known[k]; c != nil && c.n == 0 {
		delete(r.known, k)
	}
}

// take returns what was counted, in the order of time, and begins anew.
func (r *refusals) take() []counted {
	r.mu.Lock()
	defer r.mu.Unlock()
	var all []counted
	for _, c := range r.known {
		if c.n > 0 {
			all = append(all, *c)
		}
	}
	slices.SortFunc(all, func(a, b counted) int { return a.from.Compare(b.from) })
	if r.others.n > 0 {
		r.others.action = actionRefusals
		all = append(all, r.others)
	}
	r.known, r.others = nil, counted{}
	return all
}

// back counts again what was taken and not written, for the next minute.
func (r *refusals) back(c counted) {
	r.mu.Lock()
	defer r.mu.Unlock()
	into := &r.others
	if known := r.known[c.refusal]; known != nil {
		into = known
	} else if c.action != actionRefusals && len(r.known) < maxRefusals {
		if r.known == nil {
			r.known = map[refusal]*counted{}
		}
		into = &counted{refusal: c.refusal}
		r.known[c.refusal] = into
	}
	into.add(c.n, c.from, c.until)
}

// Refused adds the line of a request that a limit has refused, unless the same limit refuses the
// same requester again within a minute: such requests are counted, and [Log.Run] writes one line
// for them. network stands for the requester's address. Errors: those of Write.
func (l *Log) Refused(e Event, network string) error {
	k := refusal{action: e.Action, network: network, user: e.User, status: e.Status}
	if !l.refusals.first(k, l.now().UTC()) {
		return nil
	}
	queued, err := l.write(e)
	if !queued {
		l.refusals.forget(k)
	}
	return err
}

// writeRefusals adds a line for each count.
func (l *Log) writeRefusals() {
	for _, c := range l.refusals.take() {
		queued, _ := l.write(Event{
			Action: c.action, Outcome: Denied, Status: c.status, User: c.user, Address: c.network,
			Refused: c.n, From: c.from, Until: c.until,
		})
		if !queued {
			l.refusals.back(c)
		}
	}
}
