// Package vaultadmin is the operator's client of Vault. [Client] manages the keys and the pepper of
// each SecureNotes with the narrow rights of the role securenotes-operator; start at
// [Client.Ensure]. [Setup] has the policies and roles that `operator vault-setup` writes once, with
// an administrator's token.
//
// The running operator writes no policy and no role, and cannot read session keys, pepper or key
// material. It never recreates what has existed: it reports a lost key, and does not replace it.
package vaultadmin
