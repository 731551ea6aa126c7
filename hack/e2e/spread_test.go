//go:build e2e

package e2e

import (
	"context"
	"fmt"
	"strings"
	"testing"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

// TestDefaultSpread rolls out three pods five times over the three nodes, which have no zones, with
// the scheduling that the operator sets in the sample's Deployment. Each time every node must have
// one.
func TestDefaultSpread(t *testing.T) {
	t.Parallel()
	c := open(t)
	sample := &appsv1.Deployment{}
	if err := c.Get(t.Context(), client.ObjectKey{Namespace: c.namespace, Name: c.name}, sample); err != nil {
		t.Fatal(err)
	}
	// Labels and scheduling are those of the sample. The program only waits, so that a roll-out is
	// short.
	template := sample.Spec.Template
	template.Spec.Containers = []corev1.Container{{
		Name: "pause", Image: c.pauseImage(t), ImagePullPolicy: corev1.PullNever, SecurityContext: template.Spec.Containers[0].SecurityContext,
	}}
	template.Spec.InitContainers, template.Spec.Volumes, template.Spec.ServiceAccountName = nil, nil, ""
	template.Spec.DeprecatedServiceAccount = ""
	template.Spec.TerminationGracePeriodSeconds = new(int64(1))
	template.Spec.Tolerations = []corev1.Toleration{{Operator: corev1.TolerationOpExists}}
	deployment := &appsv1.Deployment{
		ObjectMeta: metav1.ObjectMeta{Namespace: c.newNamespace(t), Name: "spread"},
		Spec:       appsv1.DeploymentSpec{Replicas: new(int32(3)), Selector: sample.Spec.Selector, Strategy: sample.Spec.Strategy, Template: template},
	}
	if err := c.Create(t.Context(), deployment); err != nil {
		t.Fatal(err)
	}
	for rollout := range 6 {
		if rollout > 0 {
			before := deployment.DeepCopy()
			metav1.SetMetaDataAnnotation(&deployment.Spec.Template.ObjectMeta, "example.com/rollout", fmt.Sprint(rollout))
			if err := c.Patch(t.Context(), deployment, client.MergeFrom(before)); err != nil {
				t.Fatal(err)
			}
		}
		kubectl(t, "-n", deployment.Namespace, "rollout", "status", "deployment/spread", "--timeout=2m")
		pods := &corev1.PodList{}
		if err := c.List(context.Background(), pods, client.InNamespace(deployment.Namespace)); err != nil {
			t.Fatal(err)
		}
		nodes := map[string]int{}
		for _, pod := range pods.Items {
			if pod.DeletionTimestamp == nil && pod.Annotations["example.com/rollout"] == deployment.Spec.Template.Annotations["example.com/rollout"] {
				nodes[pod.Spec.NodeName]++
			}
		}
		if len(nodes) != 3 {
			t.Errorf("roll-out %d: pods by node %v, want one on each of three", rollout, nodes)
		}
	}
}

// pauseImage is the image of pods' sandboxes, which every node has.
func (c *cluster) pauseImage(t *testing.T) string {
	t.Helper()
	nodes := &corev1.NodeList{}
	if err := c.List(t.Context(), nodes); err != nil {
		t.Fatal(err)
	}
	for _, node := range nodes.Items {
		for _, image := range node.Status.Images {
			for _, name := range image.Names {
				if strings.Contains(name, "/pause:") {
					return name
				}
			}
		}
	}
	t.Fatal("no node has an image /pause")
	return ""
}
