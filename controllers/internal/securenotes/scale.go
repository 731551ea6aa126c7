package securenotes

import (
	"context"
	"fmt"

	autoscalingv1 "k8s.io/api/autoscaling/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/securenotes/securenotes/api/v1alpha1"
	"github.com/securenotes/securenotes/controllers/internal/apply"
	"github.com/securenotes/securenotes/controllers/internal/operand"
)

// +kubebuilder:rbac:groups=securenotes.dev,resources=securenotes/scale,verbs=update

// fillReplicas writes the default into spec.replicas where it is unset: the scale subresource has
// no answer without it, and autoscalers then fail. A number that is set is never touched. A write
// to the scale subresource owns no field, so that users who apply replicas later meet no conflict.
func (r *Reconciler) fillReplicas(ctx context.Context, sn *v1alpha1.SecureNotes) error {
	if sn.Spec.Replicas != nil {
		return nil
	}
	live := &v1alpha1.SecureNotes{}
	if err := r.Live.Get(ctx, client.ObjectKeyFromObject(sn), live); err != nil {
		return client.IgnoreNotFound(err)
	}
	if live.UID != sn.UID || live.Generation != sn.Generation || live.Spec.Replicas != nil {
		return nil // the cache is behind, and the newer state comes here
	}
	scale := &autoscalingv1.Scale{
		// The version makes a user who sets it at the same time win.
		ObjectMeta: metav1.ObjectMeta{Name: live.Name, Namespace: live.Namespace, UID: live.UID, ResourceVersion: live.ResourceVersion},
		Spec:       autoscalingv1.ScaleSpec{Replicas: operand.Replicas(live)},
	}
	err := r.Client.SubResource("scale").Update(ctx, live, client.WithSubResourceBody(scale), client.FieldOwner(apply.FieldManager))
	if apierrors.IsInvalid(err) {
		ctrl.LoggerFrom(ctx).Info("spec.replicas stays unset: the object was stored under an earlier schema, and another field of it is not allowed any more", "error", err.Error())
		return nil
	}
	if err = client.IgnoreNotFound(err); err != nil {
		return fmt.Errorf("fill in spec.replicas: %w", err)
	}
	return nil
}
