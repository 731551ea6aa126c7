package keyrotation

import (
	"k8s.io/apimachinery/pkg/api/meta"
	"sigs.k8s.io/controller-runtime/pkg/controller/controllerutil"

	"github.com/securenotes/securenotes/api/v1alpha1"
)

// maxRequest bounds the value of a request annotation, in bytes; a longer one is no request.
const maxRequest = 64

// Requested says whether an annotation asks for something that has not been handled yet.
func Requested(annotations map[string]string, annotation, handled string) (value string, requested bool) {
	value = annotations[annotation]
	return value, value != "" && len(value) <= maxRequest && value != handled
}

func retryRequested(kr *v1alpha1.KeyRotation) bool {
	_, requested := Requested(kr.Annotations, v1alpha1.AnnotationRetryRequestedAt, kr.Status.LastHandledRetryRequest)
	return requested
}

func isTrue(kr *v1alpha1.KeyRotation, condition string) bool {
	return meta.IsStatusConditionTrue(kr.Status.Conditions, condition)
}

func hasFinalizer(kr *v1alpha1.KeyRotation) bool {
	return controllerutil.ContainsFinalizer(kr, v1alpha1.Finalizer)
}
