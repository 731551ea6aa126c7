package keyrotation

import (
	"context"
	"fmt"
	"strings"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/securenotes/securenotes/api/v1alpha1"
	"github.com/securenotes/securenotes/controllers/internal/operand"
	"github.com/securenotes/securenotes/controllers/internal/rotations"
)

// A Compromise has the service accounts recreated. Their UIDs are recorded before one is deleted,
// and only an account of a recorded UID ever is, so each is deleted once. The reconciler of the
// SecureNotes recreates them like any missing child.

// account is a ServiceAccount of the SecureNotes as it is now.
type account struct {
	name string
	// uid is empty if the account does not exist.
	uid types.UID
	// owned says that the SecureNotes controls it; deleting, that it is being deleted.
	owned, deleting bool
}

// failForeignAccount fails a Compromise if one of the accounts belongs to another object.
var failForeignAccount = step{
	name: "FailForeignAccount",
	due: func(o observed) (decision, bool) {
		for _, a := range o.accounts {
			if recreatesAccounts(o.rotation) && a.uid != "" && !a.owned {
				return failing(v1alpha1.ReasonNameConflict, "ServiceAccount %s does not belong to SecureNotes %s, so it is not replaced: delete it", a.name, o.parent.Name)
			}
		}
		return notDue()
	},
}

// recordAccounts records the UIDs of the accounts that are to be deleted.
var recordAccounts = step{
	name: "RecordAccounts",
	due: when(func(o observed) bool {
		return recreatesAccounts(o.rotation) && len(o.rotation.Status.ReplacedServiceAccounts) == 0
	}),
	do: func(ctx context.Context, r *Reconciler, o observed) error {
		return r.patchStatus(ctx, o.rotation, func(s *v1alpha1.KeyRotationStatus) { setReplacedAccounts(s, o.accounts) })
	},
}

// deleteAccounts deletes the accounts of the recorded UIDs.
var deleteAccounts = step{
	name: "DeleteAccounts",
	due: when(func(o observed) bool {
		for _, a := range o.accounts {
			if recreatesAccounts(o.rotation) && a.uid != "" && !a.deleting && a.uid == replacedUID(o.rotation, a.name) {
				return true
			}
		}
		return false
	}),
	do: func(ctx context.Context, r *Reconciler, o observed) error { return r.deleteAccounts(ctx, o.rotation) },
}

// awaitAccounts waits until the accounts have been recreated.
var awaitAccounts = step{
	name: "AwaitAccounts",
	due: func(o observed) (decision, bool) {
		missing := ""
		for _, a := range o.accounts {
			if a.uid == "" || a.deleting {
				missing = a.name
			}
		}
		if !recreatesAccounts(o.rotation) || missing == "" {
			return notDue()
		}
		return waitingForWorkload(o.parent, v1alpha1.ReasonRecreatingAccounts,
			"waits for ServiceAccount "+missing+" to be recreated", "check whether finalizers keep the old one")
	},
}

// recordAccountsRecreated records that the accounts have been recreated.
var recordAccountsRecreated = step{
	name: "RecordAccountsRecreated",
	due:  when(func(o observed) bool { return recreatesAccounts(o.rotation) }),
	do: func(ctx context.Context, r *Reconciler, o observed) error {
		var names []string
		for _, replaced := range o.rotation.Status.ReplacedServiceAccounts {
			names = append(names, replaced.Name)
		}
		return r.record(ctx, o, v1alpha1.ConditionServiceAccountsRecreated,
			fmt.Sprintf("ServiceAccounts %s were recreated: tokens of the old ones can no longer log in to Vault", strings.Join(names, " and ")))
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
// record the accounts that exist.
func (r *Reconciler) readAccounts(ctx context.Context, parent *v1alpha1.SecureNotes) ([]account, error) {
	var accounts []account
	for _, desired := range operand.ServiceAccounts(parent) {
		existing := &corev1.ServiceAccount{}
		err := r.Live.Get(ctx, client.ObjectKeyFromObject(desired), existing)
		if client.IgnoreNotFound(err) != nil {
			return nil, err
		}
		accounts = append(accounts, account{
			name: desired.Name, uid: existing.UID, owned: metav1.IsControlledBy(existing, parent), deleting: existing.DeletionTimestamp != nil,
		})
	}
	return accounts, nil
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
