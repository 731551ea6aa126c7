package securenotes

import (
	"context"

	corev1 "k8s.io/api/core/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/controller/controllerutil"

	"github.com/securenotes/securenotes/api/v1alpha1"
	"github.com/securenotes/securenotes/controllers/internal/jitter"
	"github.com/securenotes/securenotes/controllers/internal/operand"
	"github.com/securenotes/securenotes/controllers/internal/vaultadmin"
)

// finalize does what deletionPolicy asks for and removes the finalizer, last of all. done says that
// there is no status left to write. Children with owner references are Kubernetes' to collect.
func (r *Reconciler) finalize(ctx context.Context, s *scope) (done bool, err error) {
	if !controllerutil.ContainsFinalizer(s.sn, v1alpha1.Finalizer) {
		return true, nil
	}
	if s.sn.Spec.DeletionPolicy == v1alpha1.DeletionPolicyDelete {
		if shredded, err := r.shred(ctx, s); err != nil || !shredded {
			return false, err
		}
		if err := r.deleteVolume(ctx, s); err != nil {
			return false, err
		}
	}
	r.vaultChecks.drop(s.sn.UID)
	r.served.drop(s.sn.UID)
	err = r.patchFinalizers(ctx, s.sn, controllerutil.RemoveFinalizer)
	if err == nil {
		r.tell(s)
	}
	if err == nil && s.sn.Spec.DeletionPolicy != v1alpha1.DeletionPolicyDelete && s.sn.Status.DeploymentID != "" {
		r.keysLeft.Add(1)
	}
	return true, err
}

// shred destroys the keys. With Vault gone for good, an annotation lets the object go without.
func (r *Reconciler) shred(ctx context.Context, s *scope) (bool, error) {
	if s.sn.Annotations[v1alpha1.AnnotationAbandonVault] == "true" {
		s.warn("VaultAbandoned", "Delete", "the keys were left in Vault, as the annotation "+v1alpha1.AnnotationAbandonVault+" asks")
		return true, nil
	}
	vault, err := r.connect(s)
	if err == nil {
		// Under another cluster id the keys would be looked for in the wrong place, and left
		// behind.
		err = operand.CheckClusterID(s.sn, s.env.ClusterID)
	}
	if vaultadmin.ProblemOf(err) == vaultadmin.UnknownConnection && s.sn.Status.DeploymentID == "" {
		return true, nil // it never had a Vault, so there is nothing to destroy
	}
	if err == nil {
		err = vault.Shred(ctx, r.deploymentOf(s))
	}
	if vaultadmin.ProblemOf(err) == vaultadmin.Taken {
		if s.sn.Status.DeploymentID != "" {
			// They are in use elsewhere, and do not count as left behind.
			s.warn("KeysLeft", "Delete", "the keys were left in Vault: "+err.Error())
		}
		return true, nil
	}
	if err == nil {
		return true, nil
	}
	const wayOut = "annotate it with " + v1alpha1.AnnotationAbandonVault + "=true to let it go without"
	if vaultadmin.OfFeature(err) {
		s.deletionRights = r.rightsMissing(s, err)
		s.deletionRights.message += "; to leave the keys in Vault, " + wayOut
		s.wake(jitter.Longer(retryInterval))
		return false, nil
	}
	err = r.vaultTrouble(ctx, s, err)
	s.vaultFinding.message += ". This object is being deleted and its keys are to be destroyed; if they are not its own, or that Vault is gone for good, " + wayOut
	return false, err
}

// deleteVolume deletes the embedded database, if it is the one that this object used.
func (r *Reconciler) deleteVolume(ctx context.Context, s *scope) error {
	claim := &corev1.PersistentVolumeClaim{}
	err := r.Live.Get(ctx, client.ObjectKey{Namespace: s.sn.Namespace, Name: operand.ClaimName(s.sn.Name)}, claim)
	if err != nil {
		return client.IgnoreNotFound(err)
	}
	if id := claim.Annotations[operand.AnnotationDeploymentID]; id == "" || id != s.sn.Status.DeploymentID {
		return nil
	}
	return client.IgnoreNotFound(r.Client.Delete(ctx, claim, client.Preconditions{UID: &claim.UID}))
}
