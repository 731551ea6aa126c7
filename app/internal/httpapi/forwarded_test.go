package httpapi

import (
	"net/http"
	"net/http/httptest"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/gin-gonic/gin"
)

// clients returns a function that returns the address for which a request counts. Three networks
// are trusted proxies.
func clients(t testing.TB) func(peer string, forwarded ...string) string {
	t.Helper()
	engine, err := newEngine([]string{"127.0.0.1", "10.0.0.0/8", "fe80::/16"})
	if err != nil {
		t.Fatal(err)
	}
	var got string
	engine.GET("/", func(c *gin.Context) { got = c.ClientIP() })
	return func(peer string, forwarded ...string) string {
		request := httptest.NewRequest(http.MethodGet, "/", nil)
		request.RemoteAddr = peer
		request.Header["X-Forwarded-For"] = forwarded
		got = "no answer"
		engine.ServeHTTP(httptest.NewRecorder(), request)
		return got
	}
}

func TestForwardedAddresses(t *testing.T) {
	client := clients(t)
	for name, tc := range map[string]struct {
		peer      string
		forwarded []string
		want      string
	}{
		"no header":                        {peer: "127.0.0.1:1", want: "127.0.0.1"},
		"an address":                       {peer: "127.0.0.1:1", forwarded: []string{"203.0.113.5"}, want: "203.0.113.5"},
		"a port":                           {peer: "127.0.0.1:1", forwarded: []string{"203.0.113.5:51234"}, want: "203.0.113.5"},
		"IPv6":                             {peer: "127.0.0.1:1", forwarded: []string{"2001:db8::1"}, want: "2001:db8::1"},
		"IPv6 in brackets":                 {peer: "127.0.0.1:1", forwarded: []string{"[2001:db8::1]"}, want: "2001:db8::1"},
		"IPv6 in brackets with a port":     {peer: "127.0.0.1:1", forwarded: []string{"[2001:db8::1]:443"}, want: "2001:db8::1"},
		"IPv6 with a zone":                 {peer: "127.0.0.1:1", forwarded: []string{"2001:db8::1%eth0"}, want: "2001:db8::1"},
		"all of them":                      {peer: "127.0.0.1:1", forwarded: []string{"[2001:db8::1%eth0]:443"}, want: "2001:db8::1"},
		"IPv6 written in full":             {peer: "127.0.0.1:1", forwarded: []string{"2001:0DB8:0:0:0:0:0:1"}, want: "2001:db8::1"},
		"IPv4 mapped to IPv6":              {peer: "127.0.0.1:1", forwarded: []string{"[::ffff:203.0.113.5]:1"}, want: "203.0.113.5"},
		"spaces and tabs":                  {peer: "127.0.0.1:1", forwarded: []string{" \t203.0.113.5:51234 \t"}, want: "203.0.113.5"},
		"the client's own entry":           {peer: "127.0.0.1:1", forwarded: []string{"198.51.100.9:1, 203.0.113.5:51234"}, want: "203.0.113.5"},
		"the client's own line":            {peer: "127.0.0.1:1", forwarded: []string{"198.51.100.9:1", "203.0.113.5:51234"}, want: "203.0.113.5"},
		"two proxies":                      {peer: "127.0.0.1:1", forwarded: []string{"198.51.100.9, 203.0.113.5:51234 ,10.0.0.1:80"}, want: "203.0.113.5"},
		"two proxies, a line each":         {peer: "127.0.0.1:1", forwarded: []string{"203.0.113.5:51234", "10.0.0.1:80"}, want: "203.0.113.5"},
		"only proxies":                     {peer: "127.0.0.1:1", forwarded: []string{"10.0.0.2:80, 10.0.0.1:80"}, want: "10.0.0.2"},
		"a name behind the client":         {peer: "127.0.0.1:1", forwarded: []string{"unknown, 203.0.113.5:51234"}, want: "203.0.113.5"},
		"a name in the client's place":     {peer: "127.0.0.1:1", forwarded: []string{"198.51.100.9, unknown"}, want: "127.0.0.1"},
		"a name between proxies":           {peer: "127.0.0.1:1", forwarded: []string{"198.51.100.9, unknown, 10.0.0.1"}, want: "127.0.0.1"},
		"an empty entry":                   {peer: "127.0.0.1:1", forwarded: []string{"198.51.100.9,, 10.0.0.1"}, want: "127.0.0.1"},
		"an invalid port":                  {peer: "127.0.0.1:1", forwarded: []string{"203.0.113.5:http"}, want: "127.0.0.1"},
		"a port that overflows":            {peer: "127.0.0.1:1", forwarded: []string{"203.0.113.5:65536"}, want: "127.0.0.1"},
		"brackets that do not close":       {peer: "127.0.0.1:1", forwarded: []string{"[2001:db8::1"}, want: "127.0.0.1"},
		"something behind the brackets":    {peer: "127.0.0.1:1", forwarded: []string{"[2001:db8::1]443"}, want: "127.0.0.1"},
		"two in an entry":                  {peer: "127.0.0.1:1", forwarded: []string{"203.0.113.5 203.0.113.6"}, want: "127.0.0.1"},
		"a network":                        {peer: "127.0.0.1:1", forwarded: []string{"203.0.113.0/24"}, want: "127.0.0.1"},
		"a stranger that claims":           {peer: "192.0.2.1:1", forwarded: []string{"203.0.113.5"}, want: "192.0.2.1"},
		"a stranger that claims a port":    {peer: "192.0.2.1:1", forwarded: []string{"203.0.113.5:51234"}, want: "192.0.2.1"},
		"a stranger on the link":           {peer: "[fe81::1%eth0]:1", want: "fe81::1"},
		"a proxy on the link":              {peer: "[fe80::1%eth0]:1", forwarded: []string{"203.0.113.5:51234"}, want: "203.0.113.5"},
		"a peer by an IPv4-mapped address": {peer: "[::ffff:192.0.2.1]:1", forwarded: []string{"203.0.113.5"}, want: "192.0.2.1"},
	} {
		t.Run(name, func(t *testing.T) {
			if got := client(tc.peer, tc.forwarded...); got != tc.want {
				t.Errorf("the address counted is %q, want %q", got, tc.want)
			}
		})
	}
}

