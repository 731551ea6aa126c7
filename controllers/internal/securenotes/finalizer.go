package securenotes

import (
	"context"

	corev1 "k8s.io/api/core/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/controller/controllerutil"
	"sigs.k8s.io/controller-runtime/pkg/log"

	"github.com/securenotes/securenotes/api/v1alpha1"
	"github.com/securenotes/securenotes/controllers/internal/operand"
	"github.com/securenotes/securenotes/controllers/internal/vaultadmin"
)

// finalize does what deletionPolicy asks for, and removes the finalizer last. done reports that no
// status is left to write. Kubernetes deletes the children that have owner references.
func (r *Reconciler) finalize(ctx context.Context, s *scope) (done bool, err error) {
	if !controllerutil.ContainsFinalizer(s.sn, v1alpha1.Finalizer) {
		return true, nil
	}
	if s.sn.Spec.DeletionPolicy == v1alpha1.DeletionPolicyDelete {
		if held, err := r.backupsHoldDeletion(ctx, s); err != nil || held {
			return false, err
		}
		if shredded, err := r.shred(ctx, s); err != nil || !shredded {
			return false, err
		}
		if err := r.deleteVolume(ctx, s); err != nil {
			return false, err
		}
	} else {
		r.dropIdentities(ctx, s)
	}
	r.vaultChecks.drop(s.sn.UID)
	r.served.drop(s.sn.UID)
	if err := r.patchFinalizers(ctx, s.sn, controllerutil.RemoveFinalizer); err != nil {
		return true, err
	}
	r.emit(s)
	if s.sn.Spec.DeletionPolicy != v1alpha1.DeletionPolicyDelete && s.sn.Status.DeploymentID != "" {
		r.keysLeft.Add(1)
	}
	return true, nil
}

// dropIdentities destroys the identities of the drill, which nobody needs after the deletion. An
// object that adopts the keys would not know them. Vault may be lost, so a failure only leaves
// them.
func (r *Reconciler) dropIdentities(ctx context.Context, s *scope) {
	d := r.deploymentOf(s)
	if len(d.DrillIdentities) == 0 || operand.CheckClusterID(s.sn, s.env.ClusterID) != nil {
		return
	}
	vault, err := r.connect(s)
	for _, entry := range d.DrillIdentities {
		if err == nil {
			err = vault.DestroyDrillIdentity(ctx, d, entry)
		}
	}
	if err != nil {
		log.FromContext(ctx).Info("identities of the drill are left in Vault", "directory", d.Directory, "entries", d.DrillIdentities, "cause", err.Error())
	}
}

// shred destroys the keys, and reports whether the deletion can go on. If Vault is lost for good,
// an annotation permits the deletion without it.
func (r *Reconciler) shred(ctx context.Context, s *scope) (bool, error) {
	if s.sn.Annotations[v1alpha1.AnnotationAbandonVault] == "true" {
		s.warn("VaultAbandoned", "Delete", "the keys were left in Vault, as the annotation "+v1alpha1.AnnotationAbandonVault+" asks")
		return true, nil
	}
	vault, err := r.connect(s)
	if err == nil {
		// With another cluster id, the operator would look at the wrong path and leave the keys.
		err = operand.CheckClusterID(s.sn, s.env.ClusterID)
	}
	if vaultadmin.ProblemOf(err) == vaultadmin.UnknownConnection && s.sn.Status.DeploymentID == "" {
		return true, nil // the object never had keys
	}
	if err == nil {
		err = vault.Shred(ctx, r.deploymentOf(s))
	}
	switch {
	case err == nil:
		return true, nil
	case vaultadmin.ProblemOf(err) == vaultadmin.Taken:
		if s.sn.Status.DeploymentID != "" {
			// Another object uses the keys, so they do not count as left behind.
			s.warn("KeysLeft", "Delete", "the keys were left in Vault: "+err.Error())
		}
		return true, nil
	case vaultadmin.OfFeature(err):
		s.deletionRights = err
		s.retry("rights in Vault are missing for the deletion")
		return false, nil
	default:
		return false, r.vaultTrouble(ctx, s, err)
	}
}

// deleteVolume deletes the claim of the embedded database, if it has this object's deployment id.
func (r *Reconciler) deleteVolume(ctx context.Context, s *scope) error {
	claim := &corev1.PersistentVolumeClaim{}
	err := r.Live.Get(ctx, client.ObjectKey{Namespace: s.sn.Namespace, Name: operand.ClaimName(s.sn.Name)}, claim)
	if err != nil {
		return client.IgnoreNotFound(err)
	}
	if id := claim.Annotations[operand.AnnotationDeploymentID]; id == "" || id != s.sn.Status.DeploymentID {
		return nil
	}
	return r.delete(ctx, claim)
}
