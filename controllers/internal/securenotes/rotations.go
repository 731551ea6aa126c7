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
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/securenotes/securenotes/api/v1alpha1"
	"github.com/securenotes/securenotes/controllers/internal/jitter"
	"github.com/securenotes/securenotes/controllers/internal/operand"
	"github.com/securenotes/securenotes/controllers/internal/rotations"
)

// rotations makes the KeyRotations that the schedule or an annotation asks for, and prunes them.
// Their Jobs, and the pods of these, go with them: a Job is owned by its rotation.
func (r *Reconciler) rotations(ctx context.Context, s *scope) error {
	list, err := r.listRotations(ctx, s.sn)
	if err != nil {
		return err
	}
	s.rotationList = list
	s.rotationFinding, s.lastRotation = rotationHealth(s.sn, list)
	rotation := operand.ResolveRotation(s.sn)
	for _, kr := range rotations.Prunable(list, rotation.HistoryLimit) {
		// A retry may have been requested, or have begun, that the cache does not have yet.
		unchanged := client.Preconditions{UID: &kr.UID, ResourceVersion: &kr.ResourceVersion}
		if err := r.Client.Delete(ctx, &kr, unchanged); client.IgnoreNotFound(err) != nil {
			return err
		}
	}
	if err := r.requested(ctx, s); err != nil {
		return err
	}
	return r.scheduled(ctx, s, rotation)
}

// listRotations returns the cache's own objects; they must not be changed.
func (r *Reconciler) listRotations(ctx context.Context, sn *v1alpha1.SecureNotes) ([]v1alpha1.KeyRotation, error) {
	return rotations.List(ctx, r.Client, sn.Namespace, sn.Name)
}

// requested makes the rotation that the annotation asks for. Its name is made from the annotation's
// value and from how many requests were handled before, so that a pass that is repeated makes none
// twice, and a value that is used again makes another.
func (r *Reconciler) requested(ctx context.Context, s *scope) error {
	value, requested := rotations.Requested(s.sn.Annotations, v1alpha1.AnnotationRotateRequestedAt, s.sn.Status.LastHandledRotateRequest)
	if !requested {
		return nil
	}
	if s.original.Status.DeploymentID == "" {
		// It was made with the annotation, as an object is that GitOps puts back. Its keys are only being made or adopted.
		s.note(corev1.EventTypeNormal, "RotationNotNeeded", "Rotate",
			"the annotation "+v1alpha1.AnnotationRotateRequestedAt+" was there before the keys: it asks for a rotation once its value changes")
		s.sn.Status.LastHandledRotateRequest = value
		return nil
	}
	sum := sha256.Sum256(fmt.Appendf(nil, "%s/%d/%s", s.sn.UID, s.sn.Status.HandledRotateRequests, value))
	kr := newRotation(s.sn, s.sn.Name+"-req-"+hex.EncodeToString(sum[:])[:10])
	if made, err := r.createRotation(ctx, s, kr, v1alpha1.CreatedByAnnotation, time.Time{}); err != nil || !made {
		return err
	}
	s.sn.Status.LastHandledRotateRequest = value
	s.sn.Status.HandledRotateRequests++
	return nil
}

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

// clockSkew is by how much the API server's clock may be behind the operator's.
const clockSkew = time.Minute

// createRotation says whether the rotation is there: made now, or by a pass that died before it could
// record it. Another one of that name, or one from before it was due, stands for nothing that was
// asked for: it is reported.
func (r *Reconciler) createRotation(ctx context.Context, s *scope, kr *v1alpha1.KeyRotation, by v1alpha1.RotationCreator, due time.Time) (made bool, err error) {
	err = r.Client.Create(ctx, kr)
	if err == nil {
		if err := r.recordCreator(ctx, kr, by); err != nil {
			return false, err
		}
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
		"KeyRotation %s, which a schedule or an annotation asks for, exists already and was made by somebody else: delete it", kr.Name))
	s.wake(jitter.Longer(retryInterval))
	return false, nil
}

// recordCreator writes down in the rotation's status that the operator created it. Only then is the
// request recorded as handled: a pass that dies between the two comes back here.
func (r *Reconciler) recordCreator(ctx context.Context, kr *v1alpha1.KeyRotation, by v1alpha1.RotationCreator) error {
	if kr.Status.CreatedBy == by {
		return nil
	}
	before := kr.DeepCopy()
	kr.Status.CreatedBy = by
	return client.IgnoreNotFound(r.Client.Status().Patch(ctx, kr, client.MergeFrom(before)))
}

