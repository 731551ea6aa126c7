// Package clientaddress groups the addresses of clients for limits.
package clientaddress

import "net/netip"

// Network returns the group of an address: the address itself for IPv4, and its /64 network for
// IPv6, because every home network has 2^64 addresses. It returns "unknown" for text that is no
// address.
func Network(address string) string {
	ip, err := netip.ParseAddr(address)
	if err != nil {
		return "unknown"
	}
	ip = ip.Unmap().WithZone("")
	if ip.Is4() {
		return ip.String()
	}
	prefix, err := ip.Prefix(64)
	if err != nil {
		return "unknown"
	}
	return prefix.String()
}
