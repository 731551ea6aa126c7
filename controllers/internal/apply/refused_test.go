package apply

import (
	"context"
	"errors"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/kubernetes/scheme"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/fake"
	"sigs.k8s.io/controller-runtime/pkg/client/interceptor"
)

// TestRefusedWrite: an error names the object that could not be created or changed, because it
// becomes a condition.
func TestRefusedWrite(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		existing []client.Object
		want     string
	}{
		"a new one": {want: "ConfigMap child cannot be created: "},
		"its own":   {existing: []client.Object{child(labels("notes"), "uid")}, want: "ConfigMap child cannot be changed: "},
	} {
		t.Run(name, func(t *testing.T) {
			world := interceptor.NewClient(fake.NewClientBuilder().WithScheme(scheme.Scheme).WithObjects(tc.existing...).Build(), interceptor.Funcs{
				Apply: func(context.Context, client.WithWatch, runtime.ApplyConfiguration, ...client.ApplyOption) error {
					return apierrors.NewForbidden(corev1.Resource("configmaps"), "child", errors.New("exceeded quota: small"))
				},
			})
			desired := child(labels("notes"), "uid")
			desired.Data = map[string]string{"a": "b"}
			err := New(world, world).Apply(t.Context(), desired, nil, ControlledBy(owner("uid")))
			if !apierrors.IsForbidden(err) || !strings.HasPrefix(err.Error(), tc.want) {
				t.Errorf("error %v, want %q", err, tc.want)
			}
		})
	}
}
