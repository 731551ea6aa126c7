package securenotes

import (
	"slices"
	"testing"

	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/securenotes/securenotes/api/v1alpha1"
	"github.com/securenotes/securenotes/controllers/internal/crashtest"
)

// TestOthersFinalizersStay: the cache does not hold the finalizers of others. The operator removes
// none of them when it adds or removes its own.
func TestOthersFinalizersStay(t *testing.T) {
	t.Parallel()
	const others = "example.com/somebody"
	l := newLife(t, &crashtest.Crash{})
	sn := l.object()
	sn.Finalizers = []string{others}
	if err := l.Update(t.Context(), sn); err != nil {
		t.Fatal(err)
	}
	reconcile := func() []string {
		if _, err := l.operator().Reconcile(t.Context(), ctrl.Request{NamespacedName: client.ObjectKeyFromObject(sn)}); err != nil {
			t.Fatal(err)
		}
		return l.object().Finalizers
	}
	if got := reconcile(); !slices.Equal(got, []string{others, v1alpha1.Finalizer}) {
		t.Errorf("added: %v", got)
	}
	if err := l.Delete(t.Context(), sn); err != nil {
		t.Fatal(err)
	}
	if got := reconcile(); !slices.Equal(got, []string{others}) {
		t.Errorf("removed: %v", got)
	}
}
