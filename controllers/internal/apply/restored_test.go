package apply

import (
	"context"
	"errors"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/kubernetes/scheme"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/fake"
	"sigs.k8s.io/controller-runtime/pkg/client/interceptor"
)

const managedBy = "app.kubernetes.io/managed-by"

func labels(instance string) map[string]string {
	return map[string]string{instanceLabel: instance, managedBy: "operator"}
}

func owner(uid types.UID) *corev1.Secret {
	return &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: "owner", UID: uid}}
}

// child returns a ConfigMap whose owner has the UID. If the UID is empty, it has no owner.
func child(labels map[string]string, uid types.UID) *corev1.ConfigMap {
	cm := &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: "child", Labels: labels}}
	if uid != "" {
		cm.OwnerReferences = []metav1.OwnerReference{*metav1.NewControllerRef(owner(uid), corev1.SchemeGroupVersion.WithKind("Secret"))}
	}
	return cm
}

// wrongFields are managedFields without the data.
const wrongFields = `[{"manager": "somebody", "operation": "Update", "apiVersion": "v1", "time": "2026-01-01T00:00:00Z", "fieldsType": "FieldsV1",
	"fieldsV1": {"f:metadata": {"f:labels": {"f:app.kubernetes.io/instance": {}}}}}]`

// TestRestoredChildren: a restored child is adopted, and no foreign field of it stays. An object
// that only looks restored is not changed.
func TestRestoredChildren(t *testing.T) {
	t.Parallel()
	marked := labels("notes")
	marked["velero.io/restore-name"] = "monday"
	for name, tc := range map[string]struct {
		existing *corev1.ConfigMap
		adopted  bool
		// fields replaces the managedFields of the child, as its creator may do.
		fields string
	}{
		"restored":                   {existing: child(labels("notes"), ""), adopted: true},
		"restored, of no managers":   {existing: child(labels("notes"), ""), adopted: true, fields: `[{}]`},
		"restored, of wrong manager": {existing: child(labels("notes"), ""), adopted: true, fields: wrongFields},
		"with a label of a tool":     {existing: child(marked, ""), adopted: true},
		"of another instance":        {existing: child(labels("other"), "")},
		"with a label too few":       {existing: child(map[string]string{instanceLabel: "notes"}, "")},
		"with an owner":              {existing: child(labels("notes"), "other")},
		"nobody's, without label":    {existing: child(nil, "")},
	} {
		t.Run(name, func(t *testing.T) {
			tc.existing.Data = map[string]string{"planted": "x"}
			world := fake.NewClientBuilder().WithScheme(scheme.Scheme).WithReturnManagedFields().Build()
			if err := world.Create(t.Context(), tc.existing, client.FieldOwner("somebody")); err != nil {
				t.Fatal(err)
			}
			if tc.fields != "" {
				patch := `[{"op": "replace", "path": "/metadata/managedFields", "value": ` + tc.fields + `}]`
				if err := world.Patch(t.Context(), tc.existing, client.RawPatch(types.JSONPatchType, []byte(patch))); err != nil {
					t.Fatal(err)
				}
			}
			desired := child(labels("notes"), "owner-uid")
			desired.Data = map[string]string{"own": "y"}
			err := New(world, world).Apply(t.Context(), desired, &corev1.ConfigMap{}, ControlledBy(owner("owner-uid")))
			got := &corev1.ConfigMap{}
			if err := world.Get(t.Context(), client.ObjectKeyFromObject(desired), got); err != nil {
				t.Fatal(err)
			}
			if !tc.adopted {
				if conflict, ok := errors.AsType[*ConflictError](err); !ok || got.ResourceVersion != tc.existing.ResourceVersion {
					t.Errorf("got conflict %v of error %v, want one; the object is %+v, want it unchanged", conflict, err, got)
				}
				return
			}
			if err != nil || !metav1.IsControlledBy(got, owner("owner-uid")) || got.Data["own"] != "y" || got.Data["planted"] != "" {
				t.Errorf("%v; owners %v, data %v", err, got.OwnerReferences, got.Data)
			}
		})
	}
}

// TestAdoptedChildInAStaleCache: a cache that still holds the child without its owner causes no
// conflict.
func TestAdoptedChildInAStaleCache(t *testing.T) {
	t.Parallel()
	world := fake.NewClientBuilder().WithScheme(scheme.Scheme).WithReturnManagedFields().WithObjects(child(labels("notes"), "owner-uid")).Build()
	behind := interceptor.NewClient(world, interceptor.Funcs{
		Get: func(ctx context.Context, c client.WithWatch, key client.ObjectKey, object client.Object, opts ...client.GetOption) error {
			err := c.Get(ctx, key, object, opts...)
			object.SetOwnerReferences(nil)
			return err
		},
	})
	if err := New(behind, world).Apply(t.Context(), child(labels("notes"), "owner-uid"), &corev1.ConfigMap{}, ControlledBy(owner("owner-uid"))); err != nil {
		t.Error(err)
	}
}
