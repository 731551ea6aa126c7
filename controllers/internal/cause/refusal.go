package cause

import (
	"strings"

	apierrors "k8s.io/apimachinery/pkg/api/errors"

	"github.com/securenotes/securenotes/api/v1alpha1"
)

// OfError returns the cause if the API server has refused an object of the operator's for what only
// a person can change: a field of the spec, a quota, or an admission policy.
func OfError(err error) Cause {
	if !apierrors.IsInvalid(err) && !apierrors.IsForbidden(err) {
		return Cause{}
	}
	c := Cause{Reason: v1alpha1.ReasonApplyFailed, Message: Words(err.Error())}
	if apierrors.IsForbidden(err) && strings.Contains(err.Error(), "exceeded quota") {
		c.Reason, c.Next = v1alpha1.ReasonQuotaExceeded, "raise the ResourceQuota, or free what others use of it"
	}
	return c
}
