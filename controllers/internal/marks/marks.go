// Package marks has the annotations that say that the operation of an object has started or has
// ended. Tools that restore an object without its status keep them.
package marks

import (
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/securenotes/securenotes/api/v1alpha1"
)

// MaxAnnotations is how many annotations an object may have for its start or end to be recorded
// among them: the policy config/policy/requests.yaml compares no more than these one by one.
const MaxAnnotations = 1000

// Ended reports whether the annotation says that the operation of an object has ended. Its
// value is the object's own name, so that a copy under another name is a new operation.
func Ended(o metav1.Object) bool {
	return o.GetAnnotations()[v1alpha1.AnnotationEnded] == o.GetName()
}

// Started reports whether the annotation says that the operation of an object has started.
// Its value is the object's own name, as with [Ended].
func Started(o metav1.Object) bool {
	return o.GetAnnotations()[v1alpha1.AnnotationStarted] == o.GetName()
}

// SetEnded records the end in the annotations, unless there are too many. Such an object must
// still be released.
func SetEnded(o metav1.Object) { mark(o, v1alpha1.AnnotationEnded) }

// SetStarted records the start in the annotations, unless there are too many.
func SetStarted(o metav1.Object) { mark(o, v1alpha1.AnnotationStarted) }

func mark(o metav1.Object, annotation string) {
	annotations := o.GetAnnotations()
	if len(annotations) >= MaxAnnotations {
		return
	}
	if annotations == nil {
		annotations = map[string]string{}
	}
	annotations[annotation] = o.GetName()
	o.SetAnnotations(annotations)
}
