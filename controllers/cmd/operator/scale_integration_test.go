//go:build integration

package main

import (
	"context"
	"fmt"
	"strings"
	"testing"

	appsv1 "k8s.io/api/apps/v1"
	autoscalingv1 "k8s.io/api/autoscaling/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/labels"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/securenotes/securenotes/api/v1alpha1"
)

// TestScale: an autoscaler reads and writes the scale subresource, also of an object without
// spec.replicas, and the operator follows it.
func TestScale(t *testing.T) {
	t.Parallel()
	c, namespace := shared(t)
	sn := postgresNotes(namespace, "notes")
	c.ready(t, sn)
	t.Run("is read as an autoscaler does", func(t *testing.T) {
		scale := c.awaitScale(t, sn, 2)
		await(t, "status.replicas", func() string {
			if err := c.SubResource("scale").Get(context.Background(), sn, scale); err != nil {
				return err.Error()
			}
			if scale.Status.Replicas != 2 {
				return fmt.Sprint(scale.Status.Replicas)
			}
			return ""
		})
		selector, err := labels.Parse(scale.Status.Selector)
		if err != nil {
			t.Fatal(err)
		}
		pods := &corev1.PodList{}
		if err := c.List(t.Context(), pods, client.InNamespace(namespace), client.MatchingLabelsSelector{Selector: selector}); err != nil {
			t.Fatal(err)
		}
		if len(pods.Items) == 0 {
			t.Errorf("selector %q finds no pod", scale.Status.Selector)
		}
	})
	t.Run("does not keep users from setting it", func(t *testing.T) {
		intent := &unstructured.Unstructured{Object: map[string]any{
			"apiVersion": v1alpha1.GroupVersion.String(), "kind": "SecureNotes",
			"metadata": map[string]any{"namespace": namespace, "name": "notes"},
			"spec":     map[string]any{"replicas": int64(4)},
		}}
		if err := c.Apply(t.Context(), client.ApplyConfigurationFromUnstructured(intent), client.FieldOwner("gitops")); err != nil {
			t.Errorf("a user applies replicas: %v", err)
		}
		c.awaitReplicas(t, sn, 4)
	})
	t.Run("is filled in again", func(t *testing.T) {
		if err := c.Patch(t.Context(), sn.DeepCopy(), mergePatch(t, `{spec: {replicas: null}}`)); err != nil {
			t.Fatal(err)
		}
		c.awaitScale(t, sn, 2)
		c.awaitReplicas(t, sn, 2)
	})
	t.Run("is followed", func(t *testing.T) {
		scale := c.awaitScale(t, sn, 2)
		scale.Spec.Replicas, scale.ResourceVersion = 3, "" // the operator may write its status meanwhile
		if err := c.SubResource("scale").Update(t.Context(), sn.DeepCopy(), client.WithSubResourceBody(scale)); err != nil {
			t.Fatal(err)
		}
		c.awaitReplicas(t, sn, 3)
		before := c.awaitScale(t, sn, 3)
		// Another pass keeps the number of the autoscaler.
		if err := c.Patch(t.Context(), sn.DeepCopy(), mergePatch(t, `{spec: {quotas: {notes: 7}}}`)); err != nil {
			t.Fatal(err)
		}
		await(t, "another pass", func() string {
			if err := c.Get(context.Background(), client.ObjectKeyFromObject(sn), sn); err != nil {
				return err.Error()
			}
			if sn.Status.ObservedGeneration != sn.Generation || sn.ResourceVersion == before.ResourceVersion {
				return fmt.Sprintf("generation %d is observed", sn.Status.ObservedGeneration)
			}
			return ""
		})
		c.awaitScale(t, sn, 3)
		c.awaitReplicas(t, sn, 3)
	})
	t.Run("of the embedded database", func(t *testing.T) {
		small := postgresNotes(namespace, "small")
		small.Spec.Database = nil
		if err := c.Create(t.Context(), small); err != nil {
			t.Fatal(err)
		}
		scale := c.awaitScale(t, small, 1)
		scale.Spec.Replicas, scale.ResourceVersion = 2, ""
		err := c.SubResource("scale").Update(t.Context(), small.DeepCopy(), client.WithSubResourceBody(scale))
		if err == nil || !strings.Contains(err.Error(), "replicas must be 1 with the embedded database") {
			t.Errorf("the rejection does not say why: %v", err)
		}
	})
	t.Run("of one that is suspended", func(t *testing.T) {
		suspended := postgresNotes(namespace, "suspended")
		suspended.Spec.Suspend = new(true)
		if err := c.Create(t.Context(), suspended); err != nil {
			t.Fatal(err)
		}
		c.awaitCondition(t, namespace, "suspended", v1alpha1.ConditionKeyRotationHealthy, "Unknown", v1alpha1.ReasonSuspended)
		if err := c.Get(t.Context(), client.ObjectKeyFromObject(suspended), suspended); err != nil || suspended.Spec.Replicas != nil {
			t.Errorf("replicas %v, %v: the operator changed a suspended object", suspended.Spec.Replicas, err)
		}
	})
}

// awaitScale waits until the scale subresource has that number of replicas.
func (c *cluster) awaitScale(t *testing.T, sn *v1alpha1.SecureNotes, want int32) *autoscalingv1.Scale {
	t.Helper()
	scale := &autoscalingv1.Scale{}
	await(t, "the scale of "+sn.Name, func() string {
		if err := c.SubResource("scale").Get(context.Background(), sn, scale); err != nil {
			return err.Error()
		}
		if scale.Spec.Replicas != want {
			return fmt.Sprintf("%d replicas, want %d", scale.Spec.Replicas, want)
		}
		return ""
	})
	return scale
}

func (c *cluster) awaitReplicas(t *testing.T, sn *v1alpha1.SecureNotes, want int32) {
	t.Helper()
	await(t, "the replicas of Deployment "+sn.Name, func() string {
		deployment := &appsv1.Deployment{}
		if err := c.Get(context.Background(), client.ObjectKeyFromObject(sn), deployment); err != nil {
			return err.Error()
		}
		if got := *deployment.Spec.Replicas; got != want {
			return fmt.Sprintf("%d, want %d", got, want)
		}
		return ""
	})
}
