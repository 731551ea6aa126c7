//go:build integration

package main

import (
	"strings"
	"testing"

	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/securenotes/securenotes/api/v1alpha1"
	"github.com/securenotes/securenotes/controllers/internal/operand"
)

// TestQuantities: resources are written as in a Pod, whole numbers without quotes.
func TestQuantities(t *testing.T) {
	t.Parallel()
	c, namespace := shared(t)
	object := unstructuredOf(t, namespace, "SecureNotes", "whole", `{tls: {secretRef: {name: a}}, suspend: true,
		resources: {requests: {cpu: 1, memory: 67108864}, limits: {cpu: "2", memory: 1Gi}}}`)
	if err := c.Create(t.Context(), object); err != nil {
		t.Fatal(err)
	}
	sn := &v1alpha1.SecureNotes{}
	if err := c.Get(t.Context(), client.ObjectKeyFromObject(object), sn); err != nil {
		t.Fatal(err)
	}
	resources := operand.Deployment(sn, operand.Environment{}, "").Spec.Template.Spec.Containers[0].Resources
	if cpu, memory := resources.Requests.Cpu().Value(), resources.Requests.Memory().Value(); cpu != 1 || memory != 64<<20 {
		t.Errorf("requests of %d CPU and %d bytes", cpu, memory)
	}
	for _, amount := range []string{"-1", "1000000000000", "0.5", "true"} {
		err := c.Create(t.Context(), unstructuredOf(t, namespace, "SecureNotes", "odd-amount", `{tls: {secretRef: {name: a}}, suspend: true, resources: {limits: {cpu: `+amount+`}}}`))
		if err == nil || !strings.Contains(err.Error(), "spec.resources.limits") {
			t.Errorf("%s passed admission: %v", amount, err)
		}
	}
}
