package cause

import (
	"regexp"
	"strings"

	apierrors "k8s.io/apimachinery/pkg/api/errors"

	"github.com/securenotes/securenotes/api/v1alpha1"
)

// OfError returns the cause if the API server has refused an object of the operator's for what only
// a person can change: a field of the spec, a quota, a LimitRange or an admission policy.
func OfError(err error) Cause {
	if !apierrors.IsInvalid(err) && !apierrors.IsForbidden(err) {
		return Cause{}
	}
	words := err.Error()
	c := Cause{Reason: v1alpha1.ReasonApplyFailed, Message: Words(words)}
	switch {
	case !apierrors.IsForbidden(err):
	case strings.Contains(words, "exceeded quota"):
		c.Reason, c.Next = v1alpha1.ReasonQuotaExceeded, "raise the ResourceQuota, or free what others use of it"
		if strings.Contains(words, "services.nodeports") || strings.Contains(words, "services.loadbalancers") {
			c.Next += ", or set spec.service.type to ClusterIP"
		}
	case claimOutsideLimits.MatchString(words):
		c.Reason, c.Next = v1alpha1.ReasonOutsideLimitRange, "set spec.database.embedded.storage.size to a size within the namespace's LimitRange"
	}
	return c
}

var claimOutsideLimits = regexp.MustCompile(`(minimum|maximum) storage usage per PersistentVolumeClaim`)
