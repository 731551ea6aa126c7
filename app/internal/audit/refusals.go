package audit

import (
	"slices"
	"sync"
	"time"
)

// maxRefusals bounds the requesters whose refusals are counted separately in one minute.
const maxRefusals = 1024

// actionRefusals is the action of the line that counts the refusals of all others.
const actionRefusals = "refusals"

// refusal is the key of refused requests that are counted together.
type refusal struct {
	action, network, user string
	status                int
}

// counted is the number and the time of refused requests without lines of their own.
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

// refusals are the refusals of a minute. Its methods are safe for concurrent use.
type refusals struct {
	mu     sync.Mutex
	known  map[refusal]*counted
	others counted
}

// first reports whether the refusal is the first of its kind, which gets a line of its own. It
// counts all others.
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

// forget undoes first for a refusal whose line was not written.
func (r *refusals) forget(k refusal) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if c := r.known[k]; c != nil && c.n == 0 {
		delete(r.known, k)
	}
}

// take returns the counts in the order of time, and resets them.
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

// back restores a count that was taken and not written, for the next minute.
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

// Refused adds the line of a request that a limit has refused. If the same limit refuses the same
// requester again within a minute, the requests are only counted, and [Log.Run] writes one line for
// them. network is the requester's address or network. Errors: those of Write.
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
