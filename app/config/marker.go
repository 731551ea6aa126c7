package config

import (
	"encoding/json"
	"errors"
	"fmt"
	"regexp"
)

// MaxOtherSessionKeys is how many entries of session keys the marker may name besides those in use.
// An attempt to create session keys that fails before it is recorded leaves one. The next
// Compromise deletes them.
const MaxOtherSessionKeys = 64

// MaxEmptyDatabases bounds how many empty databases a marker may count. Users accept far fewer.
// Vault rounds numbers that a float cannot represent.
const MaxEmptyDatabases = 1_000_000

// uid is the form of the UIDs that the API server generates.
var uid = regexp.MustCompile(`^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$`)

// ParseMarker reads a marker from JSON. Anyone with the operator's Vault token can write one, so
// errors name the field and never quote its value.
func ParseMarker(raw []byte) (Marker, error) {
	marker := Marker{}
	if err := json.Unmarshal(raw, &marker); err != nil {
		return Marker{}, errors.New("it is not a marker in JSON")
	}
	if err := marker.Validate(); err != nil {
		return Marker{}, err
	}
	return marker, nil
}

// Validate rejects what the operator never writes. Its errors name the field and never quote its
// value.
func (marker Marker) Validate() error {
	for _, field := range []struct {
		name, value string
		required    bool
	}{
		{"uid", marker.UID, true}, {"deploymentID", marker.DeploymentID, true},
		{"namespaceUID", marker.NamespaceUID, false}, {"clusterUID", marker.ClusterUID, false},
	} {
		if (field.required || field.value != "") && !uid.MatchString(field.value) {
			return fmt.Errorf("%s is not the UID of an object", field.name)
		}
	}
	if len(marker.OtherSessionKeys) > MaxOtherSessionKeys {
		return fmt.Errorf("otherSessionKeys has more than %d entries", MaxOtherSessionKeys)
	}
	if marker.EmptyDatabases < 0 || marker.EmptyDatabases > MaxEmptyDatabases {
		return fmt.Errorf("emptyDatabases is not between 0 and %d", MaxEmptyDatabases)
	}
	return nil
}
