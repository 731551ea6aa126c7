package keyrotation

import (
	"fmt"
	"strings"
	"testing"

	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/securenotes/securenotes/api/v1alpha1"
	"github.com/securenotes/securenotes/controllers/internal/crashtest"
	"github.com/securenotes/securenotes/controllers/internal/marks"
	"github.com/securenotes/securenotes/controllers/internal/rotations"
)

// restore restores a rotation as Velero does: without the status, owner and finalizer of the old
// object, and with another UID.
func (w *world) restore(t *testing.T, kr *v1alpha1.KeyRotation, name string) {
	t.Helper()
	if err := w.Delete(t.Context(), w.rotation(t, kr.Name)); err != nil {
		t.Fatal(err)
	}
	again := rotation(name, func(again *v1alpha1.KeyRotation) {
		again.UID, again.Labels, again.Annotations, again.Spec = "restored-uid", kr.Labels, kr.Annotations, kr.Spec
	})
	if err := w.Create(t.Context(), again); err != nil {
		t.Fatal(err)
	}
}

// TestEndedRotationsDoNotStartAgain: a rotation that had ended is restored without its status. It
// adds no version, and does not claim to be complete.
func TestEndedRotationsDoNotStartAgain(t *testing.T) {
	t.Parallel()
	for name, changes := range map[string][]func(*v1alpha1.KeyRotation){"routine": nil, "compromise": {urgent}} {
		t.Run(name, func(t *testing.T) {
			w := drive(t, &crashtest.Crash{}, changes...)
			w.restore(t, w.rotation(t, "first"), "first")
			kr := w.pass(t, "first")
			if w.vault.state.Latest != 2 || len(w.jobs(t)) != 2 || rotations.Started(kr) {
				t.Errorf("it has started again: version %d, %d Jobs", w.vault.state.Latest, len(w.jobs(t)))
			}
			restored := meta.FindStatusCondition(kr.Status.Conditions, v1alpha1.ConditionRestored)
			if restored == nil || restored.Status != metav1.ConditionTrue || !strings.Contains(restored.Message, "create another KeyRotation") {
				t.Errorf("Restored: %+v", restored)
			}
			if !rotations.Ended(kr) || rotations.Complete(kr) || rotations.Failed(kr) || kr.Status.State != "Restored" || !metav1.IsControlledBy(kr, notes()) {
				t.Errorf("state %s, owners %v, %+v", kr.Status.State, kr.OwnerReferences, kr.Status.Conditions)
			}
			before := w.crash.Count
			if w.pass(t, "first"); w.crash.Count != before {
				t.Errorf("%d writes when all is done", w.crash.Count-before)
			}
		})
	}
	t.Run("a copy under another name is a rotation of its own", func(t *testing.T) {
		w := drive(t, &crashtest.Crash{})
		w.restore(t, w.rotation(t, "first"), "copy")
		if kr := w.pass(t, "copy"); !rotations.Started(kr) || w.vault.state.Latest != 3 {
			t.Errorf("%+v, version %d", kr.Status, w.vault.state.Latest)
		}
	})
	t.Run("one that an earlier release has ended", func(t *testing.T) {
		ended := rotation("first", owned, from(1), to(2), with(v1alpha1.ConditionComplete))
		w := newWorld(t, &crashtest.Crash{}, ended)
		kr := w.pass(t, "first")
		if !markedEnded(kr) || !rotations.Complete(kr) {
			t.Fatalf("annotations %v", kr.Annotations)
		}
		w.restore(t, kr, "first")
		if kr := w.pass(t, "first"); !rotations.IsTrue(kr, v1alpha1.ConditionRestored) || w.vault.state.Latest != 1 {
			t.Errorf("%+v, version %d", kr.Status, w.vault.state.Latest)
		}
	})
	t.Run("one that is tried again has not ended", func(t *testing.T) {
		w := newWorld(t, &crashtest.Crash{}, rotation("first"))
		w.pass(t, "first")
		w.endJobs(t, "Failed")
		kr := w.pass(t, "first")
		if !rotations.Failed(kr) || !markedEnded(kr) {
			t.Fatalf("%+v, annotations %v", kr.Status, kr.Annotations)
		}
		kr.Annotations[v1alpha1.AnnotationRetryRequestedAt] = "now"
		if err := w.Update(t.Context(), kr); err != nil {
			t.Fatal(err)
		}
		if kr = w.pass(t, "first"); markedEnded(kr) || kr.Status.Attempt != 2 {
			t.Errorf("attempt %d, annotations %v", kr.Status.Attempt, kr.Annotations)
		}
	})
}

// TestEndOfLargeRotation: a rotation is released even if the admission policy does not let the
// operator record its end, because the object has too many annotations.
func TestEndOfLargeRotation(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		annotations int
		marked      bool
	}{
		"as many as may be": {annotations: marks.MaxAnnotations - 1, marked: true}, "too many": {annotations: marks.MaxAnnotations},
	} {
		t.Run(name, func(t *testing.T) {
			kr := rotation("first", owned, guarded, from(1), to(2), with(v1alpha1.ConditionComplete))
			kr.Annotations = map[string]string{}
			for i := range tc.annotations {
				kr.Annotations[fmt.Sprint("a", i)] = ""
			}
			w := newWorld(t, &crashtest.Crash{}, kr)
			got := w.pass(t, "first")
			if rotations.HasFinalizer(got) || markedEnded(got) != tc.marked || len(got.Annotations) > marks.MaxAnnotations {
				t.Errorf("finalizers %v, marked %t, %d annotations", got.Finalizers, markedEnded(got), len(got.Annotations))
			}
			got.Annotations[v1alpha1.AnnotationEnded] = got.Name
			if unmarkEnded(got); markedEnded(got) == tc.marked {
				t.Errorf("the record is removed: %t, want %t", !markedEnded(got), tc.marked)
			}
		})
	}
}

// TestTakenKeyHoldsRotations: while another object has the key, no rotation starts or continues.
func TestTakenKeyHoldsRotations(t *testing.T) {
	t.Parallel()
	taken := notes()
	taken.Status.Conditions = []metav1.Condition{{
		Type: v1alpha1.ConditionVaultReady, Status: metav1.ConditionFalse, Reason: v1alpha1.ReasonKeyTaken, Message: "it belongs to another",
	}}
	for name, kr := range map[string]*v1alpha1.KeyRotation{
		"not begun": rotation("first", owned), "begun": rotation("first", running, from(1)),
	} {
		if d := decide(observed{rotation: kr, parent: taken}); d.action != "Wait" || d.Reason != v1alpha1.ReasonKeyTaken {
			t.Errorf("%s: %+v", name, d)
		}
	}
}

// TestClusterIDChangeHoldsRotations: if the cluster ID is not the one of the key, Vault is not
// called.
func TestClusterIDChangeHoldsRotations(t *testing.T) {
	t.Parallel()
	w := newWorld(t, &crashtest.Crash{}, rotation("first"))
	parent := w.parent(t)
	parent.Status.MasterKey = &v1alpha1.MasterKeyStatus{Name: "sn-lost.ns.notes", LatestVersion: 1}
	if err := w.Status().Update(t.Context(), parent); err != nil {
		t.Fatal(err)
	}
	kr := w.pass(t, "first")
	waits := meta.FindStatusCondition(kr.Status.Conditions, v1alpha1.ConditionReconciling)
	if waits == nil || waits.Reason != v1alpha1.ReasonClusterIDChanged || !strings.Contains(waits.Message, "sn-lost.ns.notes") || w.vault.state.Latest != 1 {
		t.Errorf("%+v, version %d", waits, w.vault.state.Latest)
	}
}
