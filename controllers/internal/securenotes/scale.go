package securenotes

import (
	"context"
	"fmt"

	autoscalingv1 "k8s.io/api/autoscaling/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/log"

	"github.com/securenotes/securenotes/api/v1alpha1"
	"github.com/securenotes/securenotes/controllers/internal/apply"
	"github.com/securenotes/securenotes/controllers/internal/operand"
)

// +kubebuilder:rbac:groups=securenotes.dev,resources=securenotes/scale,verbs=update

// fillReplicas writes the default into spec.replicas if it is unset. Without it the scale
// subresource does not work, and autoscalers fail. A number that is set stays. A write to the scale
// subresource owns no field, so users who apply replicas later get no conflict.
func (r *Reconciler) fillReplicas(ctx context.Context, sn *v1alpha1.SecureNotes) error {
	if sn.Spec.Replicas != nil {
		return nil
	}
	live := &v1alpha1.SecureNotes{}
	if err := r.Live.Get(ctx, client.ObjectKeyFromObject(sn), live); err != nil {
		return client.IgnoreNotFound(err)
	}
	if live.UID != sn.UID || live.Generation != sn.Generation || live.Spec.Replicas != nil {
		return nil // the cache is stale; the newer state causes another pass
	}
	scale := &autoscalingv1.Scale{
		// The resourceVersion lets a user win who sets the number at the same time.
		ObjectMeta: metav1.ObjectMeta{Name: live.Name, Namespace: live.Namespace, UID: live.UID, ResourceVersion: live.ResourceVersion},
		Spec:       autoscalingv1.ScaleSpec{Replicas: operand.Replicas(live)},
	}
	err := r.Client.SubResource("scale").Update(ctx, live, client.WithSubResourceBody(scale), client.FieldOwner(apply.FieldManager))
	switch {
	case apierrors.IsInvalid(err):
		log.FromContext(ctx).Info("spec.replicas stays unset: the object was stored under an earlier schema, and the current one rejects another of its fields", "error", err.Error())
		return nil
	case apierrors.IsNotFound(err):
		return nil
	case err != nil:
		return fmt.Errorf("fill in spec.replicas: %w", err)
	}
	log.FromContext(ctx).Info("spec.replicas filled in", "replicas", scale.Spec.Replicas)
	return nil
}
