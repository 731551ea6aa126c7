package securenotes

import (
	"context"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/log"

	"github.com/securenotes/securenotes/api/v1alpha1"
	"github.com/securenotes/securenotes/controllers/internal/secretrecord"
	"github.com/securenotes/securenotes/controllers/internal/vaultadmin"
)

// patchStatus writes the status if it changed. The resourceVersion guards the write, because
// rotations write to the list of retirements too.
func (r *Reconciler) patchStatus(ctx context.Context, s *scope) error {
	status := computeStatus(s)
	if equality.Semantic.DeepEqual(s.original.Status, status) {
		r.emit(s)
		return nil
	}
	updated := s.original.DeepCopy()
	updated.Status = status
	if err := r.Client.Status().Patch(ctx, updated, client.MergeFromWithOptions(s.original, client.MergeFromWithOptimisticLock{})); err != nil {
		return client.IgnoreNotFound(err)
	}
	r.emit(s)
	r.announce(ctx, s, status.Conditions)
	return nil
}

// recordSecrets writes into the status which secrets are about to be created in Vault.
func (r *Reconciler) recordSecrets(ctx context.Context, s *scope, secrets vaultadmin.Secrets) error {
	err := r.recordNow(ctx, s, func(status *v1alpha1.SecureNotesStatus) { secretrecord.Set(status, secrets) })
	if err == nil {
		s.setSecrets(secrets)
	}
	return err
}

// recordNow writes a change of the status before the pass goes on. It fails if the object has
// changed since it was read: another operator may have recorded or created something.
func (r *Reconciler) recordNow(ctx context.Context, s *scope, change func(*v1alpha1.SecureNotesStatus)) error {
	updated := s.original.DeepCopy()
	change(&updated.Status)
	if err := r.Client.Status().Patch(ctx, updated, client.MergeFromWithOptions(s.original, client.MergeFromWithOptimisticLock{})); err != nil {
		return err
	}
	s.original, s.sn.ResourceVersion = updated, updated.ResourceVersion
	change(&s.sn.Status)
	return nil
}

// announce logs each condition whose status or reason differs from the previous one. It also emits
// an event for the condition, unless its new status is Unknown.
func (r *Reconciler) announce(ctx context.Context, s *scope, conditions []metav1.Condition) {
	for _, c := range conditions {
		before := meta.FindStatusCondition(s.original.Status.Conditions, c.Type)
		if c.Type == v1alpha1.ConditionWorkloadReady && s.metricsConflict != nil {
			r.announceMetrics(s, before, c)
		}
		if before != nil && before.Status == c.Status && before.Reason == c.Reason {
			continue
		}
		if c.Type == v1alpha1.ConditionReconciling || c.Type == v1alpha1.ConditionStalled {
			continue // they repeat Ready
		}
		log.FromContext(ctx).Info("condition changed", "condition", c.Type, "status", c.Status, "reason", c.Reason, "message", c.Message)
		if c.Status == metav1.ConditionUnknown {
			continue
		}
		r.Recorder.Eventf(s.sn, nil, eventType(c), c.Reason, "Reconcile", "%s: %s", c.Type, c.Message)
	}
}

// announceMetrics emits a Warning when a condition begins to say that the metrics have no Service.
func (r *Reconciler) announceMetrics(s *scope, before *metav1.Condition, after metav1.Condition) {
	message := metricsMessage(s)
	if strings.Contains(after.Message, message) && (before == nil || !strings.Contains(before.Message, message)) {
		r.Recorder.Eventf(s.sn, nil, corev1.EventTypeWarning, v1alpha1.ReasonNameConflict, "Reconcile", "%s", message)
	}
}

// eventType returns Warning for a condition that needs attention.
func eventType(c metav1.Condition) string {
	switch {
	case c.Type == v1alpha1.ConditionAnnotationIgnored, c.Type == v1alpha1.ConditionBackupKeyUnusable,
		c.Reason == v1alpha1.ReasonCertificateExpiring, c.Reason == v1alpha1.ReasonHostnameKept,
		c.Status == metav1.ConditionFalse && !slices.Contains(inProgress, c.Reason):
		return corev1.EventTypeWarning
	default:
		return corev1.EventTypeNormal
	}
}
