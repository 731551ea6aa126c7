package vaultadmin

import (
	"fmt"
	"regexp"
	"strings"
)

// No dot, because it ends the id in the name of a Transit key. No capitals, because Vault converts
// policy names to lower case.
var clusterIDPattern = regexp.MustCompile(`^[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?$`)

// keyPrefixes precede the cluster id in the names of Transit keys other than master keys. If an id
// began with one, its master keys could have the names of another cluster's other keys.
var keyPrefixes = []string{"audit-", "backup-"}

// ValidateClusterID returns an error unless id can be in the names of keys, KV paths and policies.
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
