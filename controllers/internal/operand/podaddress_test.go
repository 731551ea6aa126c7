package operand

import (
	"testing"

	corev1 "k8s.io/api/core/v1"
)

// TestPodAddress checks that the operator sends requests neither to nodes nor to itself, whatever a
// pod's status says.
func TestPodAddress(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		ip   string
		want bool
	}{
		"IPv4":            {ip: "10.1.2.3", want: true},
		"IPv6":            {ip: "fd00::7", want: true},
		"none":            {ip: "", want: false},
		"the node's":      {ip: "192.0.2.1", want: false},
		"loopback":        {ip: "127.0.0.1", want: false},
		"loopback of v6":  {ip: "::1", want: false},
		"mapped loopback": {ip: "::ffff:127.0.0.1", want: false},
		"link-local":      {ip: "169.254.169.254", want: false},
		"multicast":       {ip: "224.0.0.1", want: false},
		"a name":          {ip: "vault.example.com", want: false},
	} {
		t.Run(name, func(t *testing.T) {
			got, ok := PodAddress(&corev1.Pod{Status: corev1.PodStatus{PodIP: tc.ip, HostIP: "192.0.2.1"}})
			if ok != tc.want || ok && got != tc.ip {
				t.Errorf("got %q, %t; want %q, %t", got, ok, tc.ip, tc.want)
			}
		})
	}
}
