package keyrotation

import (
	"strings"
	"testing"

	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/tools/events"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/securenotes/securenotes/api/v1alpha1"
	"github.com/securenotes/securenotes/controllers/internal/crashtest"
	"github.com/securenotes/securenotes/controllers/internal/rotations"
)

// TestIgnoredRetryIsSaid: a requested retry whose value is too long causes a Warning event.
func TestIgnoredRetryIsSaid(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		value string
		want  bool
	}{
		"as long as it may be": {value: strings.Repeat("x", 64), want: false},
		"too long":             {value: strings.Repeat("x", 65), want: true},
	} {
		t.Run(name, func(t *testing.T) {
			kr := rotation("first", func(kr *v1alpha1.KeyRotation) {
				kr.Annotations = map[string]string{v1alpha1.AnnotationRetryRequestedAt: tc.value}
				meta.SetStatusCondition(&kr.Status.Conditions, metav1.Condition{Type: v1alpha1.ConditionFailed, Status: metav1.ConditionTrue, Reason: v1alpha1.ReasonJobFailed})
			})
			w := newWorld(t, &crashtest.Crash{}, kr)
			recorder := events.NewFakeRecorder(100)
			if _, err := w.reconciler(recorder).Reconcile(t.Context(), ctrl.Request{NamespacedName: client.ObjectKeyFromObject(kr)}); err != nil {
				t.Fatal(err)
			}
			close(recorder.Events)
			got := false
			for event := range recorder.Events {
				got = got || strings.HasPrefix(event, "Warning AnnotationIgnored") && strings.Contains(event, rotations.TooLongAdvice)
			}
			if got != tc.want {
				t.Errorf("a warning: %v, want %v", got, tc.want)
			}
		})
	}
}
