package server

import (
	"container/list"
	"time"
)

// settle notes that the connection has had its first request, or the preface of HTTP/2.
func (t *connections) settle(c *conn) {
	if c.gone || c.class == settled {
		return
	}
	t.unfile(c)
	c.class = settled
	t.unfinished--
	c.group.unfinished--
	t.file(c)
}

// active gives a connection its share of the memory for requests before its first one is handled,
// and waits while there is none. It blocks only the connection's own goroutine, which reads nothing
// meanwhile. A connection that waits for too long is closed.
func (t *connections) active(c *conn) {
	t.mu.Lock()
	t.settle(c)
	c.open = true
	if c.gone || c.work > 0 {
		t.mu.Unlock()
		return
	}
	t.file(c)
	if t.admit(c) {
		t.mu.Unlock()
		return
	}
	w := &waiter{conn: c, admitted: make(chan struct{})}
	place := t.waiters.PushBack(w)
	t.mu.Unlock()
	if t.wait(w) {
		return
	}
	t.mu.Lock()
	t.waiters.Remove(place)
	late := !c.gone && c.work == 0
	if late {
		t.forget(c)
	}
	t.mu.Unlock()
	if late {
		t.close([]victim{{c, reasonWork}})
	}
}

// wait reports whether the waiter was admitted in time.
func (t *connections) wait(w *waiter) bool {
	timer, tick := time.NewTimer(workWait), time.NewTicker(workGrace)
	defer timer.Stop()
	defer tick.Stop()
	for {
		t.mu.Lock()
		victims := append(t.idleWorkers(), t.heaviest(w.conn)...)
		t.mu.Unlock()
		t.close(victims)
		select {
		case <-w.admitted:
			return true
		case <-w.conn.closed:
			return false
		case <-timer.C:
			return false
		case <-tick.C:
		}
	}
}

type waiter struct {
	conn     *conn
	admitted chan struct{}
}

func (t *connections) admit(c *conn) bool {
	if !t.fits(c) {
		return false
	}
	c.work, c.workSince = c.weight, time.Now()
	t.work += c.weight
	c.group.work += c.weight
	return true
}

func (t *connections) fits(c *conn) bool {
	return t.work+c.weight <= t.bounds.work && (c.exempt || c.group.work+c.weight <= t.bounds.workPerAddress)
}

// wake admits the waiters for which there is room now: those of the addresses that have the least
// first, and of these the oldest.
func (t *connections) wake() {
	for {
		var first *list.Element
		for place := t.waiters.Front(); place != nil; place = place.Next() {
			c := place.Value.(*waiter).conn
			if !c.gone && t.fits(c) && (first == nil || c.group.work < first.Value.(*waiter).conn.group.work) {
				first = place
			}
		}
		if first == nil {
			return
		}
		w := t.waiters.Remove(first).(*waiter)
		t.admit(w.conn)
		close(w.admitted)
	}
}

// idleWorkers forgets the connections that have held a share for a while without a request in the
// handler, and returns them. Their clients do not read what net/http answers by itself to a request
// that it cannot read.
func (t *connections) idleWorkers() (victims []victim) {
	limit := time.Now().Add(-workGrace)
	for _, g := range t.groups {
		for place := g.spare[settled].Front(); place != nil; {
			c := place.Value.(*conn)
			place = place.Next()
			if c.work > 0 && c.spareSince.Before(limit) {
				victims = append(victims, victim{c, reasonWork})
			}
		}
	}
	for _, v := range victims {
		t.forget(v.conn)
	}
	return victims
}

// heaviest forgets the connection that has been at work for longest of the address that has the
// most, and returns it. An address that would then have less than the one that waits loses only
// what has been at work for longer, so that one slow request for each of many addresses stops
// nobody. Requests that take that long are exports, and those of clients that send or read as
// slowly as they may.
func (t *connections) heaviest(waiting *conn) []victim {
	now, wants := time.Now(), waiting.group.work+waiting.weight
	var worst *conn
	for c := range t.members {
		grace := workGrace
		if c.group.work-c.work < wants {
			grace = equalGrace
		}
		if c.work == 0 || c.exempt || now.Sub(c.workSince) < grace || c.group.work < wants {
			continue
		}
		if worst == nil || c.group.work > worst.group.work ||
			c.group.work == worst.group.work && c.workSince.Before(worst.workSince) {
			worst = c
		}
	}
	// Where the address's own bound is reached, others need not give way.
	if worst == nil || waiting.gone || waiting.work > 0 ||
		!waiting.exempt && waiting.group.work+waiting.weight > t.bounds.workPerAddress {
		return nil
	}
	t.forget(worst)
	return []victim{{worst, reasonWork}}
}

// idle takes the connection's share back when it has no open stream and no request under way.
func (t *connections) idle(c *conn) {
	t.mu.Lock()
	defer t.mu.Unlock()
	c.open = false
	t.giveBack(c)
}

func (t *connections) giveBack(c *conn) {
	if c.gone || c.open || c.requests > 0 || c.work == 0 {
		return
	}
	c.group.work -= c.work
	t.work -= c.work
	c.work = 0
	t.file(c)
	t.wake()
}
