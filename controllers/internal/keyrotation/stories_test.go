package keyrotation

import (
	"testing"

	"github.com/securenotes/securenotes/controllers/internal/vaultadmin"
)

// stories are whole rotations, by the names of their golden files.
var stories = map[string]func(*story){
	"routine": func(s *story) {
		s.given("first")
		s.reconciles("first")
		s.completes()
		s.reconciles("first")
		s.completes()
		s.reconciles("first")
	},
	"compromise": func(s *story) {
		s.given("first")
		s.reconciles("first")
		s.happens("Somebody creates a KeyRotation of reason Compromise.", func(*testing.T) { s.given("urgent", urgent) })
		s.reconciles("urgent")
		s.reconciles("first")
		s.reconciles("urgent")
		s.happens("The service accounts are recreated.", s.recreateAccounts)
		s.reconciles("urgent")
		s.completes()
		s.reconciles("urgent")
		s.happens("The pods of the API restart.", s.restart)
		s.completes()
		s.reconciles("urgent")
		s.happens("The old version is retired.", s.retire)
		s.reconciles("urgent")
	},
	"retried": func(s *story) {
		s.given("first")
		s.reconciles("first")
		s.fails()
		s.reconciles("first")
		s.retry("first")
		s.reconciles("first")
		s.completes()
		s.reconciles("first")
		s.completes()
		s.reconciles("first")
	},
	"deleted": func(s *story) {
		s.given("first")
		s.reconciles("first")
		s.happens("The SecureNotes is deleted.", func(t *testing.T) {
			if err := s.Delete(t.Context(), s.parent(t)); err != nil {
				t.Fatal(err)
			}
		})
		s.reconciles("first")
		s.happens("The finalizer of the SecureNotes is removed, and the garbage collector is late.", s.releaseParent)
		s.reconciles("first")
	},
	// Somebody removes the finalizer of the SecureNotes, so that the rotation never sees it being
	// deleted.
	"orphaned": func(s *story) {
		s.given("first")
		s.reconciles("first")
		s.happens("Somebody removes the finalizer of the SecureNotes and deletes it.", func(t *testing.T) {
			s.releaseParent(t)
			if err := s.Delete(t.Context(), s.parent(t)); err != nil {
				t.Fatal(err)
			}
		})
		s.reconciles("first")
		s.retry("first")
		s.reconciles("first")
	},
	// A newer Compromise supersedes an older one that has not added a version. When the older one
	// is retried, it must not adopt the version of the newer one, because it would renew nothing.
	"overtaken": func(s *story) {
		s.given("first", urgent)
		s.vault.sealAt = "Rotate"
		s.reconciles("first")
		s.happens("Somebody creates another KeyRotation of reason Compromise.", func(*testing.T) { s.given("second", urgent) })
		s.reconciles("second")
		s.reconciles("first")
		s.happens("Vault is unsealed.", s.vault.unseal)
		s.reconciles("second")
		s.happens("The service accounts are recreated.", s.recreateAccounts)
		s.reconciles("second")
		s.completes()
		s.happens("The pods of the API restart.", s.restart)
		s.reconciles("second")
		s.completes()
		s.reconciles("second")
		s.retry("first")
		s.reconciles("first")
	},
	"sealed": func(s *story) {
		s.given("first")
		s.vault.sealAt = "Rotate"
		s.reconciles("first")
		s.reconciles("first")
		s.happens("Vault is unsealed.", s.vault.unseal)
		s.vault.sealAt = "RaiseMinEncryption"
		s.reconciles("first")
		s.happens("Vault is unsealed.", s.vault.unseal)
		s.reconciles("first")
		s.happens("Vault is sealed while the Job runs, which waits.", func(*testing.T) { s.vault.sealed = true })
		s.reconciles("first")
		s.happens("Vault is unsealed.", s.vault.unseal)
		s.completes()
		s.reconciles("first")
		s.completes()
		s.reconciles("first")
	},
	"restored": func(s *story) {
		s.given("first")
		s.reconciles("first")
		newer := s.vault.state
		s.happens("Vault is restored to a state from before the rotation.", func(*testing.T) { s.vault.state.Latest = 1 })
		s.failsSaying("KeyMismatch", "the master key is not the one of this database")
		s.reconciles("first")
		s.happens("Somebody creates another KeyRotation.", func(*testing.T) { s.given("second") })
		s.reconciles("second")
		s.happens("The newer state of Vault is restored.", func(*testing.T) { s.vault.state = newer })
		s.retry("first")
		s.reconciles("first")
		s.completes()
		s.reconciles("first")
		s.completes()
		s.reconciles("first")
		s.retry("second")
		s.reconciles("second")
	},
	"stale": func(s *story) {
		s.given("first")
		s.reconciles("first")
		s.completes()
		s.reconciles("first")
		s.failsSaying("StaleRows", "2 rows of owner_keys.wrapped are below version 2")
		s.reconciles("first")
		s.retry("first")
		s.reconciles("first")
		s.completes()
		s.reconciles("first")
		s.completes()
		s.reconciles("first")
	},
	"forged": func(s *story) {
		s.given("first")
		s.reconciles("first")
		s.happens("Somebody creates the verification Job before the operator does.", s.forgeJob)
		s.completes()
		s.reconciles("first")
		s.retry("first")
		s.reconciles("first")
		s.completes()
		s.reconciles("first")
		s.completes()
		s.reconciles("first")
	},
	"removed": func(s *story) {
		s.given("first")
		s.reconciles("first")
		s.happens("Somebody deletes the KeyRotation.", func(t *testing.T) {
			if err := s.Delete(t.Context(), s.rotation(t, "first")); err != nil {
				t.Fatal(err)
			}
		})
		s.reconciles("first")
		s.completes()
		s.reconciles("first")
		s.completes()
		s.reconciles("first")
	},
	"queued": func(s *story) {
		s.given("first")
		s.given("second")
		s.reconciles("second")
		s.reconciles("first")
		s.reconciles("second")
		s.completes()
		s.reconciles("first")
		s.completes()
		s.reconciles("first")
		s.reconciles("second")
		s.completes()
		s.reconciles("second")
		s.completes()
		s.reconciles("second")
	},
	// Vault's administrator adds versions: before a rotation, between the two steps in which it
	// adds one itself, and while its Job runs.
	"byhand": func(s *story) {
		adds := func(when string) {
			s.happens("Vault's administrator adds a version, "+when+".", func(*testing.T) { s.vault.state.Latest++ })
		}
		adds("before anything")
		s.given("first")
		s.vault.sealAt = "Rotate"
		s.reconciles("first")
		s.happens("Vault is unsealed.", s.vault.unseal)
		adds("before the operator can")
		s.reconciles("first")
		adds("while the Job runs")
		s.completes()
		s.reconciles("first")
		s.completes()
		s.reconciles("first")
	},
	// Vault was set up by an earlier release, so the operator has no right to the backup key.
	"earliersetup": func(s *story) {
		s.given("first", urgent)
		s.vault.backupKeyFault = vaultadmin.NeededBy("the signing of backups", trouble{vaultadmin.Denied, "Vault at https://vault:8200 denies the operator GET transit/keys/sn-backup-cluster.ns.notes"})
		s.reconciles("first")
		s.happens("The service accounts are recreated.", s.recreateAccounts)
		s.reconciles("first")
		s.happens("The pods of the API restart.", s.restart)
		s.completes()
		s.reconciles("first")
		s.completes()
		s.reconciles("first")
	},
	"unrevoked": func(s *story) {
		s.given("first", urgent)
		s.vault.unrevoked = trouble{vaultadmin.RevocationFailed, "Vault at https://vault:8200 answers 400, as it does when it cannot log in to the database; its log says more"}
		s.reconciles("first")
		s.happens("The service accounts are recreated.", s.recreateAccounts)
		s.reconciles("first")
		s.happens("The pods of the API restart.", s.restart)
		s.completes()
		s.reconciles("first")
		s.completes()
		s.reconciles("first")
		s.happens("Vault reaches the database again.", func(*testing.T) { s.vault.unrevoked = nil })
		s.reconciles("first")
		s.happens("The old version is retired.", s.retire)
		s.reconciles("first")
	},
}
