package securenotes

import corev1 "k8s.io/api/core/v1"

// pendingEvent is an event that waits for the status of its pass.
type pendingEvent struct{ kind, reason, action, message string }

// event keeps an event until the status of this pass is written. A pass whose status is not written
// is repeated, and would emit the event twice.
func (s *scope) event(kind, reason, action, message string) {
	s.events = append(s.events, pendingEvent{kind, reason, action, message})
}

func (s *scope) warn(reason, action, message string) {
	s.event(corev1.EventTypeWarning, reason, action, message)
}

// emit emits the events that were kept.
func (r *Reconciler) emit(s *scope) {
	for _, e := range s.events {
		r.Recorder.Eventf(s.sn, nil, e.kind, e.reason, e.action, "%s", e.message)
	}
	s.events = nil
}
