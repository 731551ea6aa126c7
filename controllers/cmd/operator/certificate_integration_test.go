//go:build integration

package main

import (
	"context"
	"fmt"
	"testing"

	certmanagerv1 "github.com/cert-manager/cert-manager/pkg/apis/certmanager/v1"
	appsv1 "k8s.io/api/apps/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/securenotes/securenotes/api/v1alpha1"
	"github.com/securenotes/securenotes/controllers/internal/operand"
)

// testCertificateSecret: cert-manager overwrites the Secret that it is told, so it must be one that
// nobody else has. What an earlier release created keeps the Secret that its pods have mounted,
// until cert-manager's object is deleted: no new one is written to that Secret.
func testCertificateSecret(t *testing.T, c *cluster) {
	const namespace = "certificates"
	c.namespace(t, namespace)
	awaitSecret := func(t *testing.T, name, want string) {
		t.Helper()
		key := client.ObjectKey{Namespace: namespace, Name: name}
		await(t, "the Secret of "+name, func() string {
			certificate, deployment, sn := &certmanagerv1.Certificate{}, &appsv1.Deployment{}, &v1alpha1.SecureNotes{}
			for object, key := range map[client.Object]client.ObjectKey{
				certificate: {Namespace: namespace, Name: operand.CertificateName(name)}, deployment: key, sn: key,
			} {
				if err := c.Get(context.Background(), key, object); err != nil {
					return err.Error()
				}
			}
			mounted := ""
			for _, volume := range deployment.Spec.Template.Spec.Volumes {
				if volume.Name == "tls" {
					mounted = volume.Secret.SecretName
				}
			}
			status := sn.Status.Certificate
			if certificate.Spec.SecretName != want || mounted != want || status == nil || status.SecretName != want {
				return fmt.Sprintf("cert-manager writes %s, the pods mount %s, the status says %+v; want %s", certificate.Spec.SecretName, mounted, status, want)
			}
			return ""
		})
	}
	t.Run("new", func(t *testing.T) {
		if err := c.Create(t.Context(), postgresNotes(namespace, "shop")); err != nil {
			t.Fatal(err)
		}
		awaitSecret(t, "shop", "shop-securenotes-certificate")
	})
	t.Run("of an earlier release", func(t *testing.T) {
		sn := postgresNotes(namespace, "old")
		sn.Spec.Suspend = new(true) // until there is what an earlier release has left
		if err := c.Create(t.Context(), sn); err != nil {
			t.Fatal(err)
		}
		former := operand.Certificate(sn, operand.Environment{CertificateSecret: "old-tls"})
		former.OwnerReferences = []metav1.OwnerReference{*metav1.NewControllerRef(sn, v1alpha1.GroupVersion.WithKind("SecureNotes"))}
		if err := c.Create(t.Context(), former); err != nil {
			t.Fatal(err)
		}
		before := sn.DeepCopy()
		sn.Spec.Suspend = nil
		if err := c.Patch(t.Context(), sn, client.MergeFrom(before)); err != nil {
			t.Fatal(err)
		}
		awaitSecret(t, "old", "old-tls")
		generation := c.deployment(t, namespace, "old").Generation
		if err := c.Delete(t.Context(), former); err != nil {
			t.Fatal(err)
		}
		await(t, "the new Certificate", func() string {
			again := &certmanagerv1.Certificate{}
			if err := c.Get(context.Background(), client.ObjectKeyFromObject(former), again); err != nil {
				return err.Error()
			}
			if want := operand.CertificateSecretName("old"); again.Spec.SecretName != want {
				return fmt.Sprintf("it is in Secret %s, want %s", again.Spec.SecretName, want)
			}
			return ""
		})
		if err := c.Get(t.Context(), client.ObjectKeyFromObject(sn), sn); err != nil {
			t.Fatal(err)
		}
		before = sn.DeepCopy()
		sn.Spec.Service = &v1alpha1.Service{Annotations: map[string]string{"a": "b"}}
		if err := c.Patch(t.Context(), sn, client.MergeFrom(before)); err != nil {
			t.Fatal(err)
		}
		changed := sn.Generation
		await(t, "a whole pass", func() string {
			if err := c.Get(context.Background(), client.ObjectKeyFromObject(sn), sn); err != nil {
				return err.Error()
			}
			if sn.Status.ObservedGeneration < changed {
				return fmt.Sprintf("generation %d is observed", sn.Status.ObservedGeneration)
			}
			return ""
		})
		if now := c.deployment(t, namespace, "old").Generation; now != generation {
			t.Errorf("the Deployment went from generation %d to %d before the certificate was issued", generation, now)
		}
		c.issue(t, namespace, "old")
		awaitSecret(t, "old", operand.CertificateSecretName("old"))
	})
	t.Run("that was somebody's own", func(t *testing.T) {
		sn := postgresNotes(namespace, "own")
		sn.Spec.TLS = v1alpha1.TLS{SecretRef: &v1alpha1.LocalObjectReference{Name: "own-tls"}}
		if err := c.Create(t.Context(), sn); err != nil {
			t.Fatal(err)
		}
		await(t, "the Deployment", func() string {
			return text(c.Get(context.Background(), client.ObjectKeyFromObject(sn), &appsv1.Deployment{}))
		})
		if err := c.Get(t.Context(), client.ObjectKeyFromObject(sn), sn); err != nil {
			t.Fatal(err)
		}
		before := sn.DeepCopy()
		sn.Spec.TLS = postgresNotes(namespace, "own").Spec.TLS
		if err := c.Patch(t.Context(), sn, client.MergeFrom(before)); err != nil {
			t.Fatal(err)
		}
		awaitSecret(t, "own", "own-securenotes-certificate")
	})
}
