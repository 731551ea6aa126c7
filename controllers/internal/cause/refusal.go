package cause

import (
	"regexp"
	"strings"

	apierrors "k8s.io/apimachinery/pkg/api/errors"

	"github.com/securenotes/securenotes/api/v1alpha1"
)

// OfError returns the cause if the API server refused an object of the operator for a reason that
// only a person can change: a field of the spec, a quota, a LimitRange or an admission policy.
func OfError(err error) Cause {
	if !apierrors.IsInvalid(err) && !apierrors.IsForbidden(err) {
		return Cause{}
	}
	text := err.Error()
	c := Cause{Reason: v1alpha1.ReasonApplyFailed, Message: Sanitize(text)}
	switch {
	case !apierrors.IsForbidden(err):
	case strings.Contains(text, "exceeded quota"):
		c.Reason, c.Next = v1alpha1.ReasonQuotaExceeded, "raise the ResourceQuota or free some of it"
		if strings.Contains(text, "services.nodeports") || strings.Contains(text, "services.loadbalancers") {
			c.Next += ", or set spec.service.type to ClusterIP"
		}
	case claimOutsideLimits.MatchString(text):
		c.Reason, c.Next = v1alpha1.ReasonOutsideLimitRange, "set spec.database.embedded.storage.size to a size that the LimitRange of the namespace allows"
	}
	return c
}

var claimOutsideLimits = regexp.MustCompile(`(minimum|maximum) storage usage per PersistentVolumeClaim`)
