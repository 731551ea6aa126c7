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
	// workWait is how long a connection waits for its share of the memory for requests.
	workWait = 5 * time.Second
	// workGrace is how long a connection may hold its share while no request of it is in the handler,
	// and how long one of an address with more than others may be at work before it gives way. One of
	// an address that has no more than others gives way after equalGrace.
	workGrace, equalGrace = 500 * time.Millisecond, 2 * time.Second
)

// The reasons for which a connection is closed or a request is refused: the labels of the counters.
const (
	reasonTotal      = "total"      // too many connections
	reasonAddress    = "address"    // too many of the address
	reasonUnfinished = "unfinished" // too many without a first request
	reasonWork       = "work"       // no share of the memory for requests became free
	reasonRequests   = "requests"   // too many requests under way
	reasonAbandoned  = "abandoned"  // too many connections whose client gave up a request under way
	reasonBlocked    = "blocked"    // too many connections whose client sends and does not read
)

// connections are the open connections of a listener. Each belongs to a group: the connections of
// one address, as [clientaddress.Network] counts it. When a bound is reached, the group with the
// most connections loses the one that has been without a request for the longest time.
type connections struct {
	bounds bounds
	// proxies are the networks of trusted proxies.
	proxies []netip.Prefix
	closed  func(reason string)

	mu sync.Mutex
	// all, unfinished, work, requests and abandoned are what the bounds of the same names are for.
	all, unfinished, work, requests, abandoned int

	groups  map[string]*group
	members map[*conn]struct{}
	// blocked are the connections whose client sends and does not read, oldest first.
	blocked *list.List
	// waiters are the connections that wait for work, oldest first.
	waiters *list.List
}

// group is what the connections of an address have in use.
type group struct {
	all, unfinished, work, requests int
	// exempt: the address is a proxy's. The bounds by address do not count for it.
	exempt bool
	// spare are the connections without a request under way, by whether they have had one, each list
	// with the one first that is to be closed first.
	spare [classes]*list.List
}

var reasons = []string{reasonTotal, reasonAddress, reasonUnfinished, reasonWork, reasonRequests, reasonAbandoned, reasonBlocked}

// The classes of connections without a request under way, in the order in which they are closed.
const (
	silent  = iota // nothing was received yet
	fresh          // no complete first request yet, or no HTTP/2 preface
	settled        // between requests
	classes
)

func newConnections(b bounds, proxies []netip.Prefix, closed func(reason string)) *connections {
	return &connections{bounds: b, proxies: proxies, closed: closed, groups: map[string]*group{}, members: map[*conn]struct{}{}, blocked: list.New(), waiters: list.New()}
}

// add takes a new connection in, and closes another where a bound is reached; where there is none
// that may be closed, the new one.
func (t *connections) add(c *conn) {
	t.mu.Lock()
	t.all++
	t.unfinished++
	c.opened = time.Now()
	t.members[c] = struct{}{}
	t.join(c)
	victims := t.makeRoom(c)
	t.mu.Unlock()
	t.close(victims)
}

// move puts a connection into the group of the address that its proxy has named.
func (t *connections) move(c *conn) {
	t.mu.Lock()
	if c.gone {
		t.mu.Unlock()
		return
	}
	t.leave(c)
	c.network, c.exempt = t.groupOf(c.remote)
	t.join(c)
	victims := t.makeRoom(c)
	t.mu.Unlock()
	t.close(victims)
}

// remove forgets a connection that is closed. It may be called more than once.
func (t *connections) remove(c *conn) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.forget(c)
}

// groupOf returns the key of the group that an address belongs to, and whether it is a trusted
// proxy's.
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

// close closes connections that have been forgotten already.
func (t *connections) close(victims []victim) {
	for _, v := range victims {
		t.closed(v.reason)
		v.conn.abort()
	}
}

