package server

import (
	"container/list"
	"net"
	"net/netip"
	"slices"
	"sync"
	"time"

	"github.com/securenotes/securenotes/app/internal/clientaddress"
)

const (
	// slotWait is how long a connection waits for slots; see [connections.active].
	slotWait = 5 * time.Second
	// slotGrace is how long a connection may hold slots without a request in the handler, and how
	// long a connection of an address with more slots than others may hold them before it is
	// preempted. A connection of an address that has no more than others is preempted after
	// equalGrace.
	slotGrace, equalGrace = 500 * time.Millisecond, 2 * time.Second
)

// The reasons why a connection is closed: the values of a label of the metrics.
const (
	reasonTotal      = "total"      // too many connections
	reasonAddress    = "address"    // too many from the address
	reasonUnfinished = "unfinished" // too many without a first request
	reasonSlots      = "work"       // no slots became free; the label has an older name
	reasonRequests   = "requests"   // too many requests in flight
	reasonAbandoned  = "abandoned"  // too many connections whose client gave up a request
	reasonBlocked    = "blocked"    // too many connections whose client sends and does not read
)

// connections counts the open connections of a listener. Each belongs to a group: the connections
// of one address, as [clientaddress.Network] groups them. When a bound is reached, the group with
// the most connections loses the one that has been idle for longest.
type connections struct {
	bounds bounds
	// proxies are the networks of trusted proxies.
	proxies []netip.Prefix
	closed  func(reason string)

	mu sync.Mutex
	// all, unfinished, slots, requests and abandoned count what the bounds of these names limit.
	all, unfinished, slots, requests, abandoned int

	groups  map[string]*group
	members map[*conn]struct{}
	// blocked are the connections whose client sends and does not read, oldest first.
	blocked *list.List
	// waiters are the connections that wait for slots, oldest first.
	waiters *list.List
}

// group counts what the connections of an address use.
type group struct {
	all, unfinished, slots, requests int
	// exempt means that the address is a trusted proxy's. The limits for each address do not apply
	// to it.
	exempt bool
	// idle are the connections without a request in flight, by class, in the order in which they
	// are closed.
	idle [classes]*list.List
}

var reasons = []string{reasonTotal, reasonAddress, reasonUnfinished, reasonSlots, reasonRequests, reasonAbandoned, reasonBlocked}

// The classes of connections without a request in flight, in the order in which they are closed.
const (
	silent      = iota // nothing was received yet
	fresh              // no complete first request, or HTTP/2 preface, was received yet
	established        // a first request, or the HTTP/2 preface, was received
	classes
)

func newConnections(b bounds, proxies []netip.Prefix, closed func(reason string)) *connections {
	return &connections{bounds: b, proxies: proxies, closed: closed, groups: map[string]*group{}, members: map[*conn]struct{}{}, blocked: list.New(), waiters: list.New()}
}

// add counts a new connection. If a bound is reached it closes another one, or the new one if no
// other may be closed.
func (t *connections) add(c *conn) {
	t.mu.Lock()
	t.all++
	t.unfinished++
	c.opened = time.Now()
	t.members[c] = struct{}{}
	t.join(c)
	victims := t.evict(c)
	t.mu.Unlock()
	t.close(victims)
}

// move moves a connection to the group of the address that its proxy has named.
func (t *connections) move(c *conn) {
	t.mu.Lock()
	if c.gone {
		t.mu.Unlock()
		return
	}
	t.leave(c)
	c.network, c.exempt = t.groupOf(c.remote)
	t.join(c)
	victims := t.evict(c)
	t.mu.Unlock()
	t.close(victims)
}

// remove forgets a closed connection. It may be called more than once.
func (t *connections) remove(c *conn) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.forget(c)
}

// groupOf returns the key of the address's group, and whether it is a trusted proxy's.
func (t *connections) groupOf(address net.Addr) (network string, exempt bool) {
	tcp, ok := address.(*net.TCPAddr)
	if !ok {
		return "unknown", false
	}
	ip := tcp.AddrPort().Addr().Unmap().WithZone("")
	network = clientaddress.Network(ip.String())
	if t.trusted(ip) {
		return "proxy " + network, true
	}
	return network, false
}

// trusted reports whether the address is in one of the networks of trusted proxies.
func (t *connections) trusted(ip netip.Addr) bool {
	return slices.ContainsFunc(t.proxies, func(network netip.Prefix) bool { return network.Contains(ip) })
}

type victim struct {
	conn   *conn
	reason string
}

// close closes connections that were forgotten already.
func (t *connections) close(victims []victim) {
	for _, v := range victims {
		t.closed(v.reason)
		v.conn.abort()
	}
}

