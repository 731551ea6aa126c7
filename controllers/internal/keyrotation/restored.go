package keyrotation

import (
	"fmt"

	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/securenotes/securenotes/api/v1alpha1"
)

// markedEnded reports whether the annotation says that the rotation has ended. It holds the
// rotation's own name, so that a copy under another name is a new rotation.
func markedEnded(kr *v1alpha1.KeyRotation) bool {
	return kr.Annotations[v1alpha1.AnnotationEnded] == kr.Name
}

// restoredEnded reports whether the rotation had ended before it was restored without its status.
func restoredEnded(kr *v1alpha1.KeyRotation) bool {
	return markedEnded(kr) && kr.Status.StartTime == nil && kr.Status.Attempt == 0
}

// maxAnnotations is how many annotations an object may have for its end to be recorded among them:
// the policy config/policy/requests.yaml compares no more than these one by one.
const maxAnnotations = 1000

// setEnded records the end in the annotations, unless there are too many: such an object must still
// be released.
func setEnded(kr *v1alpha1.KeyRotation) {
	if len(kr.Annotations) < maxAnnotations {
		metav1.SetMetaDataAnnotation(&kr.ObjectMeta, v1alpha1.AnnotationEnded, kr.Name)
	}
}

// unsetEnded removes the record of the end. A started rotation that keeps it is not held back by
// it.
func unsetEnded(kr *v1alpha1.KeyRotation) {
	if len(kr.Annotations) <= maxAnnotations {
		delete(kr.Annotations, v1alpha1.AnnotationEnded)
	}
}

// setRestored ends a restored rotation. It claims no success: anyone who may edit the object may
// have written the annotation.
func setRestored(kr *v1alpha1.KeyRotation, s *v1alpha1.KeyRotationStatus) {
	message := fmt.Sprintf("its annotation %s says that this KeyRotation had ended before it was restored from a backup; "+
		"it does not start again, and what it did is not known: to rotate, create another KeyRotation", v1alpha1.AnnotationEnded)
	setInitial(kr, s)
	s.State = v1alpha1.ConditionRestored
	setCondition(kr, s, v1alpha1.ConditionRestored, metav1.ConditionTrue, v1alpha1.ConditionRestored, message)
	meta.RemoveStatusCondition(&s.Conditions, v1alpha1.ConditionReconciling)
}
