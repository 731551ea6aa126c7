//go:build integration

package main

import (
	"context"
	"fmt"
	"testing"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/securenotes/securenotes/controllers/internal/operand"
	"github.com/securenotes/securenotes/hack/testenv"
)

// TestSpread: the scheduler of Kubernetes places the API's pods in five roll-outs, one pod after
// another as the Deployment does. The nodes have unequal free resources, which attracts pods to the
// same node.
func TestSpread(t *testing.T) {
	t.Parallel()
	c, namespace := shared(t)
	nodes.Lock()
	t.Cleanup(nodes.Unlock)
	testenv.StartScheduler(t, c.rest, namespace)
	tests := map[string]struct {
		// zones are those of the nodes. If it is empty, the nodes have no such label.
		zones    []string
		replicas int
		topology string
		want     int
	}{
		"nodes without zones": {[]string{"", "", ""}, 3, corev1.LabelHostname, 3},
		"zones":               {[]string{"a", "a", "a", "b"}, 2, corev1.LabelTopologyZone, 2},
		"nodes of zones":      {[]string{"a", "a", "b"}, 3, corev1.LabelHostname, 3},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			domain := map[string]string{}
			for i, zone := range tc.zones {
				node := fmt.Sprintf("spread-%d", i)
				c.node(t, node, []string{"16", "4", "2", "2"}[i], zone)
				domain[node] = node
				if tc.topology == corev1.LabelTopologyZone {
					domain[node] = zone
				}
			}
			var serving []*corev1.Pod
			for rollout := range 5 {
				var started []*corev1.Pod
				for i := range tc.replicas {
					started = append(started, c.scheduled(t, namespace, rollout, i))
					if len(serving) > 0 {
						c.deletePods(t, serving[0])
						serving = serving[1:]
					}
				}
				serving = started
				domains := map[string]bool{}
				for _, pod := range serving {
					domains[domain[pod.Spec.NodeName]] = true
				}
				if len(domains) != tc.want {
					t.Errorf("roll-out %d: the pods are in %v of %s, want %d", rollout, domains, tc.topology, tc.want)
				}
			}
			c.deletePods(t, serving...)
		})
	}
}

// scheduled returns a pod of the API as a roll-out's ReplicaSet creates it, once it has a node.
func (c *cluster) scheduled(t *testing.T, namespace string, rollout, index int) *corev1.Pod {
	t.Helper()
	sn := postgresNotes(namespace, "notes")
	sn.UID = "uid"
	template := operand.Deployment(sn, operand.Environment{Image: "image", PullPolicy: corev1.PullNever, CertificateSecret: "tls"}, "hash").Spec.Template
	pod := &corev1.Pod{ObjectMeta: template.ObjectMeta, Spec: template.Spec}
	pod.Name, pod.Namespace, pod.Spec.SchedulerName = fmt.Sprintf("notes-%d-%d", rollout, index), namespace, namespace
	pod.Labels["pod-template-hash"] = fmt.Sprint(rollout)
	pod.Spec.Containers[0].Resources.Requests = corev1.ResourceList{corev1.ResourceCPU: resource.MustParse("400m")}
	if err := c.Create(t.Context(), pod); err != nil {
		t.Fatal(err)
	}
	await(t, "a node for "+pod.Name, func() string {
		if err := c.Get(context.Background(), client.ObjectKeyFromObject(pod), pod); err != nil {
			return err.Error()
		}
		if pod.Spec.NodeName == "" {
			return fmt.Sprint(pod.Status.Conditions)
		}
		return ""
	})
	return pod
}

// deletePods deletes pods, as the kubelet does in the end.
func (c *cluster) deletePods(t *testing.T, pods ...*corev1.Pod) {
	t.Helper()
	for _, pod := range pods {
		if err := c.Delete(t.Context(), pod, client.GracePeriodSeconds(0)); err != nil {
			t.Fatal(err)
		}
	}
}
