package httpapi

import (
	"net/netip"
	"strings"

	"github.com/gin-gonic/gin"
)

// forwardedFor is the header in which HTTP proxies name the client.
const forwardedFor = "X-Forwarded-For"

// plainAddresses rewrites the addresses that [gin.Context.ClientIP] reads to the only form that gin
// parses: without port, brackets and zone. gin decides which of them to trust.
func plainAddresses(c *gin.Context) {
	if peer, err := netip.ParseAddrPort(c.Request.RemoteAddr); err == nil && peer.Addr().Zone() != "" {
		c.Request.RemoteAddr = netip.AddrPortFrom(peer.Addr().WithZone(""), peer.Port()).String()
	}
	lines := c.Request.Header[forwardedFor]
	for i, line := range lines {
		entries := strings.Split(line, ",")
		for j, entry := range entries {
			entries[j] = plainAddress(entry)
		}
		lines[i] = strings.Join(entries, ",")
	}
}

// plainAddress returns the address in an entry of X-Forwarded-For. Proxies write it as 203.0.113.5,
// 203.0.113.5:51234, 2001:db8::1, [2001:db8::1] or [2001:db8::1]:443. An entry that is no address
// is returned unchanged: gin stops there and trusts nothing to the left of it.
func plainAddress(entry string) string {
	text := strings.TrimSpace(entry)
	if inside, found := strings.CutPrefix(text, "["); found && strings.HasSuffix(inside, "]") {
		text += ":0" // so that one parser reads brackets, with a port or without
	}
	address, err := netip.ParseAddr(text)
	if err != nil {
		withPort, err := netip.ParseAddrPort(text)
		if err != nil {
			return entry
		}
		address = withPort.Addr()
	}
	return address.Unmap().WithZone("").String()
}
