package keyrotation

import (
	corev1 "k8s.io/api/core/v1"

	"github.com/securenotes/securenotes/api/v1alpha1"
	"github.com/securenotes/securenotes/controllers/internal/rotations"
)

// warnOfRetry says that the retry of a failed rotation is ignored.
func (r *Reconciler) warnOfRetry(kr *v1alpha1.KeyRotation) {
	if value := kr.Annotations[v1alpha1.AnnotationRetryRequestedAt]; rotations.Failed(kr) && rotations.TooLong(value) {
		r.Recorder.Eventf(kr, nil, corev1.EventTypeWarning, v1alpha1.ConditionAnnotationIgnored, "Rotate",
			"%s=%.64q is ignored: %s", v1alpha1.AnnotationRetryRequestedAt, value, rotations.TooLongAdvice)
	}
}
