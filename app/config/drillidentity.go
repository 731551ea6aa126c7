package config

import (
	"errors"
	"fmt"
	"strings"

	"filippo.io/age"
)

// hybridPrefix begins the recipients of the hybrid of X25519 and ML-KEM-768.
const hybridPrefix = "age1pq1"

// IsHybridRecipient reports whether an age recipient has the form age1pq1…, which age refuses to
// mix with the form age1….
func IsHybridRecipient(recipient string) bool { return strings.HasPrefix(recipient, hybridPrefix) }

// DrillIdentity is the value of an entry of [NewDrillEntry]: an age identity.
type DrillIdentity struct {
	// Identity has the form AGE-SECRET-KEY-1… or AGE-SECRET-KEY-PQ-1….
	Identity string `json:"identity"`
}

// NewDrillIdentity returns a random identity and its recipient, which is of the hybrid form or of
// the form age1….
func NewDrillIdentity(hybrid bool) (identity *DrillIdentity, recipient string, err error) {
	if hybrid {
		key, err := age.GenerateHybridIdentity()
		if err != nil {
			return nil, "", fmt.Errorf("generate an age identity: %w", err)
		}
		return &DrillIdentity{Identity: key.String()}, key.Recipient().String(), nil
	}
	key, err := age.GenerateX25519Identity()
	if err != nil {
		return nil, "", fmt.Errorf("generate an age identity: %w", err)
	}
	return &DrillIdentity{Identity: key.String()}, key.Recipient().String(), nil
}

// errNotAnIdentity does not quote the value.
var errNotAnIdentity = errors.New("it is not an age identity")

// Parse returns the identity and its recipient. Its error does not quote the identity.
func (d *DrillIdentity) Parse() (identity age.Identity, recipient string, err error) {
	if hybrid, err := age.ParseHybridIdentity(d.Identity); err == nil {
		return hybrid, hybrid.Recipient().String(), nil
	}
	if key, err := age.ParseX25519Identity(d.Identity); err == nil {
		return key, key.Recipient().String(), nil
	}
	return nil, "", errNotAnIdentity
}
