package securenotes

import (
	"context"
	"slices"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/securenotes/securenotes/api/v1alpha1"
	"github.com/securenotes/securenotes/app/config"
	"github.com/securenotes/securenotes/controllers/internal/operand"
	"github.com/securenotes/securenotes/controllers/internal/stalecache"
	"github.com/securenotes/securenotes/controllers/internal/vaultadmin"
)

// The operator generates an identity of the drill, records its entry and recipient as
// nextIdentity, creates the entry, and then records it among the identities, from where backups
// take the recipient. It cannot read an entry, so after a crash it destroys the recorded next
// identity and creates another.

// missingRightsPause is when the operator tries again after a right in Vault was missing.
const missingRightsPause = 5 * time.Minute

// renewIdentity creates an identity if there is none for the latest version of the master key and
// of the form of spec.backup.recipients.
func (r *Reconciler) renewIdentity(ctx context.Context, s *scope, status *v1alpha1.DrillStatus) error {
	lost := status.Reason == config.ReasonDrillIdentityMissing && len(status.Identities) > 0 && status.Identities[0].Since.Before(status.LastTime)
	if !lost && isCurrentIdentity(s, status) {
		return nil
	}
	if s.original.Status.Backup == nil || s.original.Status.Backup.Drill == nil {
		s.requeueAfter(time.Second, "the identity of the drill is to be created")
		return nil // so that recordNextIdentity changes one field only
	}
	if done, err := r.destroyNextIdentity(ctx, s, status); !done {
		return err
	}
	kept := min(len(status.Identities), config.MaxDrillIdentities-1)
	if lost {
		kept = 0 // the backups that these open cannot be tested any more
	}
	if done, err := r.destroyIdentities(ctx, s, status, kept); !done {
		return err
	}
	return r.createIdentity(ctx, s, status)
}

// isCurrentIdentity reports whether backups can be encrypted to the newest identity.
func isCurrentIdentity(s *scope, status *v1alpha1.DrillStatus) bool {
	if len(status.Identities) == 0 {
		return false
	}
	newest := status.Identities[0]
	return newest.KeyVersion >= s.key.Latest && config.IsHybridRecipient(string(newest.Recipient)) == operand.UsesHybridRecipients(s.sn)
}

func (r *Reconciler) createIdentity(ctx context.Context, s *scope, status *v1alpha1.DrillStatus) error {
	identity, recipient, err := config.NewDrillIdentity(operand.UsesHybridRecipients(s.sn))
	if err != nil {
		return err
	}
	next := v1alpha1.DrillIdentity{
		Entry: config.NewDrillEntry(), Recipient: v1alpha1.AgeRecipient(recipient), KeyVersion: s.key.Latest, Since: metav1.NewTime(s.now),
	}
	done, err := r.callForDrill(ctx, s, func(vault Vault) error {
		return vault.CreateDrillIdentity(ctx, r.deploymentOf(s), next.Entry, identity, func(ctx context.Context) error {
			return r.recordNow(ctx, s, func(recorded *v1alpha1.SecureNotesStatus) { recorded.Backup.Drill.NextIdentity = &next })
		})
	})
	if !done {
		return err
	}
	status.Identities, status.NextIdentity = slices.Insert(status.Identities, 0, next), nil
	return nil
}

// callForDrill calls Vault, and reports whether that succeeded. A missing right is a fault of the
// drill alone.
func (r *Reconciler) callForDrill(ctx context.Context, s *scope, call func(Vault) error) (done bool, err error) {
	vault, err := r.connect(s)
	if err == nil {
		err = call(vault)
	}
	switch {
	case err == nil:
		return true, nil
	case vaultadmin.OfFeature(err):
		s.drillFinding = s.rightsMissing(err)
		s.drillFinding.message += "; backups are made without it"
		s.requeueAfter(jittered(missingRightsPause), "rights in Vault are missing for the drill")
		return false, nil
	case vaultadmin.ProblemOf(err) == vaultadmin.Unsuitable:
		return false, err // the next pass uses another name
	default:
		return false, r.vaultTrouble(ctx, s, err)
	}
}

// destroyNextIdentity destroys the identity that an earlier pass was creating, and that no backup
// is encrypted to. With a stale status, it could be one that is in use.
func (r *Reconciler) destroyNextIdentity(ctx context.Context, s *scope, status *v1alpha1.DrillStatus) (done bool, err error) {
	if status.NextIdentity == nil {
		return true, nil
	}
	latest := &v1alpha1.SecureNotes{}
	if err := r.Live.Get(ctx, client.ObjectKeyFromObject(s.sn), latest); err != nil {
		return false, client.IgnoreNotFound(err)
	}
	if latest.UID != s.sn.UID || latest.ResourceVersion != s.sn.ResourceVersion {
		return false, stalecache.New("SecureNotes", s.sn.Name, "it has changed since it was read")
	}
	done, err = r.destroyIdentity(ctx, s, status.NextIdentity.Entry)
	if done {
		status.NextIdentity = nil
	}
	return done, err
}

// destroyOldIdentities destroys the identities that are older than the one that opened a backup
// last.
func (r *Reconciler) destroyOldIdentities(ctx context.Context, s *scope, status *v1alpha1.DrillStatus) error {
	used := slices.IndexFunc(status.Identities, func(i v1alpha1.DrillIdentity) bool { return i.Entry == status.LastEntry })
	if used < 0 {
		return nil
	}
	_, err := r.destroyIdentities(ctx, s, status, used+1)
	return err
}

// destroyIdentities destroys all identities but the newest ones, the oldest first.
func (r *Reconciler) destroyIdentities(ctx context.Context, s *scope, status *v1alpha1.DrillStatus, kept int) (done bool, err error) {
	for last := len(status.Identities) - 1; last >= kept; last-- {
		if done, err := r.destroyIdentity(ctx, s, status.Identities[last].Entry); !done {
			return false, err
		}
		status.Identities = status.Identities[:last]
	}
	return true, nil
}

func (r *Reconciler) destroyIdentity(ctx context.Context, s *scope, entry string) (done bool, err error) {
	return r.callForDrill(ctx, s, func(vault Vault) error { return vault.DestroyDrillIdentity(ctx, r.deploymentOf(s), entry) })
}
