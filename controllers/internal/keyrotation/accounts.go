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
)

// account is a ServiceAccount of the SecureNotes as it is now.
type account struct {
	name string
	// uid is empty when there is none of that name.
	uid types.UID
	// owned says that the SecureNotes controls it; going, that it is being deleted.
	owned, going bool
}

// stepOfAccounts decides how the service accounts come to be made anew. Their UIDs are recorded before any is
// deleted, and only an account of a recorded UID ever is: each is deleted once, however often this is begun.
// The SecureNotes' own reconciler makes them anew, as it would any child that is missing.
func stepOfAccounts(o observed) decision {
	for _, a := range o.accounts {
		if a.uid != "" && !a.owned {
			return fail(v1alpha1.ReasonNameConflict, "ServiceAccount %s does not belong to SecureNotes %s, so it is not replaced: delete it", a.name, o.parent.Name)
		}
	}
	replaced := o.rotation.Status.ReplacedServiceAccounts
	if len(replaced) == 0 {
		return decision{action: actionRecordAccounts}
	}
	missing := ""
	for _, a := range o.accounts {
		switch {
		case a.uid == "" || a.going:
			missing = a.name
		case a.uid == uidBefore(replaced, a.name):
			return decision{action: actionDeleteAccounts}
		}
	}
	if missing != "" {
		return waitForWorkload(o.parent, v1alpha1.ReasonRecreatingAccounts,
			"waits for ServiceAccount "+missing+" to be recreated", "whether finalizers keep the old one")
	}
	return decision{action: actionRecordAccountsRecreated}
}

func uidBefore(replaced []v1alpha1.ReplacedServiceAccount, name string) types.UID {
	for _, before := range replaced {
		if before.Name == name {
			return types.UID(before.UID)
		}
	}
	return ""
}

// readAccounts reads past the cache: what is recorded must be what there is.
func (r *Reconciler) readAccounts(ctx context.Context, parent *v1alpha1.SecureNotes) ([]account, error) {
	var accounts []account
	for _, desired := range operand.ServiceAccounts(parent) {
		existing := &corev1.ServiceAccount{}
		err := r.Live.Get(ctx, client.ObjectKeyFromObject(desired), existing)
		if client.IgnoreNotFound(err) != nil {
			return nil, err
		}
		accounts = append(accounts, account{
			name: desired.Name, uid: existing.UID, owned: metav1.IsControlledBy(existing, parent), going: existing.DeletionTimestamp != nil,
		})
	}
	return accounts, nil
}

func recordAccounts(s *v1alpha1.KeyRotationStatus, accounts []account) {
	for _, a := range accounts {
		s.ReplacedServiceAccounts = append(s.ReplacedServiceAccounts, v1alpha1.ReplacedServiceAccount{Name: a.name, UID: string(a.uid)})
	}
}

// deleteAccounts deletes those that are recorded and still there.
func (r *Reconciler) deleteAccounts(ctx context.Context, kr *v1alpha1.KeyRotation) error {
	for _, before := range kr.Status.ReplacedServiceAccounts {
		if before.UID == "" {
			continue
		}
		existing := &corev1.ServiceAccount{ObjectMeta: metav1.ObjectMeta{Namespace: kr.Namespace, Name: before.Name}}
		err := r.Client.Delete(ctx, existing, client.Preconditions{UID: new(types.UID(before.UID))})
		// Gone, or another one has taken its place already.
		if err != nil && !apierrors.IsNotFound(err) && !apierrors.IsConflict(err) {
			return err
		}
	}
	return nil
}

func accountsRecreated(kr *v1alpha1.KeyRotation) string {
	var names []string
	for _, before := range kr.Status.ReplacedServiceAccounts {
		names = append(names, before.Name)
	}
	return fmt.Sprintf("ServiceAccounts %s were deleted and created again: no token of the old ones logs in to Vault any more", strings.Join(names, " and "))
}
