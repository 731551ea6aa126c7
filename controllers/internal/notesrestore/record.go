package notesrestore

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/securenotes/securenotes/api/v1alpha1"
	"github.com/securenotes/securenotes/app/config"
	"github.com/securenotes/securenotes/controllers/internal/operand"
	"github.com/securenotes/securenotes/controllers/internal/stalecache"
	"github.com/securenotes/securenotes/controllers/internal/steps"
	"github.com/securenotes/securenotes/controllers/internal/vaultadmin"
)

// recordDeployment records what the database has: first in the marker in Vault, then in the
// SecureNotes. If the operator dies in between, the SecureNotes does not have it yet, and the step
// is taken again; the marker is then not written again. Package securenotes does not compare the
// two meanwhile.
var recordDeployment = step{
	Name: "RecordDeployment",
	Due:  steps.When(func(o observed) bool { return !hasRestored(&o.parent.Status, o.restore) }),
	Do: func(ctx context.Context, r *Reconciler, o observed) error {
		nr, parent := o.restore, o.parent
		vault, err := r.vaultOf(parent)
		if err != nil {
			return err
		}
		d := vaultadmin.Deployment{
			Directory: config.KVPath(r.Environment.ClusterID, parent.Namespace, parent.Name), UID: string(parent.UID), ClusterUID: r.Environment.ClusterUID,
		}
		d.Key = config.TransitKeyName(r.Environment.ClusterID, parent.Namespace, parent.Name)
		if err := vault.RecordRestored(ctx, d, nr.Status.DeploymentID, pepperOf(nr)); err != nil {
			return err
		}
		return r.recordInSecureNotes(ctx, o)
	},
}

// hasRestored reports whether the status of a SecureNotes has what the restore brings.
func hasRestored(status *v1alpha1.SecureNotesStatus, nr *v1alpha1.NotesRestore) bool {
	return status.DeploymentID == nr.Status.DeploymentID && status.Database != nil && status.Database.InUse &&
		(nr.Status.Pepper == nil || status.Pepper != nil && *status.Pepper == *nr.Status.Pepper)
}

func pepperOf(nr *v1alpha1.NotesRestore) *vaultadmin.Secret {
	if nr.Status.Pepper == nil {
		return nil
	}
	return &vaultadmin.Secret{Entry: nr.Status.Pepper.Entry, Digest: nr.Status.Pepper.Digest}
}

// recordInSecureNotes writes the status of the SecureNotes, which it reads past the cache.
func (r *Reconciler) recordInSecureNotes(ctx context.Context, o observed) error {
	nr, current := o.restore, &v1alpha1.SecureNotes{}
	if err := r.Live.Get(ctx, client.ObjectKeyFromObject(o.parent), current); err != nil {
		return err
	}
	if current.UID != o.parent.UID || hasRestored(&current.Status, nr) {
		return stalecache.New("SecureNotes", o.parent.Name, "it has changed since it was read")
	}
	before := current.DeepCopy()
	current.Status.DeploymentID = nr.Status.DeploymentID
	if nr.Status.Pepper != nil {
		current.Status.Pepper = nr.Status.Pepper.DeepCopy()
	}
	if current.Status.Database == nil {
		current.Status.Database = &v1alpha1.DatabaseStatus{}
	}
	current.Status.Database.InUse = true
	return r.Client.Status().Patch(ctx, current, client.MergeFromWithOptions(before, client.MergeFromWithOptimisticLock{}))
}

// annotateVolume records on the volume of an embedded database whose notes it holds.
var annotateVolume = step{
	Name: "AnnotateVolume",
	Due: steps.When(func(o observed) bool {
		return o.volume != nil && o.volume.Annotations[operand.AnnotationDeploymentID] != o.restore.Status.DeploymentID
	}),
	Do: func(ctx context.Context, r *Reconciler, o observed) error {
		before := o.volume.DeepCopy()
		metav1.SetMetaDataAnnotation(&o.volume.ObjectMeta, operand.AnnotationDeploymentID, o.restore.Status.DeploymentID)
		return client.IgnoreNotFound(r.Client.Patch(ctx, o.volume, client.MergeFromWithOptions(before, client.MergeFromWithOptimisticLock{})))
	},
}

// queueRotation creates the rotation that follows the restore. It waits until the restore has
// ended. In its status, which only the operator writes, it is recorded who created it: then its old
// versions are retired at once.
var queueRotation = step{
	Name: "QueueRotation",
	Due:  steps.When(func(o observed) bool { return o.restore.Status.Rotation == "" }),
	Do: func(ctx context.Context, r *Reconciler, o observed) error {
		kr := rotationAfter(o.restore, o.parent)
		err := r.Client.Create(ctx, kr)
		if apierrors.IsAlreadyExists(err) {
			existing := &v1alpha1.KeyRotation{}
			if err := r.Live.Get(ctx, client.ObjectKeyFromObject(kr), existing); err != nil {
				return err
			}
			if !metav1.IsControlledBy(existing, o.parent) || existing.Spec != kr.Spec {
				return r.awaitNoConflict(ctx, o, "KeyRotation "+kr.Name)
			}
			kr, err = existing, nil
		}
		if err != nil {
			return err
		}
		if kr.Status.CreatedBy != v1alpha1.CreatedByRestore {
			before := kr.DeepCopy()
			kr.Status.CreatedBy = v1alpha1.CreatedByRestore
			if err := r.Client.Status().Patch(ctx, kr, client.MergeFrom(before)); err != nil {
				return err
			}
		}
		return r.patchStatus(ctx, o.restore, func(s *v1alpha1.NotesRestoreStatus) { s.Rotation = kr.Name })
	},
}

// awaitNoConflict records that an object of another owner has a name that the restore needs.
func (r *Reconciler) awaitNoConflict(ctx context.Context, o observed, object string) error {
	message := object + " exists and is not as the operator creates it: delete it"
	if err := r.recordWaiting(ctx, o.restore, v1alpha1.ReasonNameConflict, message+deletionNote(o.restore)); err != nil {
		return err
	}
	r.event(o.restore, o.parent, corev1.EventTypeWarning, v1alpha1.ReasonNameConflict, message)
	return stalecache.New("NotesRestore", o.restore.Name, object+" is in the way")
}

// rotationAfter returns the rotation that follows a restore.
func rotationAfter(nr *v1alpha1.NotesRestore, sn *v1alpha1.SecureNotes) *v1alpha1.KeyRotation {
	sum := sha256.Sum256([]byte(nr.UID))
	return &v1alpha1.KeyRotation{
		ObjectMeta: metav1.ObjectMeta{
			Name: fmt.Sprintf("%s-restored-%s", sn.Name, hex.EncodeToString(sum[:])[:10]), Namespace: sn.Namespace,
			Labels:          operand.Labels(sn, operand.ComponentRotation),
			OwnerReferences: []metav1.OwnerReference{*metav1.NewControllerRef(sn, v1alpha1.GroupVersion.WithKind("SecureNotes"))},
		},
		Spec: v1alpha1.KeyRotationSpec{
			SecureNotesRef: v1alpha1.LocalObjectReference{Name: sn.Name}, Reason: v1alpha1.RotationRoutine, Strategy: v1alpha1.StrategyReencrypt,
		},
	}
}
