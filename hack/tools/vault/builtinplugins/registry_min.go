//go:build minimal

// Package builtinplugins stands for Vault's own registry_min.go while Vault is built with the tag minimal
// (see hack/kind/internal/toolchain): it adds the two plugins that the tests need. All that Vault has
// built in, the libraries of every cloud among them, is more than twice as much to compile.
package builtinplugins

import (
	credKube "github.com/hashicorp/vault-plugin-auth-kubernetes"
	dbPostgres "github.com/hashicorp/vault/plugins/database/postgresql"
)

func extendAddonPlugins(r *registry) {
	r.credentialBackends["kubernetes"] = credentialBackend{Factory: credKube.Factory}
	r.databasePlugins["postgresql-database-plugin"] = databasePlugin{Factory: dbPostgres.New}
}
