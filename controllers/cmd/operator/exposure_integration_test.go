//go:build integration

package main

import (
	"context"
	"fmt"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/securenotes/securenotes/api/v1alpha1"
)

// testLoadBalancer: an object whose load balancer has no address is not Ready, with the next step.
// Its metrics have their own Service inside the cluster, which is deleted when it is no longer
// needed.
func testLoadBalancer(t *testing.T, c *cluster, sn *v1alpha1.SecureNotes) {
	c.change(t, sn, func() { sn.Spec.Service = &v1alpha1.Service{Type: corev1.ServiceTypeLoadBalancer} })
	message := c.awaitCondition(t, sn.Namespace, sn.Name, v1alpha1.ConditionReady, metav1.ConditionFalse, v1alpha1.ReasonLoadBalancerPending)
	if !strings.Contains(message, "Service notes of type LoadBalancer has no address yet") || !strings.Contains(message, "spec.service.type") {
		t.Error(message)
	}
	service, metrics := &corev1.Service{}, &corev1.Service{}
	if err := c.Get(t.Context(), client.ObjectKeyFromObject(sn), service); err != nil {
		t.Fatal(err)
	}
	if ports := service.Spec.Ports; len(ports) != 1 || ports[0].Name != "https" {
		t.Errorf("a Service that leaves the cluster has the ports %+v", ports)
	}
	key := client.ObjectKey{Namespace: sn.Namespace, Name: "notes-securenotes-metrics"}
	if err := c.Get(t.Context(), key, metrics); err != nil {
		t.Fatal(err)
	}
	if ports := metrics.Spec.Ports; metrics.Spec.Type != corev1.ServiceTypeClusterIP || len(ports) != 1 || ports[0].Name != "metrics" || ports[0].Port != 9090 {
		t.Errorf("the Service of the metrics: %+v", metrics.Spec)
	}
	before := service.DeepCopy()
	service.Status.LoadBalancer.Ingress = []corev1.LoadBalancerIngress{{IP: "192.0.2.1"}}
	if err := c.Status().Patch(t.Context(), service, client.MergeFrom(before)); err != nil {
		t.Fatal(err)
	}
	await(t, "Ready with the address", func() string {
		if err := c.Get(context.Background(), client.ObjectKeyFromObject(sn), sn); err != nil {
			return err.Error()
		}
		if ready := meta.FindStatusCondition(sn.Status.Conditions, v1alpha1.ConditionReady); ready.Status != metav1.ConditionTrue || ready.ObservedGeneration != sn.Generation {
			return fmt.Sprintf("%+v", ready)
		}
		return ""
	})
	c.change(t, sn, func() { sn.Spec.Service = nil })
	await(t, "the Service of the metrics is gone", func() string {
		if err := c.Get(context.Background(), key, metrics); !apierrors.IsNotFound(err) {
			return fmt.Sprint("it is there: ", err)
		}
		return ""
	})
}
