package securenotes

import (
	"context"
	"fmt"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/securenotes/securenotes/api/v1alpha1"
	"github.com/securenotes/securenotes/controllers/internal/cause"
	"github.com/securenotes/securenotes/controllers/internal/operand"
)

// volumeState is the state of the embedded database's volume.
type volumeState int

const (
	// volumeAvailable: the volume exists, may be created, or is not needed.
	volumeAvailable volumeState = iota
	// volumeMissing: no claim of its name exists.
	volumeMissing
	// volumeTerminating: the claim is being deleted, or has lost its volume. Its name is in use.
	volumeTerminating
)

// volume applies the PersistentVolumeClaim of the embedded database. An annotation with the
// deployment id says whose notes it holds. It has no owner reference, because it can outlive the
// SecureNotes.
func (r *Reconciler) volume(ctx context.Context, s *scope) error {
	if !s.hasKeys {
		return nil
	}
	desired := operand.VolumeClaim(s.sn, s.env.DeploymentID)
	if desired == nil {
		return nil
	}
	// A restore fills an empty volume as well.
	if s.restore == nil && (s.database == nil || s.claimed()) {
		if there, err := r.requireVolume(ctx, s, desired); err != nil || !there {
			return err
		}
	}
	existing := &corev1.PersistentVolumeClaim{}
	if err := client.IgnoreNotFound(r.Client.Get(ctx, client.ObjectKeyFromObject(desired), existing)); err != nil {
		return err
	}
	keepRequest(desired, existing)
	refusals := len(s.refusals)
	_, err := r.applyOwned(ctx, s, desired, existing, s.ownsVolume)
	for i := range s.refusals[refusals:] {
		f := &s.refusals[refusals+i]
		if f.reason == v1alpha1.ReasonApplyFailed || f.reason == v1alpha1.ReasonOutsideLimitRange {
			f.message += sizeAdvice(desired, existing)
		}
	}
	if err != nil {
		return err
	}
	if existing.Annotations[operand.AnnotationDeploymentID] == s.env.DeploymentID {
		s.volumeSize = new(sizeText(volumeSize(existing)))
	}
	if existing.Status.Phase == corev1.ClaimPending {
		s.retry("events of a pending PersistentVolumeClaim are not watched")
		s.databaseFinding = claimFinding(existing, r.lookups.Live(ctx, r.Live, r.Now, s.sn.UID), s.now)
	}
	return nil
}

// ownsVolume implements [apply.Owned] for the claim.
func (s *scope) ownsVolume(existing client.Object) (bool, string) {
	id := existing.GetAnnotations()[operand.AnnotationDeploymentID]
	switch id {
	case s.env.DeploymentID:
		return true, ""
	case "":
		return false, "no SecureNotes (if it holds the notes of this SecureNotes, annotate it with " + operand.AnnotationDeploymentID + "=" + s.env.DeploymentID + ")"
	default:
		return false, "the notes of another SecureNotes (" + operand.AnnotationDeploymentID + " " + id + ")"
	}
}

// claimFinding says why the embedded database has no volume, once that takes longer than usual.
func claimFinding(claim *corev1.PersistentVolumeClaim, lookup cause.Lookup, now time.Time) finding {
	if c := cause.OfClaim(claim, lookup, now); c.Known() {
		return bad(c.Reason, c.String())
	}
	return finding{}
}

// requireVolume reports whether the claim of a database in use exists and is not being deleted. It
// sets the UID of desired, so that applying desired cannot create another claim. Otherwise it
// records the loss.
func (r *Reconciler) requireVolume(ctx context.Context, s *scope, desired *corev1.PersistentVolumeClaim) (bool, error) {
	existing, key := &corev1.PersistentVolumeClaim{}, client.ObjectKeyFromObject(desired)
	err := r.Client.Get(ctx, key, existing)
	if apierrors.IsNotFound(err) {
		err = r.Live.Get(ctx, key, existing)
	}
	restore := fmt.Sprintf("under this name and with the annotation %s=%s", operand.AnnotationDeploymentID, s.env.DeploymentID)
	switch {
	case apierrors.IsNotFound(err) && s.database == nil:
		s.retry("only Vault records whether the missing volume was in use")
		return false, nil
	case apierrors.IsNotFound(err):
		s.recordLoss(volumeMissing, fmt.Sprintf("PersistentVolumeClaim %s, which holds the notes of deployment %s, is missing: restore it from a backup, %s",
			key.Name, s.env.DeploymentID, restore))
		return false, nil
	case err != nil:
		return false, err
	case existing.DeletionTimestamp != nil:
		s.recordLoss(volumeTerminating, fmt.Sprintf("PersistentVolumeClaim %s is being deleted, and disappears when no pod uses it: set persistentVolumeReclaimPolicy of PersistentVolume %s to Retain now, and export or copy the notes before the pod ends. "+
			"Then restore the claim %s", key.Name, existing.Spec.VolumeName, restore))
		return false, nil
	case existing.Status.Phase == corev1.ClaimLost:
		s.recordLoss(volumeTerminating, fmt.Sprintf("PersistentVolumeClaim %s has lost its PersistentVolume %s: restore that volume, or delete the claim and restore it from a backup, %s",
			key.Name, existing.Spec.VolumeName, restore))
		return false, nil
	}
	desired.UID = existing.UID
	return true, nil
}

// recordLoss records that the volume is lost.
func (s *scope) recordLoss(state volumeState, message string) {
	s.volume, s.databaseFinding = state, bad(v1alpha1.ReasonDatabaseLost, message)
	s.retry("a restored PersistentVolumeClaim may lack the labels that are watched")
}
