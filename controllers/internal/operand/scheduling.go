package operand

import (
	"fmt"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/securenotes/securenotes/api/v1alpha1"
)

// maxScheduling bounds affinity, tolerations and topologySpreadConstraints together, in bytes of
// their Protocol Buffers encoding. Admission cannot bound them, because the types of Kubernetes
// have no limits.
const maxScheduling = 16 << 10

// annotationOversized marks a cached object that DropOversized has reduced. The API server rejects
// the key, so nobody else can set it.
const annotationOversized = "securenotes.dev/!oversized"

// DropOversized removes what is too large for the cache from a cached object. CheckResources then
// rejects the object, so that no pod starts without it.
func DropOversized(sn *v1alpha1.SecureNotes) {
	if !oversized(sn) {
		return
	}
	template := sn.Spec.PodTemplate
	template.Affinity, template.Tolerations, template.TopologySpreadConstraints = nil, nil, nil
	metav1.SetMetaDataAnnotation(&sn.ObjectMeta, annotationOversized, "true")
}

func oversized(sn *v1alpha1.SecureNotes) bool {
	template := sn.Spec.PodTemplate
	if template == nil {
		return false
	}
	size := 0
	if template.Affinity != nil {
		size += template.Affinity.Size()
	}
	for i := range template.Tolerations {
		size += template.Tolerations[i].Size()
	}
	if constraints := template.TopologySpreadConstraints; constraints != nil {
		for i := range *constraints {
			size += (*constraints)[i].Size()
		}
	}
	return size > maxScheduling
}

func checkScheduling(sn *v1alpha1.SecureNotes) error {
	if sn.Annotations[annotationOversized] == "" && !oversized(sn) {
		return nil
	}
	return fmt.Errorf("affinity, tolerations and topologySpreadConstraints of spec.podTemplate take more than %d KiB: shorten them", maxScheduling>>10)
}
