package vaultadmin

import "strings"

// Connection says where one Vault is and what is mounted where. It comes from the operator's own
// configuration, never from a tenant's object.
type Connection struct {
	// Name that objects refer to it by.
	Name string
	// Address is an https URL.
	Address string
	// CABundle holds the PEM certificates that Vault's certificate must chain to. Empty: the system's.
	CABundle string
	// Namespace is a Vault Enterprise namespace. Empty: none.
	Namespace string
	// AuthMount, TransitMount, KVMount and DatabaseMount are mount paths without slashes around them.
	AuthMount     string
	TransitMount  string
	KVMount       string
	DatabaseMount string
	// Audience of the service-account tokens.
	Audience string
	// TokenFile is the operator's own projected token with that audience.
	TokenFile string
}

// SharesRoles reports whether both connections log in with the same roles, which vault-setup gives
// one set of mounts and one audience: those of one auth mount of one Vault.
func (c Connection) SharesRoles(other Connection) bool {
	return canonicalHost(c.Address) == canonicalHost(other.Address) && strings.Trim(c.Namespace, "/") == strings.Trim(other.Namespace, "/") &&
		c.AuthMount == other.AuthMount
}