// FuzzForwarded: whatever the header contains, the address is the peer's or that of an entry with
// only trusted proxies to its right. A peer that is no proxy always counts as itself.
func FuzzForwarded(f *testing.F) {
	for _, seed := range []struct{ first, second string }{
		{first: "203.0.113.5:51234"}, {first: "198.51.100.9, [2001:db8::1]:443", second: "10.0.0.1:80"}, {first: "[2001:db8::1%eth0]", second: "unknown"},
		{first: "10.0.0.1", second: "10.0.0.1, ,203.0.113.5"}, {first: "::ffff:10.0.0.1", second: "[::ffff:203.0.113.5]"}, {first: "203.0.113.5:1:2", second: "[]"}, {first: "[[::1]]:1", second: "1.2.3.4 5"},
	} {
		f.Add(seed.first, seed.second)
	}
	client := clients(f)
	f.Fuzz(func(t *testing.T, first, second string) {
		if got := client("192.0.2.1:1", first, second); got != "192.0.2.1" {
			t.Errorf("an untrusted peer counts as %q", got)
		}
		got := client("127.0.0.1:1", first, second)
		if got == "127.0.0.1" {
			return
		}
		entries := strings.Split(first+","+second, ",")
		for _, entry := range slices.Backward(entries) {
			if addressesIn(entry, got) {
				return
			}
			if !isTrusted(entry) {
				t.Fatalf("%q is believed, which %q, no proxy, stands before", got, entry)
			}
		}
		t.Fatalf("%q is in no entry of %q", got, entries)
	})
}

// addressesIn reports whether an entry is the address, possibly with brackets, a zone and a port.
func addressesIn(entry, address string) bool {
	for _, candidate := range candidates(entry) {
		if candidate.String() == address {
			return true
		}
	}
	return false
}

func isTrusted(entry string) bool {
	for _, candidate := range candidates(entry) {
		for _, network := range []string{"127.0.0.1/32", "10.0.0.0/8", "fe80::/16"} {
			if netip.MustParsePrefix(network).Contains(candidate) {
				return true
			}
		}
	}
	return false
}

// candidates returns the addresses that an entry could mean: it cuts off what surrounds them at
// each place.
func candidates(entry string) []netip.Addr {
	entry = strings.TrimSpace(entry)
	texts := []string{entry, strings.Trim(entry, "[]")}
	if host, _, found := strings.Cut(entry, "]"); found {
		texts = append(texts, strings.TrimPrefix(host, "["))
	} else if i := strings.LastIndexByte(entry, ':'); i >= 0 {
		texts = append(texts, entry[:i])
	}
	var out []netip.Addr
	for _, text := range texts {
		if address, err := netip.ParseAddr(text); err == nil {
			out = append(out, address.WithZone("").Unmap())
		}
	}
	return out
}
