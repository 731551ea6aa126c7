//go:build integration

package main

import (
	"context"
	"strconv"
	"strings"
	"testing"

	batchv1 "k8s.io/api/batch/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/securenotes/securenotes/api/v1alpha1"
	"github.com/securenotes/securenotes/controllers/internal/operand"
)

// TestRemovedRotation: a KeyRotation that is deleted while its Job runs is completed and then
// removed, also if the garbage collector deletes the Job first. One that is applied again under the
// same name is another rotation.
func TestRemovedRotation(t *testing.T) {
	t.Parallel()
	c, namespace := shared(t)
	sn := postgresNotes(namespace, "notes")
	sn.Spec.KeyRotation.RetainOldVersionFor = "24h"
	c.ready(t, sn)

	kr := rotationOf(sn, "first")
	c.rotating(t, kr)
	if err := c.Delete(t.Context(), kr); err != nil {
		t.Fatal(err)
	}
	c.finishJob(t, namespace, "notes-rotate-v2-1")
	c.awaitState(t, kr, v1alpha1.ReasonVerifying)
	c.finishJob(t, namespace, "notes-verify-v2-1")
	c.awaitGone(t, kr)
	c.mustBePending(t, sn, 2)

	foreground := rotationOf(sn, "second")
	c.rotating(t, foreground)
	if err := c.Delete(t.Context(), foreground, client.PropagationPolicy(metav1.DeletePropagationForeground)); err != nil {
		t.Fatal(err)
	}
	// No garbage collector runs here.
	job := c.awaitJob(t, namespace, "notes-rotate-v3-1")
	if err := c.Delete(t.Context(), job, client.PropagationPolicy(metav1.DeletePropagationBackground)); err != nil {
		t.Fatal(err)
	}
	await(t, "the recreated Job", func() string {
		again := &batchv1.Job{}
		if err := c.Get(context.Background(), client.ObjectKeyFromObject(job), again); err != nil {
			return err.Error()
		}
		if again.UID == job.UID {
			return "it is the old one"
		}
		return ""
	})
	c.finishJob(t, namespace, "notes-rotate-v3-1")
	c.finishJob(t, namespace, "notes-verify-v3-1")
	c.awaitState(t, foreground, v1alpha1.ReasonComplete)
	c.collectGarbage(t, foreground)
	c.mustBePending(t, sn, 3)

	// An object that GitOps deletes and recreates is another rotation.
	back := rotationOf(sn, "first")
	c.rotating(t, back)
	c.finishJob(t, namespace, "notes-rotate-v4-1")
	c.finishJob(t, namespace, "notes-verify-v4-1")
	c.awaitState(t, back, v1alpha1.ReasonComplete)
	if *back.Status.FromVersion != 3 || *back.Status.ToVersion != 4 {
		t.Errorf("%+v", back.Status)
	}
	c.mustBePending(t, sn, 4)
}

// rotating creates a rotation and waits until its Job is recorded.
func (c *cluster) rotating(t *testing.T, kr *v1alpha1.KeyRotation) {
	t.Helper()
	if err := c.Create(t.Context(), kr); err != nil {
		t.Fatal(err)
	}
	c.awaitState(t, kr, v1alpha1.ReasonReencrypting)
}

// collectGarbage plays the garbage collector, whose finalizer is the last one.
func (c *cluster) collectGarbage(t *testing.T, kr *v1alpha1.KeyRotation) {
	t.Helper()
	c.awaitRotation(t, kr, "the operator to let it go", func() string {
		if len(kr.Finalizers) != 1 || kr.Finalizers[0] != metav1.FinalizerDeleteDependents {
			return strings.Join(kr.Finalizers, " ")
		}
		return ""
	})
	before := kr.DeepCopy()
	kr.Finalizers = nil
	if err := c.Patch(t.Context(), kr, client.MergeFrom(before)); err != nil {
		t.Fatal(err)
	}
	c.awaitGone(t, kr)
}

// mustBePending checks that the newest pending retirement is that of a version, and that the key
// has the version.
func (c *cluster) mustBePending(t *testing.T, sn *v1alpha1.SecureNotes, to int64) {
	t.Helper()
	if err := c.Get(t.Context(), client.ObjectKeyFromObject(sn), sn); err != nil {
		t.Fatal(err)
	}
	list := sn.Status.MasterKey.PendingRetirements
	if len(list) == 0 || list[len(list)-1].ToVersion != to {
		t.Errorf("retirements %+v, want one to version %d", list, to)
	}
	if latest, _, _ := c.keyVersions(t, sn); latest != strconv.FormatInt(to, 10) {
		t.Errorf("the key's latest version is %s, want %d", latest, to)
	}
}

// TestRequestInManifest: a SecureNotes that is created or recreated with the annotation is not
// rotated until the value changes.
func TestRequestInManifest(t *testing.T) {
	t.Parallel()
	c, namespace := shared(t)
	requested := func() *v1alpha1.SecureNotes {
		sn := postgresNotes(namespace, "notes")
		sn.Annotations = map[string]string{v1alpha1.AnnotationRotateRequestedAt: "2026-01-01"}
		sn.Spec.AdoptRetainedKey = new(true)
		return sn
	}
	for range 2 {
		sn := requested()
		c.ready(t, sn)
		if sn.Status.LastHandledRotateRequest != "2026-01-01" {
			t.Errorf("%+v", sn.Status)
		}
		list := &v1alpha1.KeyRotationList{}
		if err := c.List(t.Context(), list, client.InNamespace(namespace)); err != nil || len(list.Items) != 0 {
			t.Errorf("%v, %d rotations", err, len(list.Items))
		}
		c.deleted(t, sn)
	}
	sn := requested()
	c.ready(t, sn)
	before := sn.DeepCopy()
	sn.Annotations[v1alpha1.AnnotationRotateRequestedAt] = "2026-02-02"
	if err := c.Patch(t.Context(), sn, client.MergeFrom(before)); err != nil {
		t.Fatal(err)
	}
	c.awaitJob(t, namespace, operand.ReencryptJobName("notes", 2, 1))
}
