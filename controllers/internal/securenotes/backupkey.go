package securenotes

import (
	"context"
	"encoding/base64"
	"slices"
	"sync"

	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/log"

	"github.com/securenotes/securenotes/api/v1alpha1"
	"github.com/securenotes/securenotes/app/config"
	"github.com/securenotes/securenotes/controllers/internal/vaultadmin"
)

// maxBackupKeyVersions bounds the versions in status.backupKeys. The newest stay. The CRD has the
// same bound.
const maxBackupKeyVersions = 64

// backupKeysStatus returns the newest public keys in the form of the status.
func backupKeysStatus(keys *config.BackupKeys) *v1alpha1.BackupKeysStatus {
	status := &v1alpha1.BackupKeysStatus{Key: keys.Key}
	for _, version := range keys.Versions[max(0, len(keys.Versions)-maxBackupKeyVersions):] {
		// As the API server returns it, so that an unchanged status is not written.
		added := v1alpha1.BackupKeyVersion{
			Version: int64(version.Version), PublicKey: base64.StdEncoding.EncodeToString(version.PublicKey),
			Since: metav1.NewTime(version.Since).Rfc3339Copy(),
		}
		if version.Until != nil {
			added.Until = new(metav1.NewTime(*version.Until).Rfc3339Copy())
		}
		status.Versions = append(status.Versions, added)
	}
	return status
}

// knownBackupKeys returns the versions that the status records.
func knownBackupKeys(status *v1alpha1.BackupKeysStatus) []config.BackupKey {
	if status == nil {
		return nil
	}
	var known []config.BackupKey
	for _, version := range status.Versions {
		// The CRD accepts no other text than base64.
		key, _ := base64.StdEncoding.DecodeString(version.PublicKey)
		known = append(known, config.BackupKey{Version: int(version.Version), PublicKey: key})
	}
	return known
}

// setBackupKeys records the public keys. A lost key stays recorded: its signatures are still
// verified with it.
func (r *Reconciler) setBackupKeys(ctx context.Context, s *scope, state vaultadmin.BackupKeyState) {
	if state.Keys != nil {
		s.sn.Status.BackupKeys = backupKeysStatus(state.Keys)
	}
	if vaultadmin.OfFeature(state.Problem) && r.deniedBackups.isNew(s.env.Connection.Name) {
		log.FromContext(ctx).Info("the rights in Vault are those of an earlier release: no backups can be signed, and all else works"+s.setupStep(),
			"vault", s.env.Connection.Name, "problem", state.Problem.Error())
	}
}

// setBackupKeyUnusable sets the condition BackupKeyUnusable, or removes it.
func setBackupKeyUnusable(s *scope, status *v1alpha1.SecureNotesStatus) {
	switch problem := s.backupKeyProblem; {
	case s.key == nil: // Vault was not asked
	case problem == nil, vaultadmin.OfFeature(problem):
		meta.RemoveStatusCondition(&status.Conditions, v1alpha1.ConditionBackupKeyUnusable)
	default:
		setCondition(s.sn, status, v1alpha1.ConditionBackupKeyUnusable, finding{
			metav1.ConditionTrue, string(vaultadmin.ProblemOf(problem)), problem.Error() + ": no backup can be signed, and the operator creates no other key in its place; " +
				"restore it from a backup of Vault, or see docs/lost-state.md for how to begin with another key",
		})
	}
}

// seen is a set of names. It is safe for concurrent use.
type seen struct {
	mu    sync.Mutex
	names []string
}

// isNew adds a name, and reports whether the set did not have it.
func (s *seen) isNew(name string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if slices.Contains(s.names, name) {
		return false
	}
	s.names = append(s.names, name)
	return true
}
