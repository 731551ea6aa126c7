package operand

import (
	"testing"

	corev1 "k8s.io/api/core/v1"
)

// TestPodAddress: the operator asks neither nodes nor itself, whatever a pod's status says.
func TestPodAddress(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		ip   string
		want bool
	}{
		"IPv4":            {"10.1.2.3", true},
		"IPv6":            {"fd00::7", true},
		"none":            {"", false},
		"the node's":      {"192.0.2.1", false},
		"loopback":        {"127.0.0.1", false},
		"loopback of v6":  {"::1", false},
		"mapped loopback": {"::ffff:127.0.0.1", false},
		"link-local":      {"169.254.169.254", false},
		"multicast":       {"224.0.0.1", false},
		"a name":          {"vault.example.com", false},
	} {
		t.Run(name, func(t *testing.T) {
			got, ok := PodAddress(&corev1.Pod{Status: corev1.PodStatus{PodIP: tc.ip, HostIP: "192.0.2.1"}})
			if ok != tc.want || ok && got != tc.ip {
				t.Errorf("%q %v, want %v", got, ok, tc.want)
			}
		})
	}
}
