// Package clientaddress says what a client's address is counted by.
package clientaddress

import "net/netip"

// Network returns what an address is counted by: the address itself for IPv4, and its /64 for IPv6,
// of which every home has 2^64 addresses. What is no address is "unknown".
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
