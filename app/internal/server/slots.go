package server

import (
	"container/list"
	"time"
)

// establish notes that the connection has received its first request, or the preface of HTTP/2.
func (t *connections) establish(c *conn) {
	if c.gone || c.class == established {
		return
	}
	t.removeIdle(c)
	c.class = established
	t.unfinished--
	c.group.unfinished--
	t.addIdle(c)
}

// active takes slots for a connection before its first request is handled, and waits while too
// few are left. It blocks only the connection's goroutine, which reads nothing meanwhile. A
// connection that waits for too long is closed.
func (t *connections) active(c *conn) {
	t.mu.Lock()
	t.establish(c)
	c.hasStreams = true
	if c.gone || c.slots > 0 {
		t.mu.Unlock()
		return
	}
	t.addIdle(c)
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
	late := !c.gone && c.slots == 0
	if late {
		t.forget(c)
	}
	t.mu.Unlock()
	if late {
		t.close([]victim{{c, reasonSlots}})
	}
}

// wait reports whether the waiter was admitted in time.
func (t *connections) wait(w *waiter) bool {
	timer, tick := time.NewTimer(slotWait), time.NewTicker(slotGrace)
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

// admit gives a connection its slots. It reports false if too few are left.
func (t *connections) admit(c *conn) bool {
	if !t.fits(c) {
		return false
	}
	c.slots, c.slotsSince = c.weight, time.Now()
	t.slots += c.weight
	c.group.slots += c.weight
	return true
}

func (t *connections) fits(c *conn) bool {
	return t.slots+c.weight <= t.bounds.slots && (c.exempt || c.group.slots+c.weight <= t.bounds.slotsPerAddress)
}

// admitWaiters admits waiters as long as there are slots for them: those of the address with the
// fewest slots first, and of these the oldest.
func (t *connections) admitWaiters() {
	for {
		var first *list.Element
		for place := t.waiters.Front(); place != nil; place = place.Next() {
			c := place.Value.(*waiter).conn
			if !c.gone && t.fits(c) && (first == nil || c.group.slots < first.Value.(*waiter).conn.group.slots) {
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

// reclaimIdle forgets the connections that have held slots for a while without a request in the
// handler, and returns them. Their clients do not read the answers of net/http to requests that it
// cannot read.
func (t *connections) reclaimIdle() (victims []victim) {
	limit := time.Now().Add(-slotGrace)
	for _, g := range t.groups {
		for place := g.idle[established].Front(); place != nil; {
			c := place.Value.(*conn)
			place = place.Next()
			if c.slots > 0 && c.idleSince.Before(limit) {
				victims = append(victims, victim{c, reasonSlots})
			}
		}
	}
	for _, v := range victims {
		t.forget(v.conn)
	}
	return victims
}

// preempt forgets the connection that has held its slots for longest, of the address with the most
// slots, and returns it. An address that would then have fewer slots than the waiting one loses a
// connection only after the longer equalGrace, so that many addresses with one slow request each
// cannot stop others. Requests that take that long are exports, or come from clients that send or
// read very slowly.
func (t *connections) preempt(waiting *conn) []victim {
	now, wants := time.Now(), waiting.group.slots+waiting.weight
	var worst *conn
	for c := range t.members {
		grace := slotGrace
		if c.group.slots-c.slots < wants {
			grace = equalGrace
		}
		if c.slots == 0 || c.exempt || now.Sub(c.slotsSince) < grace || c.group.slots < wants {
			continue
		}
		if worst == nil || c.group.slots > worst.group.slots ||
			c.group.slots == worst.group.slots && c.slotsSince.Before(worst.slotsSince) {
			worst = c
		}
	}
	// Other addresses lose nothing if the waiting address is at its own bound.
	if worst == nil || waiting.gone || waiting.slots > 0 ||
		!waiting.exempt && waiting.group.slots+waiting.weight > t.bounds.slotsPerAddress {
		return nil
	}
	t.forget(worst)
	return []victim{{worst, reasonSlots}}
}

// idle releases the connection's slots when it has no open stream and no request in flight.
func (t *connections) idle(c *conn) {
	t.mu.Lock()
	defer t.mu.Unlock()
	c.hasStreams = false
	t.releaseSlots(c)
}

func (t *connections) releaseSlots(c *conn) {
	if c.gone || c.hasStreams || c.requests > 0 || c.slots == 0 {
		return
	}
	c.group.slots -= c.slots
	t.slots -= c.slots
	c.slots = 0
	t.addIdle(c)
	t.admitWaiters()
}
