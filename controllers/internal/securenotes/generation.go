package securenotes

import (
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/securenotes/securenotes/api/v1alpha1"
	"github.com/securenotes/securenotes/controllers/internal/operand"
)

// A condition with the observedGeneration of a new spec is read as an answer about that spec:
// `kubectl wait` and Helm end on it. So a finding moves it only after the children of that spec
// were looked at. A finding that is held back leaves the condition at the generation that it has.

// rolledOut reports whether this pass applied the Deployment and every pod that counts is of its
// template.
func (s *scope) rolledOut() bool {
	d := s.deployment
	return s.deployed && d != nil && d.Status.ObservedGeneration >= d.Generation && d.Status.UpdatedReplicas == d.Status.Replicas
}

// settled reports whether every replica that is wanted is of the Deployment's template and answers,
// and no other is left.
func (s *scope) settled() bool {
	if s.deployment == nil {
		return false
	}
	want, st := operand.Replicas(s.sn), s.deployment.Status
	return st.ObservedGeneration >= s.deployment.Generation && st.UpdatedReplicas == want && st.AvailableReplicas == want && st.Replicas == want
}

// ofThisSpec holds back good news that may come from pods of an earlier spec.
func (s *scope) ofThisSpec(f finding) finding {
	if f.status == metav1.ConditionTrue && !s.rolledOut() {
		return finding{}
	}
	return f
}

// opened holds back that the database is well until pods of this spec say so. That there is one
// that is in use, and must not be lost, any pod may say.
func (s *scope) opened(f finding) finding {
	s.databaseOpened = f.status == metav1.ConditionTrue
	return s.ofThisSpec(f)
}

// notLookedAt returns the first of the conditions that Ready sums up which is still of an earlier
// generation, or an empty string.
func notLookedAt(sn *v1alpha1.SecureNotes, conditions []metav1.Condition) string {
	for _, kind := range summed {
		if c := meta.FindStatusCondition(conditions, kind); c != nil && c.ObservedGeneration < sn.Generation {
			return kind
		}
	}
	return ""
}
