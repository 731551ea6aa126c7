package crashtest

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/fake"

	"github.com/securenotes/securenotes/api/v1alpha1"
)

var indexes = map[string]client.IndexerFunc{
	"parent": func(o client.Object) []string { return []string{o.(*v1alpha1.KeyRotation).Spec.SecureNotesRef.Name} },
}

func rotation(name, parent string) *v1alpha1.KeyRotation {
	return &v1alpha1.KeyRotation{
		ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: name, Labels: map[string]string{"parent": parent}, Annotations: map[string]string{}},
		Spec:       v1alpha1.KeyRotationSpec{SecureNotesRef: v1alpha1.LocalObjectReference{Name: parent}},
		Status:     v1alpha1.KeyRotationStatus{State: "Queued", StartTime: &metav1.Time{Time: time.Unix(5, 7)}, Attempt: 1},
	}
}

func objects() []client.Object {
	return []client.Object{
		rotation("a", "notes"), rotation("b", "diary"), rotation("c", "notes"),
		&corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: "pod"}},
		&corev1.ServiceAccount{ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: "account"}},
	}
}

// fullFake is the client that an APIServer must behave like.
func fullFake(t *testing.T) client.Client {
	t.Helper()
	scheme, err := Scheme()
	if err != nil {
		t.Fatal(err)
	}
	return fake.NewClientBuilder().WithScheme(scheme).WithObjects(objects()...).WithStatusSubresource(&v1alpha1.KeyRotation{}).
		WithIndex(&v1alpha1.KeyRotation{}, "parent", indexes["parent"]).Build()
}

func read(t *testing.T, c client.Client, name string) *v1alpha1.KeyRotation {
	t.Helper()
	kr := &v1alpha1.KeyRotation{}
	if err := c.Get(t.Context(), client.ObjectKey{Namespace: "ns", Name: name}, kr); err != nil {
		t.Fatal(err)
	}
	return kr
}

func everything(t *testing.T, c client.Client) []any {
	t.Helper()
	rotations, pods, accounts := &v1alpha1.KeyRotationList{}, &corev1.PodList{}, &corev1.ServiceAccountList{}
	for _, list := range []client.ObjectList{rotations, pods, accounts} {
		if err := c.List(t.Context(), list); err != nil {
			t.Fatal(err)
		}
	}
	return []any{rotations.Items, pods.Items, accounts.Items}
}

