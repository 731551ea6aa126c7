package keyrotation

import (
	"context"
	"fmt"
	"slices"
	"strings"

	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/securenotes/securenotes/api/v1alpha1"
	"github.com/securenotes/securenotes/controllers/internal/operand"
	"github.com/securenotes/securenotes/controllers/internal/rotations"
	"github.com/securenotes/securenotes/controllers/internal/steps"
	"github.com/securenotes/securenotes/controllers/internal/trustedjob"
)

// A Compromise has the service accounts recreated. Their UIDs are recorded before one is deleted,
// and only an account of a recorded UID ever is, so each is deleted once. The reconciler of the
// SecureNotes recreates them like any missing child. Backup Jobs that were created with the old
// accounts are then deleted; the controller of NotesBackups creates others.

// account is a ServiceAccount of the SecureNotes as it is now.
type account struct {
	name string
	// uid is empty if the account does not exist.
	uid types.UID
	// owned says that the SecureNotes controls it; deleting, that it is being deleted.
	owned, deleting bool
	created         metav1.Time
}

// failForeignAccount fails a Compromise if one of the accounts belongs to another object.
var failForeignAccount = step{
	Name: "FailForeignAccount",
	Due: func(o observed) (decision, bool) {
		for _, a := range o.accounts {
			if recreatesAccounts(o.rotation) && a.uid != "" && !a.owned {
				return steps.Failing(v1alpha1.ReasonNameConflict, "ServiceAccount %s does not belong to SecureNotes %s, so it is not replaced: delete it", a.name, o.parent.Name)
			}
		}
		return steps.NotDue()
	},
}

// recordAccounts records the UIDs of the accounts that are to be deleted.
var recordAccounts = step{
	Name: "RecordAccounts",
	Due: steps.When(func(o observed) bool {
		return recreatesAccounts(o.rotation) && len(o.rotation.Status.ReplacedServiceAccounts) == 0
	}),
	Do: func(ctx context.Context, r *Reconciler, o observed) error {
		return r.patchStatus(ctx, o.rotation, func(s *v1alpha1.KeyRotationStatus) { setReplacedAccounts(s, o.accounts) })
	},
}

// deleteAccounts deletes the accounts of the recorded UIDs.
var deleteAccounts = step{
	Name: "DeleteAccounts",
	Due: steps.When(func(o observed) bool {
		for _, a := range o.accounts {
			if recreatesAccounts(o.rotation) && a.uid != "" && !a.deleting && a.uid == replacedUID(o.rotation, a.name) {
				return true
			}
		}
		return false
	}),
	Do: func(ctx context.Context, r *Reconciler, o observed) error { return r.deleteAccounts(ctx, o.rotation) },
}

// awaitAccounts waits until the accounts have been recreated.
var awaitAccounts = step{
	Name: "AwaitAccounts",
	Due: func(o observed) (decision, bool) {
		missing := ""
		for _, a := range o.accounts {
			if a.uid == "" || a.deleting {
				missing = a.name
			}
		}
		if !recreatesAccounts(o.rotation) || missing == "" {
			return steps.NotDue()
		}
		return steps.WaitingForWorkload(o.parent, v1alpha1.ReasonRecreatingAccounts,
			"waits for ServiceAccount "+missing+" to be recreated", "check whether finalizers keep the old one")
	},
}

// stopBackups deletes the backup Jobs that run with the old accounts.
var stopBackups = step{
	Name: "StopBackups",
	Due:  steps.When(func(o observed) bool { return recreatesAccounts(o.rotation) && len(o.oldBackups) > 0 }),
	Do: func(ctx context.Context, r *Reconciler, o observed) error {
		for _, job := range o.oldBackups {
			err := r.Client.Delete(ctx, &job, client.Preconditions{UID: &job.UID}, client.PropagationPolicy(metav1.DeletePropagationBackground))
			if client.IgnoreNotFound(err) != nil {
				return err
			}
			logger(ctx, o.rotation).Info("stopped a backup, which starts again with the recreated ServiceAccount", "job", job.Name)
		}
		return nil
	},
}

// recordAccountsRecreated records that the accounts have been recreated.
var recordAccountsRecreated = step{
	Name: "RecordAccountsRecreated",
	Due:  steps.When(func(o observed) bool { return recreatesAccounts(o.rotation) }),
	Do: func(ctx context.Context, r *Reconciler, o observed) error {
		var names []string
		for _, a := range o.accounts {
			names = append(names, a.name)
		}
		last := len(names) - 1
		return r.record(ctx, o, v1alpha1.ConditionServiceAccountsRecreated, fmt.Sprintf(
			"ServiceAccounts %s and %s were recreated: tokens of the old ones can no longer log in to Vault", strings.Join(names[:last], ", "), names[last]))
	},
}

