package keyrotation

import (
	"context"
	"fmt"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/securenotes/securenotes/api/v1alpha1"
	"github.com/securenotes/securenotes/controllers/internal/rotations"
	"github.com/securenotes/securenotes/controllers/internal/steps"
	"github.com/securenotes/securenotes/controllers/internal/vaultadmin"
)

// A Compromise replaces the key that signs backups: backups that a thief has signed must not be
// taken for ours. If Vault does not allow that, or has no usable key, the rotation continues: the
// notes are more important.

// recordBackupKey records the latest version of the backup key before it gets another one.
var recordBackupKey = step{
	Name: "RecordBackupKey",
	Due: steps.When(func(o observed) bool {
		return replacesBackupKey(o.rotation) && o.rotation.Status.ReplacedBackupKeyVersion == nil
	}),
	Do: func(ctx context.Context, r *Reconciler, o observed) error {
		vault, err := r.vaultOf(o.parent)
		if err != nil {
			return err
		}
		latest, err := vault.LatestBackupKey(ctx, r.keysOf(o.parent))
		if err != nil {
			return r.backupKeyNotReplaced(ctx, o, err)
		}
		return r.patchStatus(ctx, o.rotation, func(s *v1alpha1.KeyRotationStatus) { s.ReplacedBackupKeyVersion = new(latest) })
	},
}

// replaceBackupKey adds a version to the backup key and lets no earlier version sign.
var replaceBackupKey = step{
	Name: "ReplaceBackupKey",
	Due:  steps.When(func(o observed) bool { return replacesBackupKey(o.rotation) }),
	Do: func(ctx context.Context, r *Reconciler, o observed) error {
		vault, err := r.vaultOf(o.parent)
		if err != nil {
			return err
		}
		latest, err := vault.ReplaceBackupKey(ctx, r.keysOf(o.parent), *o.rotation.Status.ReplacedBackupKeyVersion)
		if err != nil {
			return r.backupKeyNotReplaced(ctx, o, err)
		}
		return r.record(ctx, o, v1alpha1.ConditionBackupKeyReplaced,
			fmt.Sprintf("version %d of the backup key signs backups, and no earlier version can", latest))
	},
}

// replacesBackupKey reports whether a rotation has yet to replace the backup key, or to find that
// it cannot.
func replacesBackupKey(kr *v1alpha1.KeyRotation) bool {
	c := meta.FindStatusCondition(kr.Status.Conditions, v1alpha1.ConditionBackupKeyReplaced)
	return rotations.Compromise(kr) && (c == nil || c.Status == metav1.ConditionFalse && c.Reason == v1alpha1.ReasonProgressing)
}

// backupKeyNotReplaced records why the backup key is not replaced, unless the cause passes.
func (r *Reconciler) backupKeyNotReplaced(ctx context.Context, o observed, cause error) error {
	known := o.parent.Status.BackupKeys != nil || o.rotation.Status.ReplacedBackupKeyVersion != nil
	reason, advice := string(vaultadmin.ProblemOf(cause)), ""
	switch {
	case reason == v1alpha1.ReasonKeyMissing && !known:
		return r.record(ctx, o, v1alpha1.ConditionBackupKeyReplaced, "there is no backup key yet, so there is none to replace")
	case reason == v1alpha1.ReasonKeyMissing, reason == v1alpha1.ReasonKeyUnsuitable:
	case vaultadmin.OfFeature(cause):
		advice = r.setupAdvice(o.parent) + ". Then create another KeyRotation of reason Compromise"
	default:
		return cause
	}
	message := fmt.Sprintf("the backup key is not replaced: %s%s", cause, advice)
	err := r.patchStatus(ctx, o.rotation, func(s *v1alpha1.KeyRotationStatus) {
		setCondition(o.rotation, s, v1alpha1.ConditionBackupKeyReplaced, metav1.ConditionFalse, reason, message)
	})
	if err != nil {
		return err
	}
	r.event(o.rotation, o.parent, corev1.EventTypeWarning, reason, message)
	logger(ctx, o.rotation).Info("backup key not replaced", "reason", reason, "message", message)
	return steps.ErrNotTaken
}