// TestAPIServer compares the results of an APIServer with those of controller-runtime's fake
// client.
func TestAPIServer(t *testing.T) {
	t.Parallel()
	locked := client.MergeFromWithOptimisticLock{}
	for name, tc := range map[string]struct {
		// do returns the object that the caller has afterwards.
		do func(*testing.T, client.Client) (any, error)
		// wantErr recognizes the wanted error. If it is nil, none is wanted.
		wantErr func(error) bool
	}{
		"get": {do: func(t *testing.T, c client.Client) (any, error) { return read(t, c, "a"), nil }},
		"get what is missing": {wantErr: apierrors.IsNotFound, do: func(t *testing.T, c client.Client) (any, error) {
			kr := &v1alpha1.KeyRotation{}
			return kr, c.Get(t.Context(), client.ObjectKey{Namespace: "ns", Name: "missing"}, kr)
		}},
		"get over what the variable held": {do: func(t *testing.T, c client.Client) (any, error) {
			kr := rotation("other", "other")
			kr.Finalizers = []string{"x"}
			return kr, c.Get(t.Context(), client.ObjectKey{Namespace: "ns", Name: "a"}, kr)
		}},
		"get the metadata": {do: func(t *testing.T, c client.Client) (any, error) {
			partial := &metav1.PartialObjectMetadata{}
			partial.SetGroupVersionKind(corev1.SchemeGroupVersion.WithKind("Pod"))
			return partial, c.Get(t.Context(), client.ObjectKey{Namespace: "ns", Name: "pod"}, partial)
		}},
		"what is read is a copy": {do: func(t *testing.T, c client.Client) (any, error) {
			read(t, c, "a").Labels["parent"] = "changed"
			return read(t, c, "a"), nil
		}},
		"list by label": {do: func(t *testing.T, c client.Client) (any, error) {
			list := &v1alpha1.KeyRotationList{}
			err := c.List(t.Context(), list, client.InNamespace("ns"), client.MatchingLabels{"parent": "notes"})
			return list.Items, err
		}},
		"list by index": {do: func(t *testing.T, c client.Client) (any, error) {
			list := &v1alpha1.KeyRotationList{}
			err := c.List(t.Context(), list, client.InNamespace("ns"), client.MatchingFields{"parent": "diary"})
			return list.Items, err
		}},
		"list in another namespace": {do: func(t *testing.T, c client.Client) (any, error) {
			list := &v1alpha1.KeyRotationList{}
			err := c.List(t.Context(), list, client.InNamespace("other"))
			return len(list.Items), err
		}},
		"list by an unknown index": {wantErr: func(err error) bool { return err != nil }, do: func(t *testing.T, c client.Client) (any, error) {
			return nil, c.List(t.Context(), &v1alpha1.KeyRotationList{}, client.MatchingFields{"unknown": "x"})
		}},
		"update a status": {do: func(t *testing.T, c client.Client) (any, error) {
			kr := read(t, c, "a")
			kr.Status.State, kr.Spec.SecureNotesRef.Name, kr.Labels = "Complete", "changed", map[string]string{"x": "y"}
			kr.Status.CompletionTime = &metav1.Time{Time: time.Unix(9, 9)}
			return kr, c.Status().Update(t.Context(), kr)
		}},
		"update a status read before": {wantErr: apierrors.IsConflict, do: func(t *testing.T, c client.Client) (any, error) {
			early := read(t, c, "a")
			if err := c.Status().Update(t.Context(), read(t, c, "a")); err != nil {
				t.Fatal(err)
			}
			early.Status.State = "Complete"
			return nil, c.Status().Update(t.Context(), early)
		}},
		"update the status of what is missing": {wantErr: apierrors.IsNotFound, do: func(t *testing.T, c client.Client) (any, error) {
			return nil, c.Status().Update(t.Context(), rotation("missing", "notes"))
		}},
		"update without the status": {do: func(t *testing.T, c client.Client) (any, error) {
			kr := read(t, c, "a")
			kr.Status.State, kr.Spec.SecureNotesRef.Name = "Complete", "changed"
			return kr, c.Update(t.Context(), kr)
		}},
		"patch a status": {do: func(t *testing.T, c client.Client) (any, error) {
			kr := read(t, c, "a")
			before := kr.DeepCopy()
			kr.Status.State, kr.Status.StartTime, kr.Labels = "Complete", nil, map[string]string{"x": "y"}
			return kr, c.Status().Patch(t.Context(), kr, client.MergeFromWithOptions(before, locked))
		}},
		"patch a status read before": {wantErr: apierrors.IsConflict, do: func(t *testing.T, c client.Client) (any, error) {
			kr := read(t, c, "a")
			before := kr.DeepCopy()
			if err := c.Status().Update(t.Context(), read(t, c, "a")); err != nil {
				t.Fatal(err)
			}
			kr.Status.State = "Complete"
			return nil, c.Status().Patch(t.Context(), kr, client.MergeFromWithOptions(before, locked))
		}},
		"patch a status read before, without a lock": {do: func(t *testing.T, c client.Client) (any, error) {
			kr := read(t, c, "a")
			before := kr.DeepCopy()
			other := read(t, c, "a")
			other.Status.Attempt = 7
			if err := c.Status().Update(t.Context(), other); err != nil {
				t.Fatal(err)
			}
			kr.Status.State = "Complete"
			return kr, c.Status().Patch(t.Context(), kr, client.MergeFrom(before))
		}},
		"patch the status of what is missing": {wantErr: apierrors.IsNotFound, do: func(t *testing.T, c client.Client) (any, error) {
			kr := rotation("missing", "notes")
			return nil, c.Status().Patch(t.Context(), kr, client.MergeFrom(kr.DeepCopy()))
		}},
		"patch without the status": {do: func(t *testing.T, c client.Client) (any, error) {
			kr := read(t, c, "a")
			before := kr.DeepCopy()
			kr.Status.State, kr.Finalizers = "Complete", []string{"x"}
			return kr, c.Patch(t.Context(), kr, client.MergeFromWithOptions(before, locked))
		}},
		"patch an object without a status": {wantErr: apierrors.IsNotFound, do: func(t *testing.T, c client.Client) (any, error) {
			account := &corev1.ServiceAccount{}
			if err := c.Get(t.Context(), client.ObjectKey{Namespace: "ns", Name: "account"}, account); err != nil {
				t.Fatal(err)
			}
			return nil, c.Status().Patch(t.Context(), account, client.MergeFrom(account.DeepCopy()))
		}},
		"create": {do: func(t *testing.T, c client.Client) (any, error) {
			kr := rotation("new", "notes")
			if err := c.Create(t.Context(), kr); err != nil {
				t.Fatal(err)
			}
			return read(t, c, "new"), nil
		}},
		"delete one with a finalizer": {do: func(t *testing.T, c client.Client) (any, error) {
			kr := read(t, c, "a")
			kr.Finalizers = []string{"x"}
			if err := c.Update(t.Context(), kr); err != nil {
				t.Fatal(err)
			}
			if err := c.Delete(t.Context(), kr); err != nil {
				t.Fatal(err)
			}
			kr = read(t, c, "a")
			deleted := !kr.DeletionTimestamp.IsZero()
			kr.Finalizers = nil
			return deleted, c.Update(t.Context(), kr)
		}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			full, server := fullFake(t), NewAPIServer(t, indexes, objects()...)
			want, fullErr := tc.do(t, full)
			got, err := tc.do(t, server)
			for of, err := range map[string]error{"the fake client": fullErr, "the API server": err} {
				if (err == nil) != (tc.wantErr == nil) || err != nil && !tc.wantErr(err) {
					t.Errorf("%s answers with error %v", of, err)
				}
			}
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("in hand (-want +got): %s", diff)
			}
			if diff := cmp.Diff(everything(t, full), everything(t, server)); diff != "" {
				t.Errorf("stored (-want +got): %s", diff)
			}
		})
	}
}

