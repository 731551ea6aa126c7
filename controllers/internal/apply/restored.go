package apply

import (
	"context"
	"encoding/json"
	"errors"
	"slices"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/sets"
	"k8s.io/client-go/util/csaupgrade"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/apiutil"
)

// restored reports whether existing looks like a child that a tool such as Velero has restored:
// with the name and all labels of desired, and without an owner.
func restored(existing, desired client.Object) bool {
	if metav1.GetControllerOf(desired) == nil || len(existing.GetOwnerReferences()) > 0 || existing.GetDeletionTimestamp() != nil {
		return false
	}
	labels := existing.GetLabels()
	for key, value := range desired.GetLabels() {
		if got, ok := labels[key]; !ok || got != value {
			return false
		}
	}
	return true
}

// adopt makes the operator the manager of every field of a restored child. The apply that follows
// then removes all fields that are not part of the intent. So nothing stays that somebody added to
// the backup, or to an object that only looks restored. The results are what [Owned] returns for
// the object on the API server.
func (a *Applier) adopt(ctx context.Context, desired, existing client.Object, owned Owned) (ok bool, owner string, err error) {
	// The cache holds no managed fields, and may not hold an adoption yet.
	if err := a.live.Get(ctx, client.ObjectKeyFromObject(desired), existing); err != nil {
		return false, "", err
	}
	if ok, owner := owned(existing); ok || !restored(existing, desired) {
		return ok, owner, nil
	}
	if err := a.retrack(ctx, desired, existing); err != nil {
		return false, "", err
	}
	managers := sets.New[string]()
	fields := existing.GetManagedFields()
	for i := range fields {
		if fields[i].Subresource != "" || (fields[i].Manager == FieldManager && fields[i].Operation == metav1.ManagedFieldsOperationApply) {
			continue
		}
		fields[i].Operation = metav1.ManagedFieldsOperationUpdate
		managers.Insert(fields[i].Manager)
	}
	patch, err := csaupgrade.UpgradeManagedFieldsPatch(existing, managers, FieldManager)
	if err != nil || patch == nil {
		return err == nil, "", err
	}
	return true, "", a.client.Patch(ctx, existing, client.RawPatch(types.JSONPatchType, patch))
}

// beforeFirstApply is the manager that the API server assigns to fields without a manager when an
// object is applied for the first time (k8s.io/apimachinery, managedfields).
const beforeFirstApply = "before-first-apply"

// retrack makes the API server rewrite the managedFields, and reads the object again. The creator
// of the object may have forged them: a field that they omit would stay forever.
func (a *Applier) retrack(ctx context.Context, desired, existing client.Object) error {
	reset, err := json.Marshal([]map[string]any{
		{"op": "test", "path": "/metadata/resourceVersion", "value": existing.GetResourceVersion()},
		{"op": "add", "path": "/metadata/managedFields", "value": []any{map[string]any{}}},
	})
	if err != nil {
		return err
	}
	if err := a.client.Patch(ctx, existing, client.RawPatch(types.JSONPatchType, reset)); err != nil {
		return err
	}
	gvk, err := apiutil.GVKForObject(desired, a.client.Scheme())
	if err != nil {
		return err
	}
	nothing := &unstructured.Unstructured{}
	nothing.SetGroupVersionKind(gvk)
	nothing.SetNamespace(desired.GetNamespace())
	nothing.SetName(desired.GetName())
	if err := a.client.Apply(ctx, client.ApplyConfigurationFromUnstructured(nothing), client.FieldOwner(FieldManager), client.ForceOwnership); err != nil {
		return err
	}
	if err := a.live.Get(ctx, client.ObjectKeyFromObject(desired), existing); err != nil {
		return err
	}
	if !slices.ContainsFunc(existing.GetManagedFields(), func(f metav1.ManagedFieldsEntry) bool { return f.Manager == beforeFirstApply }) {
		return errors.New("its managedFields were changed at the same time")
	}
	return nil
}
