//go:build integration

package main

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"

	certmanagerv1 "github.com/cert-manager/cert-manager/pkg/apis/certmanager/v1"
	cmmeta "github.com/cert-manager/cert-manager/pkg/apis/meta/v1"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	policyv1 "k8s.io/api/policy/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/securenotes/securenotes/controllers/internal/operand"
)

// othersWrites is how often something else writes its own part of each child.
const othersWrites = 30

// testOthersWrites: what others write into a child, such as its status or their annotations, makes
// the operator apply nothing. It corrects drift with one write.
func testOthersWrites(t *testing.T, c *cluster, namespace string) {
	in := func(name string) metav1.ObjectMeta { return metav1.ObjectMeta{Namespace: namespace, Name: name} }
	annotate := func(object client.Object, i int) error {
		before := object.DeepCopyObject().(client.Object)
		metav1.SetMetaDataAnnotation(metaOf(object), "example.com/theirs", fmt.Sprint(i))
		return c.Patch(t.Context(), object, client.MergeFrom(before))
	}
	for path, tc := range map[string]struct {
		child  client.Object
		theirs func(object client.Object, i int) error
	}{
		"certificates/notes-tls": {&certmanagerv1.Certificate{ObjectMeta: in("notes-tls")}, func(object client.Object, i int) error {
			certificate := object.(*certmanagerv1.Certificate)
			before := certificate.DeepCopy()
			certificate.Status.Conditions = append(slices.DeleteFunc(certificate.Status.Conditions, func(c certmanagerv1.CertificateCondition) bool {
				return c.Type == certmanagerv1.CertificateConditionIssuing
			}), certmanagerv1.CertificateCondition{Type: certmanagerv1.CertificateConditionIssuing, Status: cmmeta.ConditionFalse, Message: fmt.Sprint(i)})
			return c.Status().Patch(t.Context(), certificate, client.MergeFrom(before))
		}},
		"deployments/notes": {&appsv1.Deployment{ObjectMeta: in("notes")}, func(object client.Object, i int) error {
			deployment := object.(*appsv1.Deployment)
			before := deployment.DeepCopy()
			deployment.Status.CollisionCount = new(int32(i))
			return c.Status().Patch(t.Context(), deployment, client.MergeFrom(before))
		}},
		"services/notes":                          {&corev1.Service{ObjectMeta: in("notes")}, annotate},
		"configmaps/notes-config":                 {&corev1.ConfigMap{ObjectMeta: in("notes-config")}, annotate},
		"serviceaccounts/notes-securenotes-api":   {&corev1.ServiceAccount{ObjectMeta: in("notes-securenotes-api")}, annotate},
		"roles/notes-securenotes-rotation":        {&rbacv1.Role{ObjectMeta: in("notes-securenotes-rotation")}, annotate},
		"rolebindings/notes-securenotes-rotation": {&rbacv1.RoleBinding{ObjectMeta: in("notes-securenotes-rotation")}, annotate},
		"poddisruptionbudgets/notes":              {&policyv1.PodDisruptionBudget{ObjectMeta: in("notes")}, annotate},
	} {
		key := client.ObjectKeyFromObject(tc.child)
		if err := c.Get(t.Context(), key, tc.child); err != nil {
			t.Fatal(err)
		}
		c.writes.take(namespace)
		for i := range othersWrites {
			if err := tc.theirs(tc.child, i+1); err != nil {
				t.Fatal(err)
			}
		}
		// The operator has processed all of it once it has processed the last write.
		const label = "app.kubernetes.io/part-of"
		before := tc.child.DeepCopyObject().(client.Object)
		labels := tc.child.GetLabels()
		delete(labels, label)
		tc.child.SetLabels(labels)
		if err := c.Patch(t.Context(), tc.child, client.MergeFrom(before)); err != nil {
			t.Fatal(err)
		}
		await(t, "the label of "+path, func() string {
			if err := c.Get(context.Background(), key, tc.child); err != nil {
				return err.Error()
			}
			if tc.child.GetLabels()[label] == "" {
				return fmt.Sprint(tc.child.GetLabels())
			}
			return ""
		})
		writes := slices.DeleteFunc(c.writes.take(namespace), func(w string) bool { return !strings.HasSuffix(w, "/"+namespace+"/"+path) })
		if len(writes) != 1 {
			t.Errorf("%d writes of others and one drift of %s caused %d writes, want 1", othersWrites, path, len(writes))
		}
		if tc.child.GetLabels()[operand.LabelManagedBy] != operand.ManagedBy {
			t.Errorf("%s: %v", path, tc.child.GetLabels())
		}
	}
}

func metaOf(object client.Object) *metav1.ObjectMeta {
	return object.(metav1.ObjectMetaAccessor).GetObjectMeta().(*metav1.ObjectMeta)
}
