package httpapi

import (
	"fmt"
	"log/slog"
	"net/http"
	"net/netip"
	"sync"
	"time"

	"github.com/gin-gonic/gin"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/securenotes/securenotes/app/internal/sessions"
)

const (
	// manyUsers is how many users of one private address within sharedWindow suggest that their own
	// addresses are hidden.
	manyUsers    = 20
	sharedWindow = time.Hour
	// maxAddresses bounds the addresses that are watched in a window. With manyUsers it bounds the
	// memory to about 500 KiB.
	maxAddresses = 256
)

// carrierNAT is the shared address space of RFC 6598.
var carrierNAT = netip.MustParsePrefix("100.64.0.0/10")

// sharedAddresses detects private addresses that many users come from. That happens when a node or
// a proxy replaces the addresses of clients by its own. It warns once per window, and counts every
// such address. It is safe for concurrent use.
type sharedAddresses struct {
	log     *slog.Logger
	counter prometheus.Counter
	now     func() time.Time

	mu sync.Mutex
	// began is when the window began. warned means that a warning was logged in it.
	began  time.Time
	warned bool
	users  map[netip.Addr]map[string]struct{}
}

func newSharedAddresses(log *slog.Logger, registry prometheus.Registerer, now func() time.Time) (*sharedAddresses, error) {
	s := &sharedAddresses{log: log, now: now, counter: prometheus.NewCounter(prometheus.CounterOpts{
		Name: "securenotes_shared_client_addresses_total",
		Help: "Private addresses that 20 or more users came from within an hour, which suggests that a node or a proxy hides the addresses of clients.",
	})}
	if err := registry.Register(s.counter); err != nil {
		return nil, fmt.Errorf("metrics: %w", err)
	}
	return s, nil
}

// watch watches requests that succeed and have a user.
func (s *sharedAddresses) watch(c *gin.Context) {
	c.Next()
	if c.Writer.Status() >= http.StatusBadRequest {
		return
	}
	user := c.GetString(auditUserKey)
	if value, ok := c.Get(identityKey); ok {
		user = value.(sessions.Identity).Owner
	}
	if user != "" {
		s.saw(c.ClientIP(), user)
	}
}

// saw notes a user at an address.
func (s *sharedAddresses) saw(address, user string) {
	ip, err := netip.ParseAddr(address)
	if err != nil || !isPrivate(ip) {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if now := s.now(); s.users == nil || now.Sub(s.began) >= sharedWindow {
		s.began, s.warned, s.users = now, false, map[netip.Addr]map[string]struct{}{}
	}
	users := s.users[ip]
	if users == nil {
		if len(s.users) >= maxAddresses {
			return
		}
		users = map[string]struct{}{}
		s.users[ip] = users
	}
	if _, known := users[user]; known || len(users) >= manyUsers {
		return
	}
	users[user] = struct{}{}
	if len(users) < manyUsers {
		return
	}
	s.counter.Inc()
	if s.warned {
		return
	}
	s.warned = true
	s.log.Warn("many users come from one private address: a node or a proxy seems to hide the addresses of clients, so that they share "+
		"the limits of one; set spec.service.externalTrafficPolicy to Local, or list the proxy in spec.trustedProxies and configure it to send "+
		"X-Forwarded-For or the PROXY protocol", "address", ip.String(), "users", manyUsers, "within", sharedWindow.String())
}

// isPrivate reports whether an address is private (RFC 1918, RFC 4193, RFC 6598) or link-local.
func isPrivate(ip netip.Addr) bool {
	return ip.IsPrivate() || ip.IsLinkLocalUnicast() || carrierNAT.Contains(ip)
}
