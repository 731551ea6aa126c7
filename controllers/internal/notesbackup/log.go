package notesbackup

import (
	"context"

	"github.com/go-logr/logr"
	"sigs.k8s.io/controller-runtime/pkg/log"

	"github.com/securenotes/securenotes/api/v1alpha1"
)

// logger returns the logger of a pass with the SecureNotes. The controller adds the backup's own
// name.
func logger(ctx context.Context, nb *v1alpha1.NotesBackup) logr.Logger {
	return log.FromContext(ctx).WithValues("secureNotes", nb.Spec.SecureNotesRef.Name)
}

// logStep logs a step that was taken. Nothing else logs steps.
func logStep(ctx context.Context, s step, o observed) {
	l := logger(ctx, o.backup)
	if s.Job != nil {
		l = l.WithValues("job", s.Job(o))
	}
	l.Info("backup step taken", "step", s.Name, "state", o.backup.Status.State)
}