// makeRoom forgets connections until every bound on connections holds, and returns them.
func (t *connections) makeRoom(c *conn) (victims []victim) {
	for _, bound := range []struct {
		reason  string
		reached func() bool
		next    func() *conn
	}{
		{reasonAddress, func() bool { return !c.exempt && c.group.all > t.bounds.perAddress },
			func() *conn { return c.group.oldest(c) }},
		{reasonUnfinished, func() bool { return t.unfinished > t.bounds.unfinished }, func() *conn { return t.unfinishedOfMost(c) }},
		{reasonTotal, func() bool { return t.all > t.bounds.total }, func() *conn { return t.ofHeaviest(c) }},
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

// oldest returns the connection of the group to close first, or nil. The newest one, which is to be
// let in, is none of them.
func (g *group) oldest(newest *conn) *conn {
	for _, spare := range g.spare {
		// The newest is the last of its list.
		if first := spare.Front(); first != nil && first.Value.(*conn) != newest {
			return first.Value.(*conn)
		}
	}
	return nil
}

// unfinishedOfMost returns the connection without a first request to close for a new one: of the
// address with the most of these, those of proxies last. Of equals, one that has sent nothing comes
// first, and then the oldest.
func (t *connections) unfinishedOfMost(newest *conn) (chosen *conn) {
	for _, g := range t.groups {
		for class := range settled {
			first := g.spare[class].Front()
			if first == nil || first.Value.(*conn) == newest {
				continue
			}
			if c := first.Value.(*conn); chosen == nil || c.before(chosen) {
				chosen = c
			}
		}
	}
	return chosen
}

// before reports whether a connection without a first request is closed before another one.
func (c *conn) before(other *conn) bool {
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

// ofHeaviest returns the connection to close for a new one: of the address with the most
// connections, unless the new one's has more. One without a request under way comes first; where
// there is none, the one that has been at work for longest. Otherwise clients that keep all their
// connections busy would have others lose theirs. Between addresses that have as many, only
// connections that have been open for a while give way.
func (t *connections) ofHeaviest(newest *conn) (chosen *conn) {
	limit := time.Now().Add(-equalGrace)
	for c := range t.members {
		busy, more := c.spare == nil, c.group.all-newest.group.all
		if c == newest || more < 0 ||
			busy && (c.exempt || c.group == newest.group || more <= 1 && c.opened.After(limit)) {
			continue
		}
		switch {
		case chosen == nil, c.group.all > chosen.group.all:
			chosen = c
		case c.group.all < chosen.group.all, busy && chosen.spare != nil:
		case !busy && chosen.spare == nil, c.since().Before(chosen.since()):
			chosen = c
		}
	}
	return chosen
}

// since returns since when the connection has had no request under way, or been at work.
func (c *conn) since() time.Time {
	if c.spare == nil {
		return c.workSince
	}
	return c.spareSince
}

// heard notes that the client has sent something.
func (t *connections) heard(c *conn) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if c.gone || c.class != silent {
		return
	}
	t.unfile(c)
	c.class = fresh
	t.file(c)
}

// join counts a connection, and all that it has in use, in its group.
func (t *connections) join(c *conn) {
	g := t.groups[c.network]
	if g == nil {
		g = &group{exempt: c.exempt}
		for class := range g.spare {
			g.spare[class] = list.New()
		}
		t.groups[c.network] = g
	}
	c.group = g
	g.all++
	if c.class != settled {
		g.unfinished++
	}
	g.work += c.work
	g.requests += c.requests
	t.file(c)
}

// leave is the opposite of join.
func (t *connections) leave(c *conn) {
	g := c.group
	t.unfile(c)
	g.all--
	if c.class != settled {
		g.unfinished--
	}
	g.work -= c.work
	g.requests -= c.requests
	if g.all == 0 {
		delete(t.groups, c.network)
	}
}

// file puts a connection at the end of the list of those that may be closed, unless a request of it
// is under way.
func (t *connections) file(c *conn) {
	t.unfile(c)
	if c.requests == 0 {
		c.spareSince = time.Now()
		c.spare = c.group.spare[c.class].PushBack(c)
	}
}

func (t *connections) unfile(c *conn) {
	if c.spare != nil {
		c.group.spare[c.class].Remove(c.spare)
		c.spare = nil
	}
}

func (t *connections) forget(c *conn) {
	if c.gone {
		return
	}
	t.leave(c)
	c.gone = true
	close(c.closed)
	delete(t.members, c)
	t.all--
	if c.class != settled {
		t.unfinished--
	}
	t.work -= c.work
	t.requests -= c.requests
	if c.abandoned > 0 {
		t.abandoned--
	}
	t.unblockLocked(c)
	t.wake()
}
