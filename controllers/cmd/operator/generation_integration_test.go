//go:build integration

package main

import (
	"context"
	"fmt"
	"strings"
	"testing"

	appsv1 "k8s.io/api/apps/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/watch"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/securenotes/securenotes/api/v1alpha1"
)

// TestNewSpec: the status of a new generation is never Ready before the children of that generation
// were checked. `kubectl wait` and Helm rely on it.
func TestNewSpec(t *testing.T) {
	t.Parallel()
	c, namespace := shared(t)
	sn := postgresNotes(namespace, "notes")
	c.ready(t, sn)
	watcher, err := client.NewWithWatch(c.rest, client.Options{Scheme: c.Scheme()})
	if err != nil {
		t.Fatal(err)
	}
	for _, tc := range []struct {
		name           string
		change         func(*v1alpha1.SecureNotesSpec)
		condition, why string
	}{
		{name: "an issuer that is missing", change: func(spec *v1alpha1.SecureNotesSpec) {
			spec.TLS.CertManager.IssuerRef.Name = "missing"
		}, condition: v1alpha1.ConditionCertificateReady, why: v1alpha1.ReasonIssuerNotFound},
		{name: "a Secret that no pod has mounted", change: func(spec *v1alpha1.SecureNotesSpec) {
			spec.TLS = v1alpha1.TLS{SecretRef: &v1alpha1.LocalObjectReference{Name: "missing"}}
		}, condition: v1alpha1.ConditionWorkloadReady, why: v1alpha1.ReasonProgressing},
		{name: "a database that no pod has opened", change: func(spec *v1alpha1.SecureNotesSpec) {
			spec.Database.Postgres.URISecretRef.Name = "missing"
		}, condition: v1alpha1.ConditionWorkloadReady, why: v1alpha1.ReasonProgressing},
	} {
		t.Run(tc.name, func(t *testing.T) {
			events, err := watcher.Watch(t.Context(), &v1alpha1.SecureNotesList{}, client.InNamespace(namespace))
			if err != nil {
				t.Fatal(err)
			}
			defer events.Stop()
			c.change(t, sn, func() { tc.change(&sn.Spec) })
			generation := sn.Generation
			ends, cancel := context.WithTimeout(t.Context(), patience)
			defer cancel()
			for {
				var event watch.Event
				select {
				case event = <-events.ResultChan():
				case <-ends.Done():
					t.Fatalf("%s never became False/%s", tc.condition, tc.why)
				}
				now, ok := event.Object.(*v1alpha1.SecureNotes)
				if !ok || now.Generation < generation {
					continue
				}
				for _, kind := range []string{v1alpha1.ConditionReady, v1alpha1.ConditionCertificateReady, v1alpha1.ConditionDatabaseReady, v1alpha1.ConditionWorkloadReady} {
					found := meta.FindStatusCondition(now.Status.Conditions, kind)
					if found.Status == metav1.ConditionTrue && found.ObservedGeneration == generation && concerns(tc.name, kind) {
						t.Errorf("%s is True for the new generation: %s", kind, found.Message)
					}
				}
				if found := meta.FindStatusCondition(now.Status.Conditions, tc.condition); found.Status == metav1.ConditionFalse && found.Reason == tc.why && found.ObservedGeneration == generation {
					return
				}
			}
		})
		if t.Failed() {
			return
		}
		c.change(t, sn, func() { sn.Spec = postgresNotes(namespace, "notes").Spec })
		await(t, "Ready again", func() string {
			c.issue(t, namespace, "notes")
			c.roll(t, namespace, "notes")
			if err := c.Get(context.Background(), client.ObjectKeyFromObject(sn), sn); err != nil {
				return err.Error()
			}
			if ready := meta.FindStatusCondition(sn.Status.Conditions, v1alpha1.ConditionReady); ready.Status != metav1.ConditionTrue || ready.ObservedGeneration < sn.Generation {
				return fmt.Sprintf("%+v", sn.Status.Conditions)
			}
			return ""
		})
	}
}

// concerns reports whether a change of the spec affects a condition.
func concerns(change, kind string) bool {
	switch kind {
	case v1alpha1.ConditionCertificateReady:
		return !strings.Contains(change, "database")
	case v1alpha1.ConditionDatabaseReady:
		return strings.Contains(change, "database")
	case v1alpha1.ConditionWorkloadReady:
		return !strings.Contains(change, "issuer")
	}
	return true
}

// TestSuspendedObject: a suspended object counts as settled, and reports the state of its
// Deployment.
func TestSuspendedObject(t *testing.T) {
	t.Parallel()
	c, namespace := shared(t)
	sn := postgresNotes(namespace, "notes")
	c.ready(t, sn)
	c.change(t, sn, func() { sn.Spec.Suspend, sn.Spec.Replicas = new(true), new(int32(3)) })
	await(t, "a status of the new generation", func() string {
		if err := c.Get(context.Background(), client.ObjectKeyFromObject(sn), sn); err != nil {
			return err.Error()
		}
		ready := meta.FindStatusCondition(sn.Status.Conditions, v1alpha1.ConditionReady)
		if sn.Status.ObservedGeneration != sn.Generation || ready.ObservedGeneration != sn.Generation || ready.Status != metav1.ConditionTrue {
			return fmt.Sprintf("generation %d, status %+v", sn.Generation, sn.Status)
		}
		return ""
	})
	deployment := c.deployment(t, namespace, "notes")
	if n := *deployment.Spec.Replicas; n != 2 {
		t.Errorf("the Deployment of a suspended object was scaled to %d", n)
	}
	if err := c.Delete(t.Context(), deployment); err != nil {
		t.Fatal(err)
	}
	message := c.awaitCondition(t, namespace, "notes", v1alpha1.ConditionReady, metav1.ConditionFalse, v1alpha1.ReasonSuspended)
	if !strings.Contains(message, "Deployment notes does not exist") || !strings.Contains(message, "set it to false") {
		t.Error(message)
	}
	c.awaitCondition(t, namespace, "notes", v1alpha1.ConditionStalled, metav1.ConditionTrue, v1alpha1.ReasonSuspended)
	if err := c.Get(t.Context(), client.ObjectKeyFromObject(deployment), &appsv1.Deployment{}); client.IgnoreNotFound(err) != nil || err == nil {
		t.Errorf("the Deployment of a suspended object was created: %v", err)
	}
	c.change(t, sn, func() { sn.Spec.Suspend = nil })
	c.awaitReady(t, namespace, "notes")
}
