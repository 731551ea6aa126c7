package config

import (
	"encoding/json"
	"errors"
	"fmt"
	"regexp"
)

// MaxOtherSessionKeys is how many entries of session keys the marker may name besides those in use.
// Each attempt to create some that was not recorded leaves one, until the next Compromise.
const MaxOtherSessionKeys = 64

// MaxEmptyDatabases bounds how many empty databases a marker may count, far beyond what users
// accept. Vault rounds numbers that a float cannot hold.
const MaxEmptyDatabases = 1_000_000

// uid is the form in which the API server draws the UIDs of all objects.
var uid = regexp.MustCompile(`^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$`)

// ParseMarker reads a marker from JSON. Anyone who has the operator's Vault token can write one,
// and what it names is shown to people: errors name the field, and never quote it.
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

// Validate reports what no marker of the operator has. Its errors name the field, and never quote
// it.
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
