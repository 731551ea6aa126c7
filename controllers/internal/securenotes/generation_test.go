package securenotes

import (
	"testing"

	appsv1 "k8s.io/api/apps/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// TestGoodNewsIsOfThisSpec: pods of an earlier template say nothing good about this one.
func TestGoodNewsIsOfThisSpec(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		generation, observed int64
		replicas, updated    int32
		deployed, held       bool
	}{
		"every pod is new":                    {2, 2, 2, 2, true, false},
		"one pod is of the earlier template":  {2, 2, 3, 2, true, true},
		"the change has not been seen":        {2, 1, 2, 2, true, true},
		"the Deployment could not be applied": {2, 2, 2, 2, false, true},
	} {
		t.Run(name, func(t *testing.T) {
			s := healthy()
			s.deployed = tc.deployed
			s.deployment = &appsv1.Deployment{
				ObjectMeta: metav1.ObjectMeta{Generation: tc.generation},
				Status:     appsv1.DeploymentStatus{ObservedGeneration: tc.observed, Replicas: tc.replicas, UpdatedReplicas: tc.updated},
			}
			if got := !s.ofThisSpec(good("Ready", "fine")).known(); got != tc.held {
				t.Errorf("held back: %v, want %v", got, tc.held)
			}
			if s.opened(good("Ready", "fine")); !s.databaseOpened {
				t.Error("a pod has opened the database, and it may be lost unnoticed")
			}
			if !s.ofThisSpec(bad("Trouble", "x")).known() {
				t.Error("trouble is held back")
			}
		})
	}
}
