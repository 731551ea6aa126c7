//go:build integration

package main

import (
	"context"
	"slices"
	"testing"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/securenotes/securenotes/api/v1alpha1"
)

// TestHostnamesOfTwoManagers: the first hostname is the public name, so the list belongs to one
// field manager. The hostnames of another manager must not be merged into it.
func TestHostnamesOfTwoManagers(t *testing.T) {
	t.Parallel()
	c, namespace := shared(t)
	c.namespace(t, namespace)
	apply := func(manager string, hostnames ...any) error {
		intent := &unstructured.Unstructured{Object: map[string]any{
			"apiVersion": v1alpha1.GroupVersion.String(), "kind": "SecureNotes",
			"metadata": map[string]any{"namespace": namespace, "name": "managed"},
			"spec": map[string]any{
				"hostnames": hostnames, "suspend": true, "tls": map[string]any{"secretRef": map[string]any{"name": "a"}},
			},
		}}
		return c.Apply(t.Context(), client.ApplyConfigurationFromUnstructured(intent), client.FieldOwner(manager))
	}
	if err := apply("one", "z.example.com", "a.example.com"); err != nil {
		t.Fatal(err)
	}
	sn := &v1alpha1.SecureNotes{}
	sn.Namespace, sn.Name = namespace, "managed"
	t.Cleanup(func() { _ = c.Delete(context.Background(), sn) })
	if err := apply("two", "m.example.com"); !apierrors.IsConflict(err) {
		t.Errorf("the second manager: %v, want a conflict", err)
	}
	if err := apply("one", "a.example.com", "z.example.com"); err != nil {
		t.Errorf("the first manager changes the order: %v", err)
	}
	if err := c.Get(t.Context(), client.ObjectKeyFromObject(sn), sn); err != nil {
		t.Fatal(err)
	}
	if want := []string{"a.example.com", "z.example.com"}; !slices.Equal(sn.Spec.Hostnames, want) {
		t.Errorf("hostnames %v, want %v", sn.Spec.Hostnames, want)
	}
}
