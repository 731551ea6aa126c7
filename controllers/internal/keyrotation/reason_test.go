package keyrotation

import (
	"testing"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/securenotes/securenotes/api/v1alpha1"
)

// TestStatusReason: one word says why a rotation waits or has failed, and none while it works.
func TestStatusReason(t *testing.T) {
	t.Parallel()
	condition := func(kind, reason string) []metav1.Condition {
		return []metav1.Condition{
			{Type: v1alpha1.ConditionReencrypted, Status: metav1.ConditionFalse, Reason: v1alpha1.ReasonProgressing},
			{Type: kind, Status: metav1.ConditionTrue, Reason: reason},
		}
	}
	for name, tc := range map[string]struct {
		state      string
		conditions []metav1.Condition
		want       string
	}{
		"new":                       {"", nil, ""},
		"works":                     {"Reencrypting", condition(v1alpha1.ConditionReconciling, "Reencrypting"), ""},
		"a quota refuses the Job":   {"Reencrypting", condition(v1alpha1.ConditionReconciling, "QuotaExceeded"), "QuotaExceeded"},
		"waits for the SecureNotes": {"Queued", condition(v1alpha1.ConditionReconciling, "SecureNotesNotReady"), "SecureNotesNotReady"},
		"waits for its turn":        {"Queued", condition(v1alpha1.ConditionReconciling, "Queued"), ""},
		"failed":                    {"Failed", condition(v1alpha1.ConditionFailed, "StaleRows"), "StaleRows"},
		"complete":                  {"Complete", condition(v1alpha1.ConditionComplete, "Complete"), ""},
	} {
		t.Run(name, func(t *testing.T) {
			if got := reasonOf(&v1alpha1.KeyRotationStatus{State: tc.state, Conditions: tc.conditions}); got != tc.want {
				t.Errorf("%q, want %q", got, tc.want)
			}
		})
	}
}
