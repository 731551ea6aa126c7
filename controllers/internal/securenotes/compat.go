package securenotes

import "time"

func (s *scope) wake(d time.Duration) { s.requeueAfter(d, "") }

func (s *scope) note(kind, reason, action, message string) { s.event(kind, reason, action, message) }

func (r *Reconciler) rightsMissing(s *scope, err error) finding { return s.rightsMissing(err) }
