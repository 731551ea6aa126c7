package rotations

import (
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/securenotes/securenotes/api/v1alpha1"
	"github.com/securenotes/securenotes/controllers/internal/crashtest"
)

// rotation returns a KeyRotation of the SecureNotes notes, with the changes in order.
func rotation(name string, changes ...func(*v1alpha1.KeyRotation)) *v1alpha1.KeyRotation {
	kr := &v1alpha1.KeyRotation{
		ObjectMeta: metav1.ObjectMeta{Name: name, Namespace: "ns", UID: types.UID(name + "-uid")},
		Spec:       v1alpha1.KeyRotationSpec{SecureNotesRef: v1alpha1.LocalObjectReference{Name: "notes"}},
	}
	for _, change := range changes {
		change(kr)
	}
	return kr
}

func with(condition string) func(*v1alpha1.KeyRotation) {
	return func(kr *v1alpha1.KeyRotation) {
		meta.SetStatusCondition(&kr.Status.Conditions, metav1.Condition{Type: condition, Status: metav1.ConditionTrue, Reason: "Test"})
	}
}

func guarded(kr *v1alpha1.KeyRotation) { kr.Finalizers = []string{v1alpha1.Finalizer} }

func urgent(kr *v1alpha1.KeyRotation) { kr.Spec.Reason = v1alpha1.RotationCompromise }

// TestOpenIndex: a reconciler reads only the rotations of one SecureNotes that it has something to
// do for.
func TestOpenIndex(t *testing.T) {
	t.Parallel()
	w := crashtest.NewAPIServer(t, Indexes,
		rotation("queued"), rotation("running", func(kr *v1alpha1.KeyRotation) { kr.Status.StartTime = new(metav1.Unix(1000, 0)) }), rotation("complete", with(v1alpha1.ConditionComplete)),
		rotation("failed", with(v1alpha1.ConditionFailed)), rotation("guarded", guarded, with(v1alpha1.ConditionComplete)),
		rotation("unretired", urgent, with(v1alpha1.ConditionComplete)),
		rotation("retired", urgent, with(v1alpha1.ConditionComplete), with(v1alpha1.ConditionOldVersionRetired)),
		rotation("diary", func(kr *v1alpha1.KeyRotation) { kr.Spec.SecureNotesRef.Name = "diary" }),
		rotation("elsewhere", func(kr *v1alpha1.KeyRotation) { kr.Namespace = "elsewhere" }))
	open, err := ListOpen(t.Context(), w, "ns", "notes")
	if err != nil {
		t.Fatal(err)
	}
	all, err := List(t.Context(), w, "ns", "notes")
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]string{"guarded", "queued", "running", "unretired"}, names(open)); diff != "" {
		t.Error(diff)
	}
	if diff := cmp.Diff([]string{"complete", "failed", "guarded", "queued", "retired", "running", "unretired"}, names(all)); diff != "" {
		t.Error(diff)
	}
}

func names(list []v1alpha1.KeyRotation) []string {
	var names []string
	for _, kr := range list {
		names = append(names, kr.Name)
	}
	slices.Sort(names)
	return names
}

// TestPrunable: only rotations that the operator created are counted and deleted. Others can write
// the same label or name.
func TestPrunable(t *testing.T) {
	t.Parallel()
	by := func(creator v1alpha1.RotationCreator) func(*v1alpha1.KeyRotation) {
		return func(kr *v1alpha1.KeyRotation) { kr.Status.CreatedBy = creator }
	}
	scheduled, requested := by(v1alpha1.CreatedBySchedule), by(v1alpha1.CreatedByAnnotation)
	labelled := func(kr *v1alpha1.KeyRotation) { kr.Labels = map[string]string{v1alpha1.LabelScheduled: "true"} }
	done := with(v1alpha1.ConditionComplete)
	retried := func(kr *v1alpha1.KeyRotation) {
		kr.Annotations = map[string]string{v1alpha1.AnnotationRetryRequestedAt: "now"}
	}
	list := []v1alpha1.KeyRotation{
		*rotation("a", scheduled, done), *rotation("b", requested, done), *rotation("c", scheduled, with(v1alpha1.ConditionFailed)),
		*rotation("by-hand", done), *rotation("notes-29000000", done, labelled), *rotation("notes-req-0123456789", done, labelled),
		*rotation("unended", scheduled), *rotation("unended-too", requested), *rotation("a-retry", scheduled, with(v1alpha1.ConditionFailed), retried),
	}
	got := Prunable(list, 1)
	if len(got) != 2 || got[0].Name != "b" || got[1].Name != "a" {
		t.Errorf("prunable: %v", got)
	}
	if got := Prunable(list, 3); got != nil {
		t.Errorf("within the limit, and yet: %v", got)
	}
	if got := Prunable(list, 0); len(got) != 2 {
		t.Errorf("the newest has failed, and is not to be seen any more: %v", got)
	}
}