// TestFork: a fork has every object, and writes to one do not change the other.
func TestFork(t *testing.T) {
	t.Parallel()
	server := NewAPIServer(t, indexes, objects()...)
	change := func(c client.Client, name, state string) {
		kr := read(t, c, name)
		kr.Status.State = state
		if err := c.Status().Update(t.Context(), kr); err != nil {
			t.Fatal(err)
		}
	}
	change(server, "a", "Reencrypting")
	fork := server.Fork(t)
	if diff := cmp.Diff(everything(t, server), everything(t, fork)); diff != "" {
		t.Fatalf("the fork differs (-want +got): %s", diff)
	}
	change(server, "a", "Verifying")
	change(fork, "b", "Complete")
	for name, tc := range map[string]struct {
		of             client.Client
		wantA, wantB   string
		wantVersionOfA string
	}{
		"server": {of: server, wantA: "Verifying", wantB: "Queued", wantVersionOfA: "1001"},
		"fork":   {of: fork, wantA: "Reencrypting", wantB: "Complete", wantVersionOfA: "1000"},
	} {
		a, b := read(t, tc.of, "a"), read(t, tc.of, "b")
		if a.Status.State != tc.wantA || b.Status.State != tc.wantB || a.ResourceVersion != tc.wantVersionOfA {
			t.Errorf("%s has a %s at %s and b %s, want %s at %s and %s", name, a.Status.State, a.ResourceVersion, b.Status.State, tc.wantA, tc.wantVersionOfA, tc.wantB)
		}
	}
}
