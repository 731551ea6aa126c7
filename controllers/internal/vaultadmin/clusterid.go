package vaultadmin

import (
	"fmt"
	"regexp"
	"strings"
)

// No dot: it ends the id in the name of a Transit key. No capitals: Vault takes policy names in
// lower case.
var clusterIDPattern = regexp.MustCompile(`^[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?$`)

// keyPrefixes stand before the cluster id in the names of Transit keys other than master keys. An
// id that begins with one would give master keys the names of another cluster's such keys.
var keyPrefixes = []string{"audit-", "backup-"}

// ValidateClusterID reports what keeps an id out of the names of keys, KV paths and policies.
func ValidateClusterID(id string) error {
	for _, prefix := range keyPrefixes {
		if strings.HasPrefix(id, prefix) {
			return fmt.Errorf("%q must not begin with %s: names of keys of other clusters begin like that", id, prefix)
		}
	}
	if !clusterIDPattern.MatchString(id) {
		return fmt.Errorf("%q must have only lower-case letters, digits and dashes, at most 63", id)
	}
	return nil
}
