//go:build integration

package main

import (
	"context"
	"fmt"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	storagev1 "k8s.io/api/storage/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/securenotes/securenotes/api/v1alpha1"
	"github.com/securenotes/securenotes/controllers/internal/operand"
)

// TestVolumeResize: a size that the volume cannot have can be reverted, whether the storage class
// rejects expansion or the expansion fails.
func TestVolumeResize(t *testing.T) {
	t.Parallel()
	c, namespace := shared(t)
	for name, expands := range map[string]bool{"fixed": false, "growing": true} {
		class := &storagev1.StorageClass{ObjectMeta: metav1.ObjectMeta{Name: name}, Provisioner: "example.com/test", AllowVolumeExpansion: &expands}
		if err := c.Create(t.Context(), class); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = c.Delete(context.Background(), class) })
	}
	for name, tc := range map[string]struct {
		class, raised string
		// refused is true if the API server rejects the claim's new size.
		refused bool
		// request is the claim's request at the end.
		request string
	}{
		"class does not expand": {class: "fixed", raised: "4Gi", refused: true, request: "2Gi"},
		"expansion fails":       {class: "growing", raised: "4Gi", request: "4Gi"},
	} {
		t.Run(name, func(t *testing.T) {
			sn := postgresNotes(namespace, tc.class)
			sn.Spec.Database = &v1alpha1.Database{Embedded: &v1alpha1.Embedded{Storage: &v1alpha1.Storage{Size: "2Gi", StorageClassName: tc.class}}}
			c.ready(t, sn)
			claim := c.bind(t, namespace, operand.ClaimName(tc.class), "2Gi")
			c.awaitVolumeSize(t, sn, "2Gi")
			c.resize(t, sn, tc.raised)
			if tc.refused {
				message := c.awaitCondition(t, namespace, tc.class, v1alpha1.ConditionWorkloadReady, metav1.ConditionFalse, v1alpha1.ReasonApplyFailed)
				if want := "set spec.database.embedded.storage.size back to 2Gi"; !strings.Contains(message, want) {
					t.Errorf("the condition does not contain %q: %s", want, message)
				}
			} else {
				c.awaitRequest(t, claim, tc.raised)
			}
			c.resize(t, sn, "2Gi")
			await(t, "the pass after it", func() string {
				if err := c.Get(context.Background(), client.ObjectKeyFromObject(sn), sn); err != nil {
					return err.Error()
				}
				if sn.Status.ObservedGeneration != sn.Generation {
					return fmt.Sprintf("generation %d is observed", sn.Status.ObservedGeneration)
				}
				return ""
			})
			c.awaitCondition(t, namespace, tc.class, v1alpha1.ConditionReady, metav1.ConditionTrue, v1alpha1.ReasonReady)
			c.awaitRequest(t, claim, tc.request)
		})
	}
}

// bind plays the volume controller: the claim has a volume of this size.
func (c *cluster) bind(t *testing.T, namespace, name, size string) *corev1.PersistentVolumeClaim {
	t.Helper()
	claim := &corev1.PersistentVolumeClaim{ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: name}}
	if err := c.Patch(t.Context(), claim, mergePatch(t, `{spec: {volumeName: some}}`)); err != nil {
		t.Fatal(err)
	}
	if err := c.Status().Patch(t.Context(), claim, mergePatch(t, `{status: {phase: Bound, capacity: {storage: `+size+`}}}`)); err != nil {
		t.Fatal(err)
	}
	return claim
}

func (c *cluster) resize(t *testing.T, sn *v1alpha1.SecureNotes, size string) {
	t.Helper()
	if err := c.Patch(t.Context(), sn.DeepCopy(), mergePatch(t, `{spec: {database: {embedded: {storage: {size: `+size+`}}}}}`)); err != nil {
		t.Fatal(err)
	}
}

func (c *cluster) awaitVolumeSize(t *testing.T, sn *v1alpha1.SecureNotes, want string) {
	t.Helper()
	await(t, "status.volumeSize", func() string {
		if err := c.Get(context.Background(), client.ObjectKeyFromObject(sn), sn); err != nil {
			return err.Error()
		}
		if got := sn.Status.VolumeSize; got != want {
			return fmt.Sprintf("%q, want %q", got, want)
		}
		return ""
	})
}

func (c *cluster) awaitRequest(t *testing.T, claim *corev1.PersistentVolumeClaim, want string) {
	t.Helper()
	await(t, "the request of "+claim.Name, func() string {
		if err := c.Get(context.Background(), client.ObjectKeyFromObject(claim), claim); err != nil {
			return err.Error()
		}
		if got := claim.Spec.Resources.Requests[corev1.ResourceStorage]; got.Cmp(resource.MustParse(want)) != 0 {
			return fmt.Sprintf("%s, want %s", got.String(), want)
		}
		return ""
	})
}
