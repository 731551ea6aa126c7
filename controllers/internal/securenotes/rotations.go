package securenotes

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"maps"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/log"

	"github.com/securenotes/securenotes/api/v1alpha1"
	"github.com/securenotes/securenotes/controllers/internal/operand"
	"github.com/securenotes/securenotes/controllers/internal/rotations"
)

// manageRotations creates the KeyRotations that the schedule or an annotation requests, and deletes
// those beyond the history limit. Kubernetes deletes the Jobs and pods of a deleted one.
func (r *Reconciler) manageRotations(ctx context.Context, s *scope) error {
	list, err := r.listRotations(ctx, s.sn)
	if err != nil {
		return err
	}
	s.rotationList = list
	s.rotationFinding, s.lastRotation = rotationState(s.sn, list)
	rotation := operand.ResolveRotation(s.sn)
	for _, kr := range rotations.Prunable(list, rotation.HistoryLimit) {
		// A retry may have been requested or started that the cache does not show yet.
		if err := r.delete(ctx, &kr, client.Preconditions{UID: &kr.UID, ResourceVersion: &kr.ResourceVersion}); err != nil {
			return err
		}
	}
	if err := r.createRequested(ctx, s); err != nil {
		return err
	}
	return r.createScheduled(ctx, s, rotation)
}

// listRotations returns the KeyRotations of an object. They are the cache's own, and must not be
// changed.
func (r *Reconciler) listRotations(ctx context.Context, sn *v1alpha1.SecureNotes) ([]v1alpha1.KeyRotation, error) {
	return rotations.List(ctx, r.Client, sn.Namespace, sn.Name)
}

// createRequested creates the rotation that the annotation requests. Its name is derived from the
// value and the number of requests that were handled before. So a repeated pass creates no second
// rotation, and a value that is used again creates another one.
func (r *Reconciler) createRequested(ctx context.Context, s *scope) error {
	value, requested := rotations.Requested(s.sn.Annotations, v1alpha1.AnnotationRotateRequestedAt, s.sn.Status.LastHandledRotateRequest)
	if !requested {
		return nil
	}
	if s.original.Status.DeploymentID == "" {
		// The object was created with the annotation, for example by GitOps, and has no keys yet.
		s.event(corev1.EventTypeNormal, "RotationNotNeeded", "Rotate",
			"the annotation "+v1alpha1.AnnotationRotateRequestedAt+" is older than the keys: it requests a rotation when its value changes")
		s.sn.Status.LastHandledRotateRequest = value
		return nil
	}
	sum := sha256.Sum256(fmt.Appendf(nil, "%s/%d/%s", s.sn.UID, s.sn.Status.HandledRotateRequests, value))
	kr := newRotation(s.sn, s.sn.Name+"-req-"+hex.EncodeToString(sum[:])[:10])
	if exists, err := r.createRotation(ctx, s, kr, v1alpha1.CreatedByAnnotation, time.Time{}); err != nil || !exists {
		return err
	}
	s.sn.Status.LastHandledRotateRequest = value
	s.sn.Status.HandledRotateRequests++
	return nil
}

// newRotation returns a routine KeyRotation that is owned by the SecureNotes.
func newRotation(sn *v1alpha1.SecureNotes, name string) *v1alpha1.KeyRotation {
	return &v1alpha1.KeyRotation{
		ObjectMeta: metav1.ObjectMeta{
			Name: name, Namespace: sn.Namespace, Labels: operand.Labels(sn, operand.ComponentRotation),
			OwnerReferences: []metav1.OwnerReference{*metav1.NewControllerRef(sn, v1alpha1.GroupVersion.WithKind("SecureNotes"))},
		},
		Spec: v1alpha1.KeyRotationSpec{
			SecureNotesRef: v1alpha1.LocalObjectReference{Name: sn.Name}, Reason: v1alpha1.RotationRoutine,
		},
	}
}

// clockSkew is how far the API server's clock may be behind the operator's.
const clockSkew = time.Minute

// createRotation creates a rotation, and reports whether the requested rotation exists. An earlier
// pass may have created it and died before it recorded that. A KeyRotation of the same name that
// differs, or that was created before the due time, is not the requested one, and is reported.
func (r *Reconciler) createRotation(ctx context.Context, s *scope, kr *v1alpha1.KeyRotation, by v1alpha1.RotationCreator, due time.Time) (exists bool, err error) {
	err = r.Client.Create(ctx, kr)
	if err == nil {
		if err := r.recordCreator(ctx, kr, by); err != nil {
			return false, err
		}
		log.FromContext(ctx).Info("created a KeyRotation", "keyRotation", kr.Name, "createdBy", by)
		r.Recorder.Eventf(s.sn, kr, corev1.EventTypeNormal, "RotationCreated", "Rotate", "created KeyRotation %s", kr.Name)
		return true, nil
	}
	if !apierrors.IsAlreadyExists(err) {
		return false, err
	}
	existing := &v1alpha1.KeyRotation{}
	if err := r.Live.Get(ctx, client.ObjectKeyFromObject(kr), existing); err != nil {
		return false, err
	}
	if metav1.IsControlledBy(existing, s.sn) && maps.Equal(existing.Labels, kr.Labels) && existing.Spec == kr.Spec &&
		!existing.CreationTimestamp.Time.Before(due.Add(-clockSkew)) {
		return true, r.recordCreator(ctx, existing, by)
	}
	s.rotationFinding = bad(v1alpha1.ReasonNameConflict, fmt.Sprintf(
		"KeyRotation %s, which a schedule or an annotation requests, exists already, and the operator did not create it: delete it", kr.Name))
	s.retry("a KeyRotation of another creator has the requested name")
	return false, nil
}

// recordCreator records in the rotation's status that the operator created it. The request is
// recorded as handled only after that, so an interrupted pass repeats this step.
func (r *Reconciler) recordCreator(ctx context.Context, kr *v1alpha1.KeyRotation, by v1alpha1.RotationCreator) error {
	if kr.Status.CreatedBy == by {
		return nil
	}
	before := kr.DeepCopy()
	kr.Status.CreatedBy = by
	return client.IgnoreNotFound(r.Client.Status().Patch(ctx, kr, client.MergeFrom(before)))
}
