package keyrotation

import (
	"context"
	"fmt"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/securenotes/securenotes/api/v1alpha1"
	"github.com/securenotes/securenotes/controllers/internal/operand"
	"github.com/securenotes/securenotes/controllers/internal/rotations"
	"github.com/securenotes/securenotes/controllers/internal/trustedjob"
)

// reencryption is the Job that moves everything to the new version. In a Compromise it first ends
// every older session.
var reencryption = job{
	name: "Reencrypt", noun: "re-encryption",
	running: v1alpha1.ReasonReencrypting, doneStep: "RecordReencrypted", doneCondition: v1alpha1.ConditionReencrypted,
	record:  recordReencrypted,
	outcome: func(o *observed) *trustedjob.Outcome { return &o.reencrypt },
	identity: func(s *v1alpha1.KeyRotationStatus) (uid, digest *string) {
		return &s.ReencryptJobUID, &s.ReencryptJobDigest
	},
	jobName: operand.ReencryptJobName,
	pods:    func(s *v1alpha1.KeyRotationStatus) int32 { return s.Shards },
	build:   operand.ReencryptJob,
}

func recordReencrypted(ctx context.Context, r *Reconciler, o observed) error {
	kr := o.rotation
	err := r.patchStatus(ctx, kr, func(s *v1alpha1.KeyRotationStatus) {
		r.setProgress(ctx, kr, s)
		setReencrypted(kr, s)
	})
	if err != nil {
		return err
	}
	if rotations.Compromise(kr) {
		r.announce(kr, o.parent, v1alpha1.ConditionSessionsEnded, sessionsEnded(kr))
	}
	return nil
}

func setReencrypted(kr *v1alpha1.KeyRotation, s *v1alpha1.KeyRotationStatus) {
	if s.Progress == nil {
		s.Progress = &v1alpha1.RotationProgress{}
	}
	// The Job has completed; its last report may be a second older.
	s.Progress.NotesDone, s.Progress.Percent = s.Progress.NotesTotal, 100
	s.Progress.NotesPerSecond, s.Progress.SecondsLeft = 0, new(int64(0))
	setCondition(kr, s, v1alpha1.ConditionReencrypted, metav1.ConditionTrue, v1alpha1.ReasonComplete,
		fmt.Sprintf("everything is encrypted under version %d or later", *s.ToVersion))
	if rotations.Compromise(kr) {
		setCondition(kr, s, v1alpha1.ConditionSessionsEnded, metav1.ConditionTrue, v1alpha1.ReasonComplete, sessionsEnded(kr))
	}
	setWaiting(kr, s, v1alpha1.ReasonVerifying, "starts the verification Job")
}

func sessionsEnded(kr *v1alpha1.KeyRotation) string {
	return "every session that began at " + kr.Status.StartTime.UTC().Format(time.RFC3339) + " or before has ended"
}

// setProgress adds up what the Job's pods reported. A report that cannot be read is no progress and
// never stops a rotation. It is read past the cache, which holds no data of ConfigMaps; the API
// server bounds it to 1 MiB.
func (r *Reconciler) setProgress(ctx context.Context, kr *v1alpha1.KeyRotation, s *v1alpha1.KeyRotationStatus) {
	name := kr.Spec.SecureNotesRef.Name
	reports := &corev1.ConfigMap{}
	if err := r.Live.Get(ctx, client.ObjectKey{Namespace: kr.Namespace, Name: operand.ProgressName(name)}, reports); err != nil {
		return
	}
	if progress := sumProgress(reports.Data, operand.ReencryptJobName(name, *s.ToVersion, s.Attempt), s.Shards); progress != nil {
		s.Progress = progress
	}
}
