package keyrotation

import (
	"context"
	"fmt"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/securenotes/securenotes/api/v1alpha1"
	"github.com/securenotes/securenotes/controllers/internal/operand"
	"github.com/securenotes/securenotes/controllers/internal/rotations"
	"github.com/securenotes/securenotes/controllers/internal/steps"
	"github.com/securenotes/securenotes/controllers/internal/vaultadmin"
)

// revokeDatabaseCredentials has Vault drop every database user that it has created. If it fails,
// for example because Vault cannot reach the database, the rotation continues: notes must not stay
// under a version that may have leaked.
var revokeDatabaseCredentials = step{
	Name: "RevokeDatabaseCredentials",
	Due: steps.When(func(o observed) bool {
		tried := meta.FindStatusCondition(o.rotation.Status.Conditions, v1alpha1.ConditionDatabaseCredentialsReplaced) != nil
		return awaitsRevocation(o.rotation, o.parent) && !tried
	}),
	Do: func(ctx context.Context, r *Reconciler, o observed) error {
		err := r.revoke(ctx, o.parent)
		switch {
		case err == nil:
			return r.recordRevoked(ctx, o)
		case vaultadmin.ProblemOf(err) == vaultadmin.Busy:
			return err // Vault is asked again soon
		default:
			return r.recordRevocationFailed(ctx, o, err)
		}
	},
}

// revokeDatabaseCredentialsAgain retries a failed revocation before the rotation completes.
var revokeDatabaseCredentialsAgain = step{
	Name: "RevokeDatabaseCredentials",
	Due:  steps.When(func(o observed) bool { return awaitsRevocation(o.rotation, o.parent) }),
	Do: func(ctx context.Context, r *Reconciler, o observed) error {
		if err := r.revoke(ctx, o.parent); err != nil {
			return err
		}
		return r.recordRevoked(ctx, o)
	},
}

// awaitsRevocation reports whether database users may exist that Vault created before this
// rotation.
func awaitsRevocation(kr *v1alpha1.KeyRotation, parent *v1alpha1.SecureNotes) bool {
	return rotations.Compromise(kr) && operand.UsesVaultCredentials(parent) && !rotations.IsTrue(kr, v1alpha1.ConditionDatabaseCredentialsReplaced)
}

func (r *Reconciler) revoke(ctx context.Context, parent *v1alpha1.SecureNotes) error {
	vault, err := r.vaultOf(parent)
	if err != nil {
		return err
	}
	return vault.RevokeDatabaseCredentials(ctx, r.keysOf(parent))
}

func (r *Reconciler) recordRevoked(ctx context.Context, o observed) error {
	return r.record(ctx, o, v1alpha1.ConditionDatabaseCredentialsReplaced, "Vault has dropped every database user that it had created; each process requests a new one")
}

func (r *Reconciler) recordRevocationFailed(ctx context.Context, o observed, cause error) error {
	reason, setup := v1alpha1.ReasonRevocationFailed, ""
	if vaultadmin.OfFeature(cause) {
		reason, setup = v1alpha1.ReasonSetupMissing, r.setupAdvice(o.parent)
	}
	message := fmt.Sprintf("Vault has not dropped all the database users that it had created: %s%s; this is retried before the rotation completes", cause, setup)
	err := r.patchStatus(ctx, o.rotation, func(s *v1alpha1.KeyRotationStatus) {
		setCondition(o.rotation, s, v1alpha1.ConditionDatabaseCredentialsReplaced, metav1.ConditionFalse, reason, message)
	})
	if err != nil {
		return err
	}
	r.event(o.rotation, o.parent, corev1.EventTypeWarning, reason, message)
	logger(ctx, o.rotation).Info("database users not dropped", "reason", reason, "message", message)
	return steps.ErrNotTaken
}
