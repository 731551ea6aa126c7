package keyrotation

import (
	"cmp"
	"context"
	"fmt"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/securenotes/securenotes/api/v1alpha1"
	"github.com/securenotes/securenotes/app/config"
	"github.com/securenotes/securenotes/controllers/internal/operand"
	"github.com/securenotes/securenotes/controllers/internal/rotations"
	"github.com/securenotes/securenotes/controllers/internal/secretrecord"
	"github.com/securenotes/securenotes/controllers/internal/stalecache"
	"github.com/securenotes/securenotes/controllers/internal/steps"
	"github.com/securenotes/securenotes/controllers/internal/vaultadmin"
)

// replaceSessionKeys creates new session keys in Vault. The pods restart with them.
var replaceSessionKeys = step{
	Name: "ReplaceSessionKeys",
	Due: steps.When(func(o observed) bool {
		return replacesSessionKeys(o.rotation) && !hasNewSessionKeys(o.rotation, o.parent)
	}),
	Do: func(ctx context.Context, r *Reconciler, o observed) error {
		return r.replaceSessionKeys(ctx, o.rotation, o.parent)
	},
}

// deleteOldSessionKeys destroys the previous session keys once every pod has restarted. Other steps
// do not wait for that.
var deleteOldSessionKeys = step{
	Name: "DeleteOldSessionKeys",
	Due:  steps.When(func(o observed) bool { return replacesSessionKeys(o.rotation) && o.restarted }),
	Do: func(ctx context.Context, r *Reconciler, o observed) error {
		vault, err := r.vaultOf(o.parent)
		if err != nil {
			return err
		}
		if err := vault.DeleteOtherSessionKeys(ctx, r.keysOf(o.parent), o.rotation.Status.ReplacedSessionKeys); err != nil {
			return err
		}
		return r.record(ctx, o, v1alpha1.ConditionSessionKeysReplaced,
			fmt.Sprintf("every pod of the API uses %s, and the previous session keys are destroyed in Vault", o.parent.Status.SessionKeys))
	},
}

// awaitRestart waits until no pod uses the previous session keys. Only the end of the rotation
// waits for that.
var awaitRestart = step{
	Name: "AwaitRestart",
	Due: func(o observed) (decision, bool) {
		if !replacesSessionKeys(o.rotation) {
			return steps.NotDue()
		}
		return steps.WaitingForWorkload(o.parent, v1alpha1.ReasonRestartingPods, "waits until every pod of the API has restarted with the new session keys",
			"check for an old pod with the labels of the API that is stuck, for example on an unreachable node")
	},
}

// replacesSessionKeys reports whether a rotation has yet to replace the session keys everywhere.
func replacesSessionKeys(kr *v1alpha1.KeyRotation) bool {
	return rotations.Compromise(kr) && !rotations.IsTrue(kr, v1alpha1.ConditionSessionKeysReplaced)
}

// hasNewSessionKeys reports whether the SecureNotes uses session keys that were created for this
// Compromise, by this release or by an earlier one, whose names have no random digits.
func hasNewSessionKeys(kr *v1alpha1.KeyRotation, parent *v1alpha1.SecureNotes) bool {
	return config.SessionKeysVersion(parent.Status.SessionKeys) == *kr.Status.ToVersion
}

// restarted reports whether every pod of the API started with the session keys that the SecureNotes
// uses now.
func (r *Reconciler) restarted(ctx context.Context, parent *v1alpha1.SecureNotes) (bool, error) {
	deployment := &appsv1.Deployment{}
	err := r.Client.Get(ctx, client.ObjectKeyFromObject(parent), deployment)
	if apierrors.IsNotFound(err) {
		deployment, err = nil, nil
	}
	if err != nil {
		return false, err
	}
	pods := &corev1.PodList{}
	if err := r.Client.List(ctx, pods, client.InNamespace(parent.Namespace), client.MatchingLabels(operand.Selector(parent))); err != nil {
		return false, err
	}
	return operand.Restarted(parent.Status.SessionKeys, deployment, pods.Items), nil
}

// replaceSessionKeys creates session keys and records them in the SecureNotes. Once they are
// recorded as in use they are never created again: if they are missing then, that is reported.
func (r *Reconciler) replaceSessionKeys(ctx context.Context, kr *v1alpha1.KeyRotation, parent *v1alpha1.SecureNotes) error {
	current := &v1alpha1.SecureNotes{}
	if err := r.Live.Get(ctx, client.ObjectKeyFromObject(parent), current); err != nil {
		return err
	}
	if current.UID != parent.UID || gone(current) || hasNewSessionKeys(kr, current) {
		return stalecache.New("SecureNotes", parent.Name, "it has changed since it was read")
	}
	vault, err := r.vaultOf(parent)
	if err != nil {
		return err
	}
	// What is destroyed later is recorded here, not only in Vault: anyone who has the operator's
	// Vault token can change what Vault says.
	if kr.Status.ReplacedSessionKeys == "" {
		entry := cmp.Or(current.Status.SessionKeys, config.SessionKeysLeaf)
		if err := r.patchStatus(ctx, kr, func(s *v1alpha1.KeyRotationStatus) { s.ReplacedSessionKeys = entry }); err != nil {
			return err
		}
	}
	keys := r.keysOf(current)
	keys.Record = func(ctx context.Context, secrets vaultadmin.Secrets) error {
		current, err = r.recordSecrets(ctx, current, secrets)
		return err
	}
	return vault.ReplaceSessionKeys(ctx, keys, *kr.Status.ToVersion)
}

// maxConflicts bounds how often a record is retried because another writer came first.
const maxConflicts = 5

// recordSecrets replaces the secrets recorded in the status of current, even if other parts of the
// status change meanwhile, and returns the object as it is then.
func (r *Reconciler) recordSecrets(ctx context.Context, current *v1alpha1.SecureNotes, secrets vaultadmin.Secrets) (*v1alpha1.SecureNotes, error) {
	replaced := secretrecord.Get(&current.Status)
	for range maxConflicts {
		updated := current.DeepCopy()
		secretrecord.Set(&updated.Status, secrets)
		err := r.Client.Status().Patch(ctx, updated, client.MergeFromWithOptions(current, client.MergeFromWithOptimisticLock{}))
		if err == nil {
			return updated, nil
		}
		if !apierrors.IsConflict(err) {
			return current, err
		}
		latest := &v1alpha1.SecureNotes{}
		if err := r.Live.Get(ctx, client.ObjectKeyFromObject(current), latest); err != nil {
			return current, err
		}
		if latest.UID != current.UID || gone(latest) || secretrecord.Get(&latest.Status) != replaced {
			return current, err
		}
		current = latest
	}
	return current, stalecache.New("SecureNotes", current.Name, fmt.Sprintf("its status has changed %d times while it was being written", maxConflicts))
}
