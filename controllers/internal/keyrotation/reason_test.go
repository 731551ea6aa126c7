package keyrotation

import (
	"testing"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/securenotes/securenotes/api/v1alpha1"
)

// TestStatusReason: status.reason says why a rotation waits or has failed, and is empty while it
// works.
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
		"new":                       {state: "", conditions: nil, want: ""},
		"works":                     {state: "Reencrypting", conditions: condition(v1alpha1.ConditionReconciling, "Reencrypting"), want: ""},
		"a quota refuses the Job":   {state: "Reencrypting", conditions: condition(v1alpha1.ConditionReconciling, "QuotaExceeded"), want: "QuotaExceeded"},
		"waits for the SecureNotes": {state: "Queued", conditions: condition(v1alpha1.ConditionReconciling, "SecureNotesNotReady"), want: "SecureNotesNotReady"},
		"waits for its turn":        {state: "Queued", conditions: condition(v1alpha1.ConditionReconciling, "Queued"), want: ""},
		"failed":                    {state: "Failed", conditions: condition(v1alpha1.ConditionFailed, "StaleRows"), want: "StaleRows"},
		"complete":                  {state: "Complete", conditions: condition(v1alpha1.ConditionComplete, "Complete"), want: ""},
	} {
		t.Run(name, func(t *testing.T) {
			if got := reasonOf(&v1alpha1.KeyRotationStatus{State: tc.state, Conditions: tc.conditions}); got != tc.want {
				t.Errorf("got %q, want %q", got, tc.want)
			}
		})
	}
}
