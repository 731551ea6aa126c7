package keyrotation

import (
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	"sigs.k8s.io/controller-runtime/pkg/controller/controllerutil"

	"github.com/securenotes/securenotes/api/v1alpha1"
)

// maxRequest bounds the value of a request annotation, in bytes; a longer one is no request.
const maxRequest = 64

// Requested says whether an annotation asks for something that has not been handled yet.
func Requested(annotations map[string]string, annotation, handled string) (value string, requested bool) {
	value = annotations[annotation]
	return value, value != "" && !TooLong(value) && value != handled
}

// TooLongAdvice says what to do about a value that is TooLong.
const TooLongAdvice = "the value must have at most 64 characters"

// TooLong reports whether a request is ignored because of its length.
func TooLong(value string) bool { return len(value) > maxRequest }

func retryRequested(kr *v1alpha1.KeyRotation) bool {
	_, requested := Requested(kr.Annotations, v1alpha1.AnnotationRetryRequestedAt, kr.Status.LastHandledRetryRequest)
	return requested
}

// warnOfRetry says that the retry of a failed rotation is ignored.
func (r *Reconciler) warnOfRetry(kr *v1alpha1.KeyRotation) {
	if value := kr.Annotations[v1alpha1.AnnotationRetryRequestedAt]; Failed(kr) && TooLong(value) {
		r.Recorder.Eventf(kr, nil, corev1.EventTypeWarning, v1alpha1.ConditionAnnotationIgnored, "Rotate",
			"%s=%.64q is ignored: %s", v1alpha1.AnnotationRetryRequestedAt, value, TooLongAdvice)
	}
}

func isTrue(kr *v1alpha1.KeyRotation, condition string) bool {
	return meta.IsStatusConditionTrue(kr.Status.Conditions, condition)
}

func hasFinalizer(kr *v1alpha1.KeyRotation) bool {
	return controllerutil.ContainsFinalizer(kr, v1alpha1.Finalizer)
}
