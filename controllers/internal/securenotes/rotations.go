package securenotes

import (
	"context"
	"slices"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/securenotes/securenotes/api/v1alpha1"
	"github.com/securenotes/securenotes/controllers/internal/operand"
	"github.com/securenotes/securenotes/controllers/internal/rotations"
	"github.com/securenotes/securenotes/controllers/internal/schedule"
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
	if err := s.createRequested(r.rotationRequest(ctx, s)); err != nil {
		return err
	}
	return s.createScheduled(r.rotationCalendar(ctx, s, rotation))
}

// listRotations returns the KeyRotations of an object. They are the cache's own, and must not be
// changed.
func (r *Reconciler) listRotations(ctx context.Context, sn *v1alpha1.SecureNotes) ([]v1alpha1.KeyRotation, error) {
	return rotations.List(ctx, r.Client, sn.Namespace, sn.Name)
}

// rotationRequest returns the annotation that requests rotations.
func (r *Reconciler) rotationRequest(ctx context.Context, s *scope) request {
	status := &s.sn.Status
	q := request{
		annotation: v1alpha1.AnnotationRotateRequestedAt, what: "rotation",
		last: &status.LastHandledRotateRequest, handled: &status.HandledRotateRequests, seed: string(s.sn.UID),
		reason: "RotationNotNeeded", action: "Rotate",
		create: func(name string) (bool, error) {
			return r.createRotation(ctx, s, name, v1alpha1.CreatedByAnnotation, time.Time{})
		},
	}
	if s.original.Status.DeploymentID == "" {
		q.newer = "the keys"
	}
	return q
}

// rotationCalendar returns the schedule of the rotations.
func (r *Reconciler) rotationCalendar(ctx context.Context, s *scope, rotation operand.Rotation) calendar {
	status := &s.sn.Status
	return calendar{
		Policy: schedule.Policy{Field: "spec.keyRotation", Schedule: rotation.Schedule, TimeZone: rotation.TimeZone, Suspend: rotation.Suspend},
		what:   "rotation", observed: &status.ObservedSchedule, handled: &status.LastScheduleTime, next: &s.nextRotation,
		firstSeen: firstSeenRotations(s), trouble: &s.rotationFinding,
		running: slices.ContainsFunc(s.rotationList, func(kr v1alpha1.KeyRotation) bool { return rotations.Scheduled(&kr) && !rotations.Ended(&kr) }),
		create: func(due time.Time) (bool, error) {
			return r.createRotation(ctx, s, scheduledName(s.sn, due), v1alpha1.CreatedBySchedule, due)
		},
	}
}

// firstSeenRotations returns since when the schedule counts if the status has no observedSchedule.
// An operator of a release that did not record it had handled everything up to lastScheduleTime. If
// it recorded only a next time, none had been due.
func firstSeenRotations(s *scope) time.Time {
	key := s.sn.Status.MasterKey
	switch last := s.sn.Status.LastScheduleTime; {
	case last != nil:
		return last.Time
	case key != nil && key.NextRotationTime != nil:
		return s.sn.CreationTimestamp.Time
	default:
		return s.firstSeen()
	}
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

// createRotation creates a rotation, and reports whether it exists.
func (r *Reconciler) createRotation(ctx context.Context, s *scope, name string, by v1alpha1.RotationCreator, due time.Time) (exists bool, err error) {
	kr, existing := newRotation(s.sn, name), &v1alpha1.KeyRotation{}
	if by == v1alpha1.CreatedBySchedule {
		kr.Labels[v1alpha1.LabelScheduled] = "true"
	}
	return createOnce(ctx, r, s, wanted[*v1alpha1.KeyRotation, v1alpha1.RotationCreator]{
		object: kr, kind: "KeyRotation", reason: "RotationCreated", action: "Rotate", due: due,
		createdBy: func(kr *v1alpha1.KeyRotation) *v1alpha1.RotationCreator { return &kr.Status.CreatedBy }, by: by,
		existing: existing, same: func() bool { return metav1.IsControlledBy(existing, s.sn) && existing.Spec == kr.Spec },
		trouble: &s.rotationFinding,
	})
}
