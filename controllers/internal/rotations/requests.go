package rotations

import (
	"github.com/securenotes/securenotes/api/v1alpha1"
)

// maxRequest bounds the value of a request annotation, in bytes. A longer value is ignored.
const maxRequest = 64

// Requested returns the value of an annotation and reports whether it is a request that has not
// been handled yet.
func Requested(annotations map[string]string, annotation, handled string) (value string, requested bool) {
	value = annotations[annotation]
	return value, value != "" && !TooLong(value) && value != handled
}

// TooLongAdvice says what to do about a value that is [TooLong].
const TooLongAdvice = "the value must have at most 64 characters"

// TooLong reports whether a request is ignored because of its length.
func TooLong(value string) bool { return len(value) > maxRequest }

// RetryRequested reports whether somebody has requested a retry that has not been handled yet.
func RetryRequested(kr *v1alpha1.KeyRotation) bool {
	_, requested := Requested(kr.Annotations, v1alpha1.AnnotationRetryRequestedAt, kr.Status.LastHandledRetryRequest)
	return requested
}