// rotationHealth says how the rotations are doing, and when the newest one completed: a copy,
// because the rotations are the cache's own and the answer to a patch is decoded into the status.
func rotationHealth(sn *v1alpha1.SecureNotes, list []v1alpha1.KeyRotation) (finding, *metav1.Time) {
	var running, hindered, newest *v1alpha1.KeyRotation
	var last *metav1.Time
	if key := sn.Status.MasterKey; key != nil {
		last = key.LastRotationTime
	}
	for i := range list {
		kr := &list[i]
		switch {
		case !rotations.Ended(kr):
			running = kr
			if rotations.Blocked(kr) != nil {
				hindered = kr
			}
			continue
		case kr.Status.CompletionTime == nil:
			continue
		case rotations.Complete(kr) && (last == nil || last.Before(kr.Status.CompletionTime)):
			last = kr.Status.CompletionTime
		}
		if newest == nil || endedBefore(newest, kr) {
			newest = kr
		}
	}
	switch {
	case hindered != nil:
		c := rotations.Blocked(hindered)
		return bad(c.Reason, "KeyRotation "+hindered.Name+" is blocked: "+c.Message), last.DeepCopy()
	case running != nil:
		return good(v1alpha1.ReasonRotating, "KeyRotation "+running.Name+" is at work"), last.DeepCopy()
	case newest != nil && rotations.Failed(newest):
		return bad(v1alpha1.ReasonRotationFailed, failure(newest)), last.DeepCopy()
	default:
		return good(v1alpha1.ReasonIdle, "no rotation is at work"), last.DeepCopy()
	}
}

// failure quotes why a rotation has failed: one that was given up by its deletion is soon gone, and
// its conditions with it.
func failure(kr *v1alpha1.KeyRotation) string {
	message := "KeyRotation " + kr.Name + " has failed"
	if c := meta.FindStatusCondition(kr.Status.Conditions, v1alpha1.ConditionFailed); c != nil && c.Message != "" {
		message += ": " + c.Message
	}
	if kr.DeletionTimestamp == nil || kr.Status.FromVersion == nil || kr.Status.ToVersion == nil {
		return message
	}
	if meta.IsStatusConditionTrue(kr.Status.Conditions, v1alpha1.ConditionReencrypted) {
		return fmt.Sprintf("%s. That no note is under version %d is not verified: create another KeyRotation", message, *kr.Status.FromVersion)
	}
	return fmt.Sprintf("%s. Some notes may still be under version %d: create another KeyRotation", message, *kr.Status.FromVersion)
}

// floorsAsSet reports a version floor that was moved by hand; it is not fought.
func floorsAsSet(s *scope) finding {
	status := s.sn.Status.MasterKey
	if s.key == nil || status == nil || status.MinDecryptionFloor == 0 || s.key.MinDecryption == status.MinDecryptionFloor {
		return finding{}
	}
	how := "lowered"
	if s.key.MinDecryption > status.MinDecryptionFloor {
		how = "raised"
	}
	return bad(v1alpha1.ReasonFloorsChanged, fmt.Sprintf(
		"min_decryption_version of Transit key %s was %s by hand to %d from %d: set it back in Vault",
		status.Name, how, s.key.MinDecryption, status.MinDecryptionFloor))
}

// unfinished reports that a rotation has a new version in use, but that nothing is to retire the
// old ones: the KeyRotation was deleted before its end, or the retirement was lost with an earlier
// object. A version that Vault's administrator adds does not count: only rotations raise
// min_encryption_version.
func unfinished(s *scope) finding {
	status := s.sn.Status.MasterKey
	if s.key == nil || status == nil || s.key.MinEncryption <= s.key.MinDecryption || len(status.PendingRetirements) > 0 ||
		s.rotationFinding.reason != v1alpha1.ReasonIdle {
		return finding{}
	}
	return bad(v1alpha1.ReasonRotationFailed, fmt.Sprintf(
		"the versions of Transit key %s below %d still decrypt, and no retirement of them is recorded, as when a KeyRotation is deleted before its end: create another KeyRotation, of reason Compromise if that one was",
		status.Name, s.key.MinEncryption))
}

// endedBefore orders ended rotations. Times are of whole seconds: of two that ended in the same one, as a
// superseded rotation and the one that took over can, the higher version is the newer.
func endedBefore(a, b *v1alpha1.KeyRotation) bool {
	if at, bt := a.Status.CompletionTime, b.Status.CompletionTime; !at.Equal(bt) {
		return at.Before(bt)
	}
	version := func(kr *v1alpha1.KeyRotation) int64 {
		if kr.Status.ToVersion == nil {
			return 0
		}
		return *kr.Status.ToVersion
	}
	return version(a) < version(b)
}
