package operand

import (
	"net/netip"

	corev1 "k8s.io/api/core/v1"
)

// PodAddress returns the IP address at which a pod may be asked. The network assigns it, but a pod
// on its node's network has the node's address, and one that is not global unicast is no pod's.
func PodAddress(pod *corev1.Pod) (address string, ok bool) {
	ip, err := netip.ParseAddr(pod.Status.PodIP)
	if err != nil || pod.Status.PodIP == pod.Status.HostIP || !ip.Unmap().IsGlobalUnicast() {
		return "", false
	}
	return ip.String(), true
}
