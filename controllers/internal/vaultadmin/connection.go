package vaultadmin

import "strings"

// Connection has the address and the mounts of one Vault. It comes from the operator's
// configuration, never from a tenant's object.
type Connection struct {
	// Name that objects refer to it by.
	Name string
	// Address is an https URL.
	Address string
	// CABundle holds the PEM certificates that Vault's certificate must chain to. Empty: the
	// system's.
	CABundle string
	// Namespace is a Vault Enterprise namespace. Empty: none.
	Namespace string
	// AuthMount, TransitMount, KVMount and DatabaseMount are mount paths without slashes around
	// them.
	AuthMount     string
	TransitMount  string
	KVMount       string
	DatabaseMount string
	// Audience of the service-account tokens.
	Audience string
	// TokenFile is the operator's own projected token with that audience.
	TokenFile string
}

// SharesRoles reports whether both connections use the same auth mount of the same Vault, and so
// the same roles. vault-setup gives roles one set of mounts and one audience.
func (c Connection) SharesRoles(other Connection) bool {
	return canonicalHost(c.Address) == canonicalHost(other.Address) && strings.Trim(c.Namespace, "/") == strings.Trim(other.Namespace, "/") &&
		c.AuthMount == other.AuthMount
}
