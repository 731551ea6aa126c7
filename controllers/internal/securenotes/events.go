package securenotes

import corev1 "k8s.io/api/core/v1"

// note is an event that waits for the status of its pass.
type note struct{ kind, reason, action, message string }

// note keeps an event until the status that it belongs to is written: a pass whose status is not
// written is repeated, and would tell it twice.
func (s *scope) note(kind, reason, action, message string) {
	s.notes = append(s.notes, note{kind, reason, action, message})
}

func (s *scope) warn(reason, action, message string) {
	s.note(corev1.EventTypeWarning, reason, action, message)
}

// tell makes the events that were kept.
func (r *Reconciler) tell(s *scope) {
	for _, n := range s.notes {
		r.Recorder.Eventf(s.sn, nil, n.kind, n.reason, n.action, "%s", n.message)
	}
	s.notes = nil
}
