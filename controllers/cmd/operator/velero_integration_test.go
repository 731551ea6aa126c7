//go:build integration

package main

import (
	"context"
	"fmt"
	"maps"
	"strings"
	"testing"

	certmanagerv1 "github.com/cert-manager/cert-manager/pkg/apis/certmanager/v1"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/securenotes/securenotes/api/v1alpha1"
	"github.com/securenotes/securenotes/controllers/internal/operand"
)

// children are the objects of a SecureNotes in a backup, besides the SecureNotes itself.
func (c *cluster) children(t *testing.T, namespace, name string) []client.Object {
	t.Helper()
	rotation := operand.RotationServiceAccount(name)
	named := func(object client.Object, name string) client.Object {
		object.SetNamespace(namespace)
		object.SetName(name)
		if err := c.Get(t.Context(), client.ObjectKeyFromObject(object), object); err != nil {
			t.Fatal(err)
		}
		return object
	}
	return []client.Object{
		named(&corev1.ServiceAccount{}, operand.APIServiceAccount(name)), named(&corev1.ServiceAccount{}, rotation),
		named(&corev1.ConfigMap{}, operand.ProgressName(name)), named(&corev1.ConfigMap{}, operand.ConfigMapName(name)),
		named(&rbacv1.Role{}, rotation), named(&rbacv1.RoleBinding{}, rotation),
		named(&corev1.Service{}, name), named(&appsv1.Deployment{}, name), named(&certmanagerv1.Certificate{}, operand.CertificateName(name)),
	}
}

// asRestored returns an object as Velero creates it: its metadata and spec, without status, owners
// and UID.
func asRestored(object client.Object) client.Object {
	restored := object.DeepCopyObject().(client.Object)
	restored.SetUID("")
	restored.SetResourceVersion("")
	restored.SetOwnerReferences(nil)
	restored.SetFinalizers(nil)
	restored.SetManagedFields(nil)
	labels := map[string]string{"velero.io/restore-name": "monday"}
	maps.Copy(labels, object.GetLabels())
	restored.SetLabels(labels)
	switch o := restored.(type) {
	case *corev1.Service:
		o.Spec.ClusterIP, o.Spec.ClusterIPs, o.Status = "", nil, corev1.ServiceStatus{}
	case *appsv1.Deployment:
		o.Status = appsv1.DeploymentStatus{}
		// This was in the backup, and does not belong to the operator.
		o.Spec.Template.Spec.Containers = append(o.Spec.Template.Spec.Containers, corev1.Container{Name: "stranger", Image: "stranger"})
	case *v1alpha1.KeyRotation:
		o.Status = v1alpha1.KeyRotationStatus{}
	case *corev1.ConfigMap:
		if o.Data == nil {
			o.Data = map[string]string{}
		}
		o.Data["stale"] = "from the backup"
	}
	return restored
}

// TestRestoredObjects: children are restored without owners, and an ended rotation without its
// status. Nobody has to delete anything, no foreign part of the backup stays, and the key is not
// rotated again.
func TestRestoredObjects(t *testing.T) {
	t.Parallel()
	c, namespace := shared(t)
	sn := postgresNotes(namespace, "notes")
	c.ready(t, sn)
	kr := rotationOf(sn, "first")
	c.rotating(t, kr)
	c.finishJob(t, namespace, "notes-rotate-v2-1")
	c.finishJob(t, namespace, "notes-verify-v2-1")
	c.awaitState(t, kr, v1alpha1.ReasonComplete)
	c.awaitRotation(t, kr, "the record of its end", func() string {
		if kr.Annotations[v1alpha1.AnnotationEnded] != "first" || len(kr.Finalizers) > 0 {
			return fmt.Sprint(kr.Annotations, kr.Finalizers)
		}
		return ""
	})
	backup := append(c.children(t, namespace, "notes"), kr.DeepCopy())
	if err := c.Delete(t.Context(), kr); err != nil {
		t.Fatal(err)
	}
	c.deleted(t, sn)
	for _, object := range backup {
		if err := c.Create(t.Context(), asRestored(object)); err != nil {
			t.Fatal(err)
		}
	}
	again := postgresNotes(namespace, "notes")
	again.Spec.AdoptRetainedKey = new(true)
	c.ready(t, again)

	for _, child := range c.children(t, namespace, "notes") {
		if !metav1.IsControlledBy(child, again) {
			t.Errorf("%T %s has the owners %v", child, child.GetName(), child.GetOwnerReferences())
		}
	}
	if containers := c.deployment(t, namespace, "notes").Spec.Template.Spec.Containers; len(containers) != 1 {
		t.Errorf("%d containers", len(containers))
	}
	progress := &corev1.ConfigMap{}
	if err := c.Get(t.Context(), client.ObjectKey{Namespace: namespace, Name: operand.ProgressName("notes")}, progress); err != nil || progress.Data["stale"] != "" {
		t.Errorf("%v, data %v", err, progress.Data)
	}
	c.awaitState(t, kr, v1alpha1.ConditionRestored)
	if latest, _, _ := c.keyVersions(t, again); latest != "2" {
		t.Errorf("the key's latest version is %s", latest)
	}
	t.Run("conflicts", func(t *testing.T) { testConflicts(t, c, namespace) })
}

// testConflicts: objects that only look like the operator's are not changed, and one message names
// all of them.
func testConflicts(t *testing.T, c *cluster, namespace string) {
	sn := postgresNotes(namespace, "other")
	labels := operand.Labels(sn, "")
	labels[operand.LabelInstance] = "somebody"
	owner := []metav1.OwnerReference{{APIVersion: "v1", Kind: "Secret", Name: "owner", UID: "owner-uid"}}
	foreign := []client.Object{
		&corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: "other-config", Labels: labels}},
		&corev1.Service{ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: "other", Labels: operand.Labels(sn, ""), OwnerReferences: owner},
			Spec: corev1.ServiceSpec{Ports: []corev1.ServicePort{{Port: 1}}}},
	}
	for _, object := range foreign {
		if err := c.Create(t.Context(), object); err != nil {
			t.Fatal(err)
		}
	}
	if err := c.Create(t.Context(), sn); err != nil {
		t.Fatal(err)
	}
	await(t, "both conflicts in one condition", func() string {
		message := c.awaitCondition(t, namespace, "other", v1alpha1.ConditionWorkloadReady, metav1.ConditionFalse, v1alpha1.ReasonNameConflict)
		if !strings.Contains(message, "ConfigMap other-config") || !strings.Contains(message, "Service other") {
			return message
		}
		return ""
	})
	for _, object := range foreign {
		version := object.GetResourceVersion()
		if err := c.Get(context.Background(), client.ObjectKeyFromObject(object), object); err != nil || object.GetResourceVersion() != version {
			t.Errorf("%T was touched: %v", object, err)
		}
		if err := c.Delete(t.Context(), object); err != nil {
			t.Fatal(err)
		}
	}
}
