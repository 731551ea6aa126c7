// Package vaultadmin is the operator's side of Vault: it looks after the master key, session keys
// and pepper of each SecureNotes with the narrow rights of the role securenotes-operator, and it
// holds the policies and roles that `operator vault-setup` lays down once, with an administrator's
// token.
//
// The running operator writes no policy and no role, cannot read session keys, pepper or key
// material, and never makes anew what once existed: a lost key is reported, not replaced.
package vaultadmin
