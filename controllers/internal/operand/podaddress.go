package operand

import (
	"net/netip"

	corev1 "k8s.io/api/core/v1"
)

// PodAddress returns the IP address that the operator may send requests to. A pod on its node's
// network has none of its own, and an address that is not global unicast belongs to no pod.
func PodAddress(pod *corev1.Pod) (address string, ok bool) {
	ip, err := netip.ParseAddr(pod.Status.PodIP)
	if err != nil || pod.Status.PodIP == pod.Status.HostIP || !ip.Unmap().IsGlobalUnicast() {
		return "", false
	}
	return ip.String(), true
}
