package securenotes

import (
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/securenotes/securenotes/api/v1alpha1"
)

// TestNewestRotationDecides: a rotation that was superseded in the same second as the one that took over
// ended does not make the service look unhealthy, whatever their names.
func TestNewestRotationDecides(t *testing.T) {
	at := metav1.NewTime(time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC))
	ended := func(name, condition string, to int64) v1alpha1.KeyRotation {
		return v1alpha1.KeyRotation{
			ObjectMeta: metav1.ObjectMeta{Name: name},
			Status: v1alpha1.KeyRotationStatus{
				CompletionTime: &at, ToVersion: &to,
				Conditions: []metav1.Condition{{Type: condition, Status: metav1.ConditionTrue}},
			},
		}
	}
	failed, complete := ended("a", v1alpha1.ConditionFailed, 2), ended("b", v1alpha1.ConditionComplete, 3)
	for _, list := range [][]v1alpha1.KeyRotation{{failed, complete}, {complete, failed}} {
		if f, _ := rotationHealth(&v1alpha1.SecureNotes{}, list); f.status != metav1.ConditionTrue {
			t.Errorf("%s first: %+v", list[0].Name, f)
		}
	}
}
