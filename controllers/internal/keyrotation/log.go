package keyrotation

import (
	"context"

	"github.com/go-logr/logr"
	"sigs.k8s.io/controller-runtime/pkg/log"

	"github.com/securenotes/securenotes/api/v1alpha1"
)

// logger returns the logger of a pass with what identifies the work of a rotation. The controller
// adds the rotation's own name.
func logger(ctx context.Context, kr *v1alpha1.KeyRotation) logr.Logger {
	l := log.FromContext(ctx).WithValues("secureNotes", kr.Spec.SecureNotesRef.Name)
	if kr.Status.FromVersion != nil {
		l = l.WithValues("fromVersion", *kr.Status.FromVersion)
	}
	if kr.Status.ToVersion != nil {
		l = l.WithValues("toVersion", *kr.Status.ToVersion)
	}
	return l
}

// logStep logs a step that was taken. Nothing else logs steps.
func logStep(ctx context.Context, s step, o observed) {
	l := logger(ctx, o.rotation)
	if s.Job != nil {
		l = l.WithValues("job", s.Job(o))
	}
	l.Info("rotation step taken", "step", s.Name, "state", o.rotation.Status.State)
}
