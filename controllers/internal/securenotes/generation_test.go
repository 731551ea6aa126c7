package securenotes

import (
	"testing"

	appsv1 "k8s.io/api/apps/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// TestTrueNeedsPodsOfThisSpec: pods of an earlier template make no condition True.
func TestTrueNeedsPodsOfThisSpec(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		generation, observed int64
		replicas, updated    int32
		deployed, held       bool
	}{
		"every pod has the template":          {generation: 2, observed: 2, replicas: 2, updated: 2, deployed: true},
		"one pod has an earlier template":     {generation: 2, observed: 2, replicas: 3, updated: 2, deployed: true, held: true},
		"an unobserved change":                {generation: 2, observed: 1, replicas: 2, updated: 2, deployed: true, held: true},
		"the Deployment could not be applied": {generation: 2, observed: 2, replicas: 2, updated: 2, held: true},
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
			s.databaseFinding, s.report = finding{}, &podReport{ready: true}
			if !s.databaseOpened() {
				t.Error("a pod has opened the database, and its loss may go unnoticed")
			}
			if !s.ofThisSpec(bad("Trouble", "x")).known() {
				t.Error("a False finding is held back")
			}
		})
	}
}
