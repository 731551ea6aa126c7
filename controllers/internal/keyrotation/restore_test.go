package keyrotation

import (
	"strings"
	"testing"
	"time"

	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/securenotes/securenotes/api/v1alpha1"
	"github.com/securenotes/securenotes/controllers/internal/crashtest"
	"github.com/securenotes/securenotes/controllers/internal/rotations"
)

// activeRestore is a NotesRestore that has started.
func activeRestore() *v1alpha1.NotesRestore {
	return &v1alpha1.NotesRestore{
		ObjectMeta: metav1.ObjectMeta{Name: "back", Namespace: "ns", UID: "nr"},
		Spec:       v1alpha1.NotesRestoreSpec{SecureNotesRef: v1alpha1.LocalObjectReference{Name: "notes"}},
		Status:     v1alpha1.NotesRestoreStatus{StartTime: new(metav1.NewTime(now()))},
	}
}

// TestWaitsForRestore: a rotation waits for a restore that has started, also a Compromise, and one
// that has started itself and changed nothing yet.
func TestWaitsForRestore(t *testing.T) {
	t.Parallel()
	for name, change := range map[string]func(*v1alpha1.KeyRotation){
		"queued": func(*v1alpha1.KeyRotation) {}, "a Compromise": urgent,
		"started": func(kr *v1alpha1.KeyRotation) { kr.Status.StartTime, kr.Status.Attempt = new(metav1.NewTime(now())), 1 },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, &crashtest.Crash{}, rotation("first", owned, guarded, change), activeRestore())
			w.pass(t, "first")
			kr := w.pass(t, "first")
			c := meta.FindStatusCondition(kr.Status.Conditions, v1alpha1.ConditionReconciling)
			if rotations.Started(kr) || kr.Status.State != v1alpha1.ReasonQueued || c == nil || !strings.Contains(c.Message, "waits for NotesRestore back to end") {
				t.Fatalf("the rotation is %+v", kr.Status)
			}
			if err := w.Delete(t.Context(), activeRestore()); err != nil {
				t.Fatal(err)
			}
			if kr := w.drive(t).rotation(t, "first"); !rotations.Complete(kr) {
				t.Errorf("the rotation ends with %+v", kr.Status)
			}
		})
	}
}

// TestRotationAfterARestore: its old versions are retired at once, whatever is pending.
func TestRotationAfterARestore(t *testing.T) {
	t.Parallel()
	w := newWorld(t, &crashtest.Crash{}, rotation("first", func(kr *v1alpha1.KeyRotation) { kr.Status.CreatedBy = v1alpha1.CreatedByRestore }))
	parent := w.parent(t)
	parent.Status.MasterKey = &v1alpha1.MasterKeyStatus{PendingRetirements: []v1alpha1.PendingRetirement{{ToVersion: 1, Due: metav1.NewTime(now().Add(time.Hour)), Attempt: 1}}}
	if err := w.Status().Update(t.Context(), parent); err != nil {
		t.Fatal(err)
	}
	w.drive(t)
	pending := w.parent(t).Status.MasterKey.PendingRetirements
	if len(pending) != 2 || !pending[1].Due.Time.Equal(now()) || pending[1].ToVersion != 2 {
		t.Errorf("pending: %+v", pending)
	}
}
