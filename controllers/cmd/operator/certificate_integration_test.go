//go:build integration

package main

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"

	certmanagerv1 "github.com/cert-manager/cert-manager/pkg/apis/certmanager/v1"
	appsv1 "k8s.io/api/apps/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/securenotes/securenotes/api/v1alpha1"
	"github.com/securenotes/securenotes/controllers/internal/operand"
)

// TestCertificateSecret: cert-manager overwrites the Secret that it is given, so nobody else may
// use that Secret. A Certificate of an earlier release keeps the Secret that its pods have mounted,
// until it is deleted. A new Certificate never gets that Secret.
func TestCertificateSecret(t *testing.T) {
	t.Parallel()
	c, namespace := shared(t)
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

// TestIssuedNames: a certificate has the requested names, except those of Services of other
// namespaces.
func TestIssuedNames(t *testing.T) {
	t.Parallel()
	c, namespace := shared(t)
	c.namespace(t, "victim")
	own := []string{"NAME." + namespace, "NAME." + namespace + ".svc", "NAME." + namespace + ".svc.cluster.local"}
	for name, tc := range map[string]struct {
		hostnames    []string
		serviceNames v1alpha1.ServiceNames
		commonName   v1alpha1.CommonName
		dnsNames     []string
		common       string
		// refused is part of the condition. If it is empty, the certificate is being issued.
		refused string
	}{
		"plain":    {hostnames: []string{"notes.example.com"}, dnsNames: append([]string{"notes.example.com"}, own...)},
		"outer":    {hostnames: []string{"notes.example.com"}, serviceNames: v1alpha1.ServiceNamesExclude, dnsNames: []string{"notes.example.com"}},
		"common":   {hostnames: []string{"notes.example.com"}, commonName: v1alpha1.CommonNameFirstHostname, dnsNames: append([]string{"notes.example.com"}, own...), common: "notes.example.com"},
		"apex":     {hostnames: []string{"example.com"}, dnsNames: append([]string{"example.com"}, own...)},
		"foreign":  {hostnames: []string{"other.victim", "notes.example.com"}, dnsNames: append([]string{"notes.example.com"}, own...), refused: "other.victim may be a Service in namespace victim"},
		"stealing": {hostnames: []string{"other.victim"}, serviceNames: v1alpha1.ServiceNamesExclude, commonName: v1alpha1.CommonNameFirstHostname, dnsNames: own, refused: "other.victim may be a Service in namespace victim"},
	} {
		t.Run(name, func(t *testing.T) {
			sn := postgresNotes(namespace, name)
			sn.Spec.Hostnames = tc.hostnames
			sn.Spec.TLS.CertManager.ServiceNames, sn.Spec.TLS.CertManager.CommonName = tc.serviceNames, tc.commonName
			if err := c.Create(t.Context(), sn); err != nil {
				t.Fatal(err)
			}
			var want []string
			for _, n := range tc.dnsNames {
				want = append(want, strings.ReplaceAll(n, "NAME", name))
			}
			await(t, "the Certificate", func() string {
				certificate := &certmanagerv1.Certificate{}
				if err := c.Get(context.Background(), client.ObjectKey{Namespace: namespace, Name: operand.CertificateName(name)}, certificate); err != nil {
					return err.Error()
				}
				if !slices.Equal(certificate.Spec.DNSNames, want) || certificate.Spec.CommonName != tc.common {
					return fmt.Sprintf("names %v, common name %q; want %v, %q", certificate.Spec.DNSNames, certificate.Spec.CommonName, want, tc.common)
				}
				return ""
			})
			c.issue(t, namespace, name)
			if tc.refused == "" {
				c.awaitCondition(t, namespace, name, v1alpha1.ConditionCertificateReady, metav1.ConditionTrue, v1alpha1.ReasonReady)
				return
			}
			message := c.awaitCondition(t, namespace, name, v1alpha1.ConditionCertificateReady, metav1.ConditionFalse, v1alpha1.ReasonHostnameRefused)
			if !strings.Contains(message, tc.refused) {
				t.Errorf("the condition does not contain %q: %s", tc.refused, message)
			}
		})
	}
	t.Run("kept", func(t *testing.T) { testKeptNames(t, c, namespace) })
}

// testKeptNames: a Certificate keeps its names although a new one would not get them: the bare name
// of an earlier release, and a name that a later namespace may have.
func testKeptNames(t *testing.T, c *cluster, namespace string) {
	const name = "kept"
	sn := postgresNotes(namespace, name)
	sn.Spec.Hostnames, sn.Spec.Suspend = []string{"acme.shop"}, new(true)
	if err := c.Create(t.Context(), sn); err != nil {
		t.Fatal(err)
	}
	former := operand.Certificate(sn, operand.Environment{CertificateSecret: operand.CertificateSecretName(name), CertificateNames: []string{name}})
	former.OwnerReferences = []metav1.OwnerReference{*metav1.NewControllerRef(sn, v1alpha1.GroupVersion.WithKind("SecureNotes"))}
	want := slices.Clone(former.Spec.DNSNames)
	if !slices.Contains(want, name) {
		t.Fatalf("names %v", want)
	}
	if err := c.Create(t.Context(), former); err != nil {
		t.Fatal(err)
	}
	c.issue(t, namespace, name)
	c.namespace(t, "shop")
	if err := c.Patch(t.Context(), sn, mergePatch(t, `{spec: {suspend: null}}`)); err != nil {
		t.Fatal(err)
	}
	message := c.awaitCondition(t, namespace, name, v1alpha1.ConditionCertificateReady, metav1.ConditionTrue, v1alpha1.ReasonHostnameKept)
	if !strings.Contains(message, "acme.shop may be a Service in namespace shop") {
		t.Error(message)
	}
	if err := c.Get(t.Context(), client.ObjectKeyFromObject(former), former); err != nil {
		t.Fatal(err)
	}
	if !slices.Equal(former.Spec.DNSNames, want) {
		t.Errorf("names %v, want %v", former.Spec.DNSNames, want)
	}
}
