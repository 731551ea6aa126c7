package securenotes

import (
	"context"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/securenotes/securenotes/api/v1alpha1"
	"github.com/securenotes/securenotes/controllers/internal/secretrecord"
	"github.com/securenotes/securenotes/controllers/internal/vaultadmin"
)

// patchStatus writes the status once, if it changed, guarded by the resourceVersion: rotations write
// to the list of retirements too.
func (r *Reconciler) patchStatus(ctx context.Context, s *scope) error {
	status := computeStatus(s)
	if equality.Semantic.DeepEqual(s.original.Status, status) {
		r.tell(s)
		return nil
	}
	updated := s.original.DeepCopy()
	updated.Status = status
	if err := r.Client.Status().Patch(ctx, updated, client.MergeFromWithOptions(s.original, client.MergeFromWithOptimisticLock{})); err != nil {
		return client.IgnoreNotFound(err)
	}
	r.tell(s)
	r.announce(s, status.Conditions)
	return nil
}

// recordSecrets writes what is about to be created in Vault into the status, unless the object has
// changed since it was read: another operator may have recorded, or created, secrets since.
func (r *Reconciler) recordSecrets(ctx context.Context, s *scope, secrets vaultadmin.Secrets) error {
	updated := s.original.DeepCopy()
	secretrecord.Set(&updated.Status, secrets)
	if err := r.Client.Status().Patch(ctx, updated, client.MergeFromWithOptions(s.original, client.MergeFromWithOptimisticLock{})); err != nil {
		return err
	}
	s.original, s.sn.ResourceVersion = updated, updated.ResourceVersion
	secretrecord.Set(&s.sn.Status, secrets)
	s.use(secrets)
	return nil
}

// announce makes an event of each condition that has turned.
func (r *Reconciler) announce(s *scope, conditions []metav1.Condition) {
	for _, c := range conditions {
		if c.Type == v1alpha1.ConditionReconciling || c.Type == v1alpha1.ConditionStalled || c.Status == metav1.ConditionUnknown {
			continue
		}
		before := meta.FindStatusCondition(s.original.Status.Conditions, c.Type)
		if before != nil && before.Status == c.Status && before.Reason == c.Reason {
			continue
		}
		kind := corev1.EventTypeNormal
		if c.Reason == v1alpha1.ReasonCertificateExpiring || c.Reason == v1alpha1.ReasonHostnameKept || c.Status == metav1.ConditionFalse && c.Reason != v1alpha1.ReasonProgressing && c.Reason != v1alpha1.ReasonIssuing {
			kind = corev1.EventTypeWarning
		}
		if c.Type == v1alpha1.ConditionAnnotationIgnored {
			kind = corev1.EventTypeWarning
		}
		r.Recorder.Eventf(s.sn, nil, kind, c.Reason, "Reconcile", "%s: %s", c.Type, c.Message)
	}
}
