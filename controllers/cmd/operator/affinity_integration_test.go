//go:build integration

package main

import (
	"context"
	"fmt"
	"sync"
	"testing"

	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/securenotes/securenotes/api/v1alpha1"
	"github.com/securenotes/securenotes/controllers/internal/operand"
	"github.com/securenotes/securenotes/hack/testenv"
)

// TestJobsBesideVolume: the scheduler of Kubernetes places the Jobs of an embedded database on the
// node of the API's pod, even if it is full, and on any node while the API does not run.
func TestJobsBesideVolume(t *testing.T) {
	t.Parallel()
	c, namespace := shared(t)
	nodes.Lock()
	t.Cleanup(nodes.Unlock)
	c.node(t, "roomy", "4", "")
	c.node(t, "full", "200m", "")
	c.boundClaim(t, namespace, operand.ClaimName("notes"))
	testenv.StartScheduler(t, c.rest, namespace)

	sn := postgresNotes(namespace, "notes")
	sn.UID, sn.Spec.Database = "uid", nil
	env := operand.Environment{Image: "image", PullPolicy: corev1.PullNever, CertificateSecret: "tls"}
	work := operand.Work{Owner: metav1.NewControllerRef(sn, v1alpha1.GroupVersion.WithKind("KeyRotation")), Name: "job", ToVersion: 2, Strategy: v1alpha1.StrategyReencrypt, Shards: 1}
	podOf := func(t *testing.T, name string, template corev1.PodTemplateSpec, node, cpu string) *corev1.Pod {
		t.Helper()
		pod := &corev1.Pod{ObjectMeta: template.ObjectMeta, Spec: template.Spec}
		pod.Name, pod.Namespace = name, namespace
		pod.Spec.NodeName, pod.Spec.SchedulerName = node, namespace
		pod.Spec.Containers[0].Resources = corev1.ResourceRequirements{Requests: corev1.ResourceList{corev1.ResourceCPU: resource.MustParse(cpu)}}
		if err := c.Create(t.Context(), pod); err != nil {
			t.Fatal(err)
		}
		return pod
	}
	awaitNode := func(t *testing.T, pod *corev1.Pod, want string) {
		t.Helper()
		await(t, "the node of "+pod.Name, func() string {
			if err := c.Get(context.Background(), client.ObjectKeyFromObject(pod), pod); err != nil {
				return err.Error()
			}
			unschedulable := len(pod.Status.Conditions) > 0 && pod.Status.Conditions[0].Reason == corev1.PodReasonUnschedulable
			if want == "" && unschedulable && pod.Spec.NodeName == "" || want != "" && pod.Spec.NodeName == want {
				return ""
			}
			return fmt.Sprintf("%q, want %q: %+v", pod.Spec.NodeName, want, pod.Status.Conditions)
		})
	}
	api := operand.Deployment(sn, env, "hash").Spec.Template
	for kind, job := range map[string]*batchv1.Job{"reencrypt": operand.ReencryptJob(sn, env, work), "verify": operand.VerifyJob(sn, env, work)} {
		t.Run(kind, func(t *testing.T) {
			serving := podOf(t, kind+"-api", api, "full", "100m")
			fits := podOf(t, kind+"-fits", job.Spec.Template, "", "50m")
			awaitNode(t, fits, "full")
			c.deletePods(t, serving)
			// The reverse: the API starts on the node where a Job uses the volume, if it can.
			returns := podOf(t, kind+"-returns", api, "", "100m")
			awaitNode(t, returns, "full")
			c.deletePods(t, fits)
			waits := podOf(t, kind+"-waits", job.Spec.Template, "", "150m")
			awaitNode(t, waits, "")
			c.deletePods(t, returns)
			awaitNode(t, waits, "roomy")
			c.deletePods(t, waits)
		})
	}
}

// nodes is held by the one test whose scheduler uses the nodes of the cluster.
var nodes sync.Mutex

// node creates a node that is ready until the test ends, in a zone unless zone is empty.
func (c *cluster) node(t *testing.T, name, cpu, zone string) {
	t.Helper()
	node := &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: name, Labels: map[string]string{corev1.LabelHostname: name}}}
	if zone != "" {
		node.Labels[corev1.LabelTopologyZone] = zone
	}
	t.Cleanup(func() {
		if err := c.Delete(context.Background(), node); err != nil {
			t.Error(err)
		}
	})
	if err := c.Create(t.Context(), node); err != nil {
		t.Fatal(err)
	}
	node.Spec.Taints = nil // admission gives it one until it is ready
	if err := c.Update(t.Context(), node); err != nil {
		t.Fatal(err)
	}
	room := corev1.ResourceList{
		corev1.ResourceCPU: resource.MustParse(cpu), corev1.ResourceMemory: resource.MustParse("1Gi"), corev1.ResourcePods: resource.MustParse("10"),
	}
	node.Status = corev1.NodeStatus{
		Capacity: room, Allocatable: room,
		Conditions: []corev1.NodeCondition{{Type: corev1.NodeReady, Status: corev1.ConditionTrue, Reason: "Test"}},
	}
	if err := c.Status().Update(t.Context(), node); err != nil {
		t.Fatal(err)
	}
}

// boundClaim plays the volume controller: it binds the claim to a volume that any node can mount.
func (c *cluster) boundClaim(t *testing.T, namespace, name string) {
	t.Helper()
	size := corev1.ResourceList{corev1.ResourceStorage: resource.MustParse("1Gi")}
	modes := []corev1.PersistentVolumeAccessMode{corev1.ReadWriteOnce}
	claim := &corev1.PersistentVolumeClaim{
		ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: name, Annotations: map[string]string{"pv.kubernetes.io/bind-completed": "yes"}},
		Spec:       corev1.PersistentVolumeClaimSpec{AccessModes: modes, VolumeName: namespace, Resources: corev1.VolumeResourceRequirements{Requests: size}},
	}
	if err := c.Create(t.Context(), claim); err != nil {
		t.Fatal(err)
	}
	volume := &corev1.PersistentVolume{
		ObjectMeta: metav1.ObjectMeta{Name: namespace},
		Spec: corev1.PersistentVolumeSpec{
			Capacity: size, AccessModes: modes,
			PersistentVolumeSource: corev1.PersistentVolumeSource{HostPath: &corev1.HostPathVolumeSource{Path: "/nowhere"}},
			ClaimRef:               &corev1.ObjectReference{Namespace: namespace, Name: name, UID: claim.UID},
		},
	}
	if err := c.Create(t.Context(), volume); err != nil {
		t.Fatal(err)
	}
	volume.Status.Phase, claim.Status.Phase = corev1.VolumeBound, corev1.ClaimBound
	for _, bound := range []client.Object{volume, claim} {
		if err := c.Status().Update(t.Context(), bound); err != nil {
			t.Fatal(err)
		}
	}
}
