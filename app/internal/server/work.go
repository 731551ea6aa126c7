package server

import "time"

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
		victims := t.idleWorkers()
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
	g, weight := c.group, c.weight
	if t.work+weight > t.bounds.work || !c.exempt && g.work+weight > t.bounds.workPerAddress {
		return false
	}
	c.work = weight
	t.work += weight
	g.work += weight
	return true
}

// wake admits the waiters for which there is room now, oldest first.
func (t *connections) wake() {
	for place := t.waiters.Front(); place != nil; {
		w := place.Value.(*waiter)
		next := place.Next()
		if !w.conn.gone && t.admit(w.conn) {
			t.waiters.Remove(place)
			close(w.admitted)
		}
		place = next
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
