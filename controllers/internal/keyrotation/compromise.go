package keyrotation

import (
	"cmp"
	"context"
	"fmt"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/securenotes/securenotes/api/v1alpha1"
	"github.com/securenotes/securenotes/app/config"
	"github.com/securenotes/securenotes/controllers/internal/operand"
	"github.com/securenotes/securenotes/controllers/internal/rotations"
	"github.com/securenotes/securenotes/controllers/internal/secretrecord"
	"github.com/securenotes/securenotes/controllers/internal/stalecache"
	"github.com/securenotes/securenotes/controllers/internal/vaultadmin"
)

// compromised are the conditions that every Compromise has, and only a Compromise, in the order in which they become true.
var compromised = []string{
	v1alpha1.ConditionServiceAccountsRecreated, v1alpha1.ConditionSessionKeysReplaced,
	v1alpha1.ConditionSessionsEnded, v1alpha1.ConditionOldVersionRetired,
}

// stepOfCompromise decides what a Compromise does besides rotating: before the Jobs, and once the pods have
// restarted, beside them. The package's comment says why in this order.
func stepOfCompromise(o observed) (d decision, found bool) {
	kr := o.rotation
	switch {
	case !rotations.IsTrue(kr, v1alpha1.ConditionServiceAccountsRecreated):
		return stepOfAccounts(o), true
	case awaitsRevocation(kr, o.parent) && meta.FindStatusCondition(kr.Status.Conditions, v1alpha1.ConditionDatabaseCredentialsReplaced) == nil:
		return decision{action: actionRevokeCredentials}, true
	case rotations.IsTrue(kr, v1alpha1.ConditionSessionKeysReplaced):
		return decision{}, false
	case !hasNewSessionKeys(kr, o.parent):
		return decision{action: actionReplaceSessionKeys}, true
	case o.restarted:
		return decision{action: actionDeleteOldSessionKeys}, true
	default:
		return decision{}, false
	}
}

// hasNewSessionKeys reports whether the SecureNotes uses session keys that were created for this
// Compromise, by this release or by an earlier one, which drew no digits.
func hasNewSessionKeys(kr *v1alpha1.KeyRotation, parent *v1alpha1.SecureNotes) bool {
	return config.SessionKeysVersion(parent.Status.SessionKeys) == *kr.Status.ToVersion
}

// awaitsRestart says whether pods may still run that began with the session keys of before.
func awaitsRestart(kr *v1alpha1.KeyRotation) bool {
	return rotations.Compromise(kr) && !rotations.IsTrue(kr, v1alpha1.ConditionSessionKeysReplaced)
}

// awaitsRevocation says whether database users may still live that Vault made before.
func awaitsRevocation(kr *v1alpha1.KeyRotation, parent *v1alpha1.SecureNotes) bool {
	return rotations.Compromise(kr) && operand.UsesVaultCredentials(parent) && !rotations.IsTrue(kr, v1alpha1.ConditionDatabaseCredentialsReplaced)
}

func (r *Reconciler) observeCompromise(ctx context.Context, o *observed) (err error) {
	kr, parent := o.rotation, o.parent
	switch {
	case !rotations.IsTrue(kr, v1alpha1.ConditionServiceAccountsRecreated):
		o.accounts, err = r.readAccounts(ctx, parent)
	case awaitsRestart(kr) && hasNewSessionKeys(kr, parent):
		o.restarted, err = r.restarted(ctx, parent)
	}
	return err
}

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

