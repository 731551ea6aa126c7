package securenotes

import (
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/securenotes/securenotes/api/v1alpha1"
	"github.com/securenotes/securenotes/controllers/internal/operand"
)

// `kubectl wait` and Helm read a condition whose observedGeneration equals the generation of the
// new spec as an answer about that spec. So a condition takes over the new generation only after
// the children of the new spec were checked. Until then it keeps its earlier generation.

// rolledOut reports whether this pass applied the Deployment, and every pod has its template.
func (s *scope) rolledOut() bool {
	d := s.deployment
	return s.deployed && d != nil && d.Status.ObservedGeneration >= d.Generation && d.Status.UpdatedReplicas == d.Status.Replicas
}

// settled reports whether every wanted replica has the Deployment's template and is available, and
// no other replica is left.
func (s *scope) settled() bool {
	if s.deployment == nil {
		return false
	}
	want, st := operand.Replicas(s.sn), s.deployment.Status
	return st.ObservedGeneration >= s.deployment.Generation && st.UpdatedReplicas == want && st.AvailableReplicas == want && st.Replicas == want
}

// ofThisSpec holds back a finding that is True while pods of an earlier spec run.
func (s *scope) ofThisSpec(f finding) finding {
	if f.status == metav1.ConditionTrue && !s.rolledOut() {
		return finding{}
	}
	return f
}

// outdatedCondition returns the type of the first condition below Ready that still has an earlier
// generation, and whether there is one.
func outdatedCondition(sn *v1alpha1.SecureNotes, conditions []metav1.Condition) (string, bool) {
	for _, kind := range readyConditions {
		if c := meta.FindStatusCondition(conditions, kind); c != nil && c.ObservedGeneration < sn.Generation {
			return kind, true
		}
	}
	return "", false
}
