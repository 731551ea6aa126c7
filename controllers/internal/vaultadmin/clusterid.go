package vaultadmin

import (
	"fmt"
	"regexp"
)

// No dot: it ends the id in the name of a Transit key. No capitals: Vault takes policy names in
// lower case.
var clusterIDPattern = regexp.MustCompile(`^[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?$`)

// ValidateClusterID reports what keeps an id out of the names of keys, KV paths and policies.
func ValidateClusterID(id string) error {
	if !clusterIDPattern.MatchString(id) {
		return fmt.Errorf("%q must have only lower-case letters, digits and dashes, at most 63", id)
	}
	return nil
}