// replaceSessionKeys creates session keys and has the SecureNotes use them. Once the SecureNotes
// says so they are never created again: what is missing then is reported.
func (r *Reconciler) replaceSessionKeys(ctx context.Context, kr *v1alpha1.KeyRotation, parent *v1alpha1.SecureNotes) error {
	current := &v1alpha1.SecureNotes{}
	if err := r.Live.Get(ctx, client.ObjectKeyFromObject(parent), current); err != nil {
		return err
	}
	if current.UID != parent.UID || gone(current) || hasNewSessionKeys(kr, current) {
		return stalecache.New("SecureNotes", parent.Name, "it has changed since it was read")
	}
	vault, _, err := r.vaultOf(parent)
	if err != nil {
		return err
	}
	// Not only the marker names what is to be destroyed: anyone who has the operator's Vault token
	// can write to it.
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

// maxConflicts bounds how often a record is tried again that another writer's has overtaken.
const maxConflicts = 5

// recordSecrets writes secrets into the status of current in the place of those that it has,
// whatever else of the status changes meanwhile, and returns the object as it is then.
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

func (r *Reconciler) deleteOldSessionKeys(ctx context.Context, kr *v1alpha1.KeyRotation, parent *v1alpha1.SecureNotes) error {
	vault, _, err := r.vaultOf(parent)
	if err != nil {
		return err
	}
	if err := vault.DeleteOtherSessionKeys(ctx, r.keysOf(parent), kr.Status.ReplacedSessionKeys); err != nil {
		return err
	}
	return r.record(ctx, kr, parent, v1alpha1.ConditionSessionKeysReplaced,
		fmt.Sprintf("every pod of the API uses %s, and the former session keys are destroyed in Vault", parent.Status.SessionKeys))
}

// revokeCredentials has Vault drop the database users that it made. A first try that fails, as while Vault cannot reach
// the database, holds up nothing else: the next one comes when all the rest is done.
func (r *Reconciler) revokeCredentials(ctx context.Context, kr *v1alpha1.KeyRotation, parent *v1alpha1.SecureNotes) error {
	vault, _, err := r.vaultOf(parent)
	if err == nil {
		err = vault.RevokeDatabaseCredentials(ctx, r.keysOf(parent))
	}
	if err == nil {
		return r.record(ctx, kr, parent, v1alpha1.ConditionDatabaseCredentialsReplaced, "every database user that Vault had made is gone; each process has a new one made")
	}
	if meta.FindStatusCondition(kr.Status.Conditions, v1alpha1.ConditionDatabaseCredentialsReplaced) != nil || vaultadmin.ProblemOf(err) == vaultadmin.Busy {
		return err
	}
	reason, step := v1alpha1.ReasonRevocationFailed, ""
	if vaultadmin.OfFeature(err) {
		reason, step = v1alpha1.ReasonSetupMissing, r.setupStep(vault, parent)
	}
	message := "the database users that Vault had made are not all gone: " + err.Error() + step + "; it is tried again at the end"
	return r.thenTell(r.patchStatus(ctx, kr, func(s *v1alpha1.KeyRotationStatus) {
		setCondition(kr, s, v1alpha1.ConditionDatabaseCredentialsReplaced, metav1.ConditionFalse, reason, message)
	}), func() { r.event(kr, parent, corev1.EventTypeWarning, reason, message) })
}

func (r *Reconciler) keysOf(parent *v1alpha1.SecureNotes) vaultadmin.Deployment {
	clusterID := r.Environment.ClusterID
	return vaultadmin.Deployment{
		Key:       config.TransitKeyName(clusterID, parent.Namespace, parent.Name),
		Directory: config.KVPath(clusterID, parent.Namespace, parent.Name),
		UID:       string(parent.UID), ClusterUID: r.Environment.ClusterUID,
		DeploymentID: parent.Status.DeploymentID,
		DatabaseRole: config.DatabaseRoleName(clusterID, parent.Namespace, parent.Name),
		Secrets:      secretrecord.Get(&parent.Status),
	}
}

// record sets a condition of a Compromise, and tells of it on both objects.
func (r *Reconciler) record(ctx context.Context, kr *v1alpha1.KeyRotation, parent *v1alpha1.SecureNotes, condition, message string) error {
	return r.thenTell(r.patchStatus(ctx, kr, func(s *v1alpha1.KeyRotationStatus) {
		setCondition(kr, s, condition, metav1.ConditionTrue, v1alpha1.ReasonComplete, message)
	}), func() { r.tell(kr, parent, condition, message) })
}

// recordRetired tells of the retirement where people look who made the rotation; the SecureNotes has its own
// event of it. Nothing holds the object any more, so it may be gone.
func (r *Reconciler) recordRetired(ctx context.Context, kr *v1alpha1.KeyRotation, parent *v1alpha1.SecureNotes) error {
	message := fmt.Sprintf("key versions below %d no longer decrypt", *kr.Status.ToVersion)
	return client.IgnoreNotFound(r.thenTell(r.patchStatus(ctx, kr, func(s *v1alpha1.KeyRotationStatus) {
		setCondition(kr, s, v1alpha1.ConditionOldVersionRetired, metav1.ConditionTrue, v1alpha1.ReasonComplete, message)
	}), func() { r.event(kr, parent, corev1.EventTypeNormal, v1alpha1.ConditionOldVersionRetired, message) }))
}

func (r *Reconciler) tell(kr *v1alpha1.KeyRotation, parent *v1alpha1.SecureNotes, reason, message string) {
	r.Recorder.Eventf(kr, parent, corev1.EventTypeNormal, reason, "Rotate", "%s", message)
	r.Recorder.Eventf(parent, kr, corev1.EventTypeNormal, reason, "Rotate", "%s", message)
}

func sessionsEnded(kr *v1alpha1.KeyRotation) string {
	return "every session that began at " + kr.Status.StartTime.UTC().Format(time.RFC3339) + " or before has ended"
}
