package notesrestore

import (
	"context"
	"fmt"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/utils/ptr"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/securenotes/securenotes/api/v1alpha1"
	"github.com/securenotes/securenotes/controllers/internal/operand"
	"github.com/securenotes/securenotes/controllers/internal/steps"
)

// maxPods bounds the pods that are read past the cache, also those that have ended. If there are
// more, a restore waits: anyone may create pods with our labels.
const maxPods = 100

// awaitStill waits until no pod of the SecureNotes is left. Package securenotes scales the
// Deployment to 0.
var awaitStill = step{
	Name: "AwaitStill",
	Due: func(o observed) (decision, bool) {
		if o.moving == "" {
			return steps.NotDue()
		}
		return steps.Waiting(v1alpha1.ReasonStopping, "waits until %s", o.moving)
	},
}

// moving says past the cache why a SecureNotes does not stand still; empty if it does.
func (r *Reconciler) moving(ctx context.Context, parent *v1alpha1.SecureNotes) (string, error) {
	deployment := &appsv1.Deployment{}
	err := r.Live.Get(ctx, client.ObjectKeyFromObject(parent), deployment)
	if client.IgnoreNotFound(err) != nil {
		return "", err
	}
	if err == nil && (ptr.Deref(deployment.Spec.Replicas, 1) != 0 || deployment.Status.ObservedGeneration < deployment.Generation) {
		return fmt.Sprintf("Deployment %s is scaled to 0", deployment.Name), nil
	}
	return r.alive(ctx, parent.Namespace, client.MatchingLabels{operand.LabelInstance: parent.Name, operand.LabelManagedBy: operand.ManagedBy})
}

// alive says past the cache which pod with these labels may still run a process, in the form of an
// event that is waited for; empty if none may.
func (r *Reconciler) alive(ctx context.Context, namespace string, of client.MatchingLabels) (string, error) {
	pods := &corev1.PodList{}
	if err := r.Live.List(ctx, pods, client.InNamespace(namespace), client.Limit(maxPods), of); err != nil {
		return "", err
	}
	for i := range pods.Items {
		if phase := pods.Items[i].Status.Phase; phase != corev1.PodSucceeded && phase != corev1.PodFailed {
			return fmt.Sprintf("pod %s has ended", pods.Items[i].Name), nil
		}
	}
	if pods.Continue != "" {
		return fmt.Sprintf("at most %d pods with the labels %s exist: delete those that have ended", maxPods, labels.Set(of)), nil
	}
	return "", nil
}

// createAccount creates the service account of the Job. One that somebody has created for Jobs of
// their own is not used: its tokens may be in use elsewhere.
var createAccount = step{
	Name: "CreateAccount",
	Due: func(o observed) (decision, bool) {
		switch {
		case o.ownAccount() && o.account.DeletionTimestamp == nil:
			return steps.NotDue()
		case o.account == nil:
			return decision{}, true
		case o.account.DeletionTimestamp != nil:
			return steps.Waiting(v1alpha1.ReasonStopping, "waits until ServiceAccount %s of an earlier restore is gone", o.account.Name)
		default:
			return steps.Failing(v1alpha1.ReasonNameConflict, "ServiceAccount %s exists and does not belong to this NotesRestore: delete it", o.account.Name)
		}
	},
	Do: func(ctx context.Context, r *Reconciler, o observed) error {
		account := operand.RestoreAccount(o.restore, o.parent)
		return steps.UnlessExists("ServiceAccount", account.Name, r.Client.Create(ctx, account))
	},
}

// observeConfiguration reads past the cache, which has no data of ConfigMaps.
func (r *Reconciler) observeConfiguration(ctx context.Context, o *observed) error {
	env, err := r.environmentOf(o.parent)
	if err != nil {
		return err
	}
	desired, invalid := operand.RestoreConfigMap(o.restore, o.parent, env)
	o.configuration, err = steps.ReadConfiguration(ctx, r.Live, o.restore, desired, invalid)
	return err
}

// createConfiguration creates the ConfigMap of the Job.
var createConfiguration = step{
	Name: "CreateConfiguration",
	Due: func(o observed) (decision, bool) {
		if d, due := o.configuration.Check("the destination"); due {
			return d, true
		}
		return decision{}, o.configuration.Missing()
	},
	Do: func(ctx context.Context, r *Reconciler, o observed) error {
		return o.configuration.Create(ctx, r.Client)
	},
}
