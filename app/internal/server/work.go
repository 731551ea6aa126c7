package server

import (
	"container/list"
	"time"
)

// settle notes that the connection has received its first request, or the preface of HTTP/2.
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

// active reserves work for a connection before its first request is handled, and waits while there
// is none left. It blocks only the connection's goroutine, which reads nothing meanwhile. A
// connection that waits for too long is closed.
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
		victims := append(t.reclaimIdle(), t.preempt(w.conn)...)
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

// admitWaiters admits waiters as long as there is work for them: those of the address with the
// least work first, and of these the oldest.
func (t *connections) admitWaiters() {
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

// reclaimIdle forgets the connections that have held work for a while without a request in the
// handler, and returns them. Their clients do not read the answers of net/http to requests that it
// cannot read.
func (t *connections) reclaimIdle() (victims []victim) {
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

// preempt forgets the connection that has worked for longest of the address with the most work, and
// returns it. An address that would then have less work than the waiting one loses a connection
// only after the longer equalGrace, so that many addresses with one slow request each cannot stop
// others. Requests that take that long are exports, or come from clients that send or read very
// slowly.
func (t *connections) preempt(waiting *conn) []victim {
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
	// Other addresses lose nothing if the waiting address is at its own bound.
	if worst == nil || waiting.gone || waiting.work > 0 ||
		!waiting.exempt && waiting.group.work+waiting.weight > t.bounds.workPerAddress {
		return nil
	}
	t.forget(worst)
	return []victim{{worst, reasonWork}}
}

// idle releases the connection's work when it has no open stream and no request in flight.
func (t *connections) idle(c *conn) {
	t.mu.Lock()
	defer t.mu.Unlock()
	c.open = false
	t.releaseWork(c)
}

func (t *connections) releaseWork(c *conn) {
	if c.gone || c.open || c.requests > 0 || c.work == 0 {
		return
	}
	c.group.work -= c.work
	t.work -= c.work
	c.work = 0
	t.file(c)
	t.admitWaiters()
}
