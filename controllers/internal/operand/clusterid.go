package operand

import (
	"strings"

	"github.com/securenotes/securenotes/api/v1alpha1"
	"github.com/securenotes/securenotes/app/config"
	"github.com/securenotes/securenotes/controllers/internal/vaultadmin"
)

// CheckClusterID returns an error if the object's master key belongs to another cluster id than the
// operator's. Under the wrong id, the operator would not find the keys in use, and create others.
func CheckClusterID(sn *v1alpha1.SecureNotes, clusterID string) error {
	if sn.Status.MasterKey == nil || sn.Status.MasterKey.Name == "" {
		return nil
	}
	key, prefix := sn.Status.MasterKey.Name, config.TransitKeyPrefix(clusterID)
	if strings.HasPrefix(key, prefix) {
		return nil
	}
	return vaultadmin.ClusterIDChangedError(key, prefix)
}
