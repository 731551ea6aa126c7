package securenotes

import (
	"context"
	"errors"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/securenotes/securenotes/api/v1alpha1"
	"github.com/securenotes/securenotes/controllers/internal/apply"
	"github.com/securenotes/securenotes/controllers/internal/cause"
	"github.com/securenotes/securenotes/controllers/internal/operand"
)

// backupIdentities applies the service accounts of backup Jobs. They exist only while spec.backup
// is set, because Vault gives them rights. Without them the service still works, so what is wrong
// with them concerns only the backups.
func (r *Reconciler) backupIdentities(ctx context.Context, s *scope) error {
	var errs []error
	for _, account := range operand.BackupServiceAccounts(s.sn) {
		err := r.Apply.Apply(ctx, account, nil, apply.ControlledBy(s.sn))
		conflict, taken := errors.AsType[*apply.ConflictError](err)
		switch c := cause.OfError(err); {
		case taken:
			s.backupFinding = bad(v1alpha1.ReasonNameConflict, conflict.Error())
			s.retry("the object that has the name of a service account of backups is not watched")
		case c.Known():
			s.backupFinding = bad(c.Reason, c.String())
			s.retry("the API server refused a service account of backups")
		default:
			errs = append(errs, err)
		}
	}
	if s.sn.Spec.Backup == nil {
		for _, name := range []string{operand.BackupServiceAccount(s.sn.Name), operand.BackupEscrowServiceAccount(s.sn.Name), operand.DrillServiceAccount(s.sn.Name)} {
			existing := &metav1.PartialObjectMetadata{}
			existing.SetGroupVersionKind(corev1.SchemeGroupVersion.WithKind("ServiceAccount"))
			errs = append(errs, r.remove(ctx, s, name, existing))
		}
	}
	return errors.Join(errs...)
}