// recreatesAccounts reports whether a rotation has yet to have the service accounts recreated.
func recreatesAccounts(kr *v1alpha1.KeyRotation) bool {
	return rotations.Compromise(kr) && !rotations.IsTrue(kr, v1alpha1.ConditionServiceAccountsRecreated)
}

// replacedUID returns the recorded UID of an account, or nothing if it did not exist.
func replacedUID(kr *v1alpha1.KeyRotation, name string) types.UID {
	for _, replaced := range kr.Status.ReplacedServiceAccounts {
		if replaced.Name == name {
			return types.UID(replaced.UID)
		}
	}
	return ""
}

// readAccounts reads from the API server, not from the cache, which may be stale: the status must
// record the accounts that exist. Those of backups are there only while spec.backup is set, or if
// they are left from before.
func (r *Reconciler) readAccounts(ctx context.Context, parent *v1alpha1.SecureNotes) ([]account, error) {
	var accounts []account
	for _, name := range []string{
		operand.APIServiceAccount(parent.Name), operand.RotationServiceAccount(parent.Name),
		operand.BackupServiceAccount(parent.Name), operand.BackupEscrowServiceAccount(parent.Name),
		operand.DrillServiceAccount(parent.Name),
	} {
		existing := &corev1.ServiceAccount{}
		err := r.Live.Get(ctx, client.ObjectKey{Namespace: parent.Namespace, Name: name}, existing)
		if client.IgnoreNotFound(err) != nil {
			return nil, err
		}
		a := account{
			name: name, uid: existing.UID, owned: metav1.IsControlledBy(existing, parent),
			deleting: existing.DeletionTimestamp != nil, created: existing.CreationTimestamp,
		}
		if a.owned || wanted(parent, name) {
			accounts = append(accounts, a)
		}
	}
	return accounts, nil
}

// wanted reports whether the SecureNotes has an account of this name.
func wanted(parent *v1alpha1.SecureNotes, name string) bool {
	all := slices.Concat(operand.ServiceAccounts(parent), operand.BackupServiceAccounts(parent))
	return slices.ContainsFunc(all, func(desired *corev1.ServiceAccount) bool { return desired.Name == name })
}

// readOldBackups returns the Jobs of NotesBackups that have not ended and were not created after
// their account. It reads past the cache, which may not show the last one. Creation times have
// whole seconds, so a Job of the same second counts as old; the next one will not.
func (r *Reconciler) readOldBackups(ctx context.Context, parent *v1alpha1.SecureNotes, accounts []account) ([]batchv1.Job, error) {
	jobs := &batchv1.JobList{}
	err := r.Live.List(ctx, jobs, client.InNamespace(parent.Namespace), client.MatchingLabels(operand.Labels(parent, operand.ComponentBackup)))
	if err != nil {
		return nil, err
	}
	return slices.DeleteFunc(jobs.Items, func(job batchv1.Job) bool {
		controller := metav1.GetControllerOf(&job)
		if controller == nil || controller.Kind != "NotesBackup" || job.DeletionTimestamp != nil || trustedjob.Ended(&job) {
			return true
		}
		return slices.ContainsFunc(accounts, func(a account) bool {
			return a.name == job.Spec.Template.Spec.ServiceAccountName && a.created.Before(&job.CreationTimestamp)
		})
	}), nil
}

func setReplacedAccounts(s *v1alpha1.KeyRotationStatus, accounts []account) {
	for _, a := range accounts {
		s.ReplacedServiceAccounts = append(s.ReplacedServiceAccounts, v1alpha1.ReplacedServiceAccount{Name: a.name, UID: string(a.uid)})
	}
}

func (r *Reconciler) deleteAccounts(ctx context.Context, kr *v1alpha1.KeyRotation) error {
	for _, replaced := range kr.Status.ReplacedServiceAccounts {
		if replaced.UID == "" {
			continue
		}
		existing := &corev1.ServiceAccount{ObjectMeta: metav1.ObjectMeta{Namespace: kr.Namespace, Name: replaced.Name}}
		err := r.Client.Delete(ctx, existing, client.Preconditions{UID: new(types.UID(replaced.UID))})
		// A conflict means that the account has been recreated already.
		if err != nil && !apierrors.IsNotFound(err) && !apierrors.IsConflict(err) {
			return err
		}
	}
	return nil
}