// evict forgets connections until every bound on connections holds, and returns them.
func (t *connections) evict(c *conn) (victims []victim) {
	for _, bound := range []struct {
		reason  string
		reached func() bool
		next    func() *conn
	}{
		{reasonAddress, func() bool { return !c.exempt && c.group.all > t.bounds.perAddress },
			func() *conn { return c.group.oldest(c) }},
		{reasonUnfinished, func() bool { return t.unfinished > t.bounds.unfinished }, func() *conn { return t.unfinishedVictim(c) }},
		{reasonTotal, func() bool { return t.all > t.bounds.total }, func() *conn { return t.victim(c) }},
	} {
		for !c.gone && bound.reached() {
			next := bound.next()
			if next == nil {
				next = c
			}
			t.forget(next)
			victims = append(victims, victim{next, bound.reason})
		}
	}
	return victims
}

// oldest returns the connection of the group to close first, other than the newest one; nil if
// there is none.
func (g *group) oldest(newest *conn) *conn {
	for _, list := range g.idle {
		// The newest is the last of its list.
		if first := list.Front(); first != nil && first.Value.(*conn) != newest {
			return first.Value.(*conn)
		}
	}
	return nil
}

// unfinishedVictim returns the connection without a first request to close for a new one: one of
// the address with the most of these, and of a proxy only as a last resort. Of equals, one that has
// sent nothing comes first, and then the oldest.
func (t *connections) unfinishedVictim(newest *conn) (chosen *conn) {
	for _, g := range t.groups {
		for class := range established {
			first := g.idle[class].Front()
			if first == nil || first.Value.(*conn) == newest {
				continue
			}
			if c := first.Value.(*conn); chosen == nil || c.closedBefore(chosen) {
				chosen = c
			}
		}
	}
	return chosen
}

// closedBefore reports whether a connection without a first request is closed before another one.
func (c *conn) closedBefore(other *conn) bool {
	switch {
	case c.exempt != other.exempt:
		return other.exempt
	case c.group.unfinished != other.group.unfinished:
		return c.group.unfinished > other.group.unfinished
	case c.class != other.class:
		return c.class < other.class
	}
	return c.since().Before(other.since())
}

// victim returns the connection to close for a new one: one of the address with the most
// connections, unless the new one's address has more. An idle connection comes first, then the one
// that has held its slots for longest: otherwise clients that keep all their connections busy would
// displace others. Between addresses with equally many, only connections that have been open for a
// while are closed.
func (t *connections) victim(newest *conn) (chosen *conn) {
	limit := time.Now().Add(-equalGrace)
	for c := range t.members {
		busy, more := c.idlePlace == nil, c.group.all-newest.group.all
		if c == newest || more < 0 ||
			busy && (c.exempt || c.group == newest.group || more <= 1 && c.opened.After(limit)) {
			continue
		}
		switch {
		case chosen == nil, c.group.all > chosen.group.all:
			chosen = c
		case c.group.all < chosen.group.all, busy && chosen.idlePlace != nil:
		case !busy && chosen.idlePlace == nil, c.since().Before(chosen.since()):
			chosen = c
		}
	}
	return chosen
}

// since returns when the connection became idle, or got its slots.
func (c *conn) since() time.Time {
	if c.idlePlace == nil {
		return c.slotsSince
	}
	return c.idleSince
}

// heard notes that the client has sent something.
func (t *connections) heard(c *conn) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if c.gone || c.class != silent {
		return
	}
	t.removeIdle(c)
	c.class = fresh
	t.addIdle(c)
}

// join counts a connection, and everything that it uses, in its group.
func (t *connections) join(c *conn) {
	g := t.groups[c.network]
	if g == nil {
		g = &group{exempt: c.exempt}
		for class := range g.idle {
			g.idle[class] = list.New()
		}
		t.groups[c.network] = g
	}
	c.group = g
	g.all++
	if c.class != established {
		g.unfinished++
	}
	g.slots += c.slots
	g.requests += c.requests
	t.addIdle(c)
}

// leave reverses join.
func (t *connections) leave(c *conn) {
	g := c.group
	t.removeIdle(c)
	g.all--
	if c.class != established {
		g.unfinished--
	}
	g.slots -= c.slots
	g.requests -= c.requests
	if g.all == 0 {
		delete(t.groups, c.network)
	}
}

// addIdle puts a connection at the end of its group's idle list, unless it has a request in flight.
func (t *connections) addIdle(c *conn) {
	t.removeIdle(c)
	if c.requests == 0 {
		c.idleSince = time.Now()
		c.idlePlace = c.group.idle[c.class].PushBack(c)
	}
}

// removeIdle reverses addIdle.
func (t *connections) removeIdle(c *conn) {
	if c.idlePlace != nil {
		c.group.idle[c.class].Remove(c.idlePlace)
		c.idlePlace = nil
	}
}

// forget stops counting a connection.
func (t *connections) forget(c *conn) {
	if c.gone {
		return
	}
	t.leave(c)
	c.gone = true
	close(c.closed)
	delete(t.members, c)
	t.all--
	if c.class != established {
		t.unfinished--
	}
	t.slots -= c.slots
	t.requests -= c.requests
	if c.abandoned > 0 {
		t.abandoned--
	}
	t.unblockLocked(c)
	t.admitWaiters()
}
