//go:build minimal

// Package command stands for Vault's own commands_min.go while Vault is built with the tag minimal: it adds
// the storage that tests use.
package command

import (
	_ "github.com/hashicorp/vault/helper/builtinplugins"
	"github.com/hashicorp/vault/sdk/physical/file"
)

func extendAddonHandlers(h *vaultHandlers) {
	h.physicalBackends["file"] = file.NewFileBackend
}
