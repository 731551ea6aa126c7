package keyrotation

import (
	"testing"

	"github.com/securenotes/securenotes/controllers/internal/vaultadmin"
)

// stories are whole rotations, by the names of their golden files.
var stories = map[string]func(*story){
	"routine": func(s *story) {
		s.given("first")
		s.goesOn("first")
		s.completes()
		s.goesOn("first")
		s.completes()
		s.goesOn("first")
	},
	"compromise": func(s *story) {
		s.given("first")
		s.goesOn("first")
		s.happens("Somebody makes a KeyRotation of reason Compromise.", func(*testing.T) { s.given("urgent", urgent) })
		s.goesOn("urgent")
		s.goesOn("first")
		s.goesOn("urgent")
		s.happens("The service accounts are made anew.", s.remakeAccounts)
		s.goesOn("urgent")
		s.completes()
		s.goesOn("urgent")
		s.happens("The pods of the API restart.", s.restart)
		s.completes()
		s.goesOn("urgent")
		s.happens("The old version is retired.", s.retire)
		s.goesOn("urgent")
	},
	"retried": func(s *story) {
		s.given("first")
		s.goesOn("first")
		s.fails()
		s.goesOn("first")
		s.retry("first")
		s.goesOn("first")
		s.completes()
		s.goesOn("first")
		s.completes()
		s.goesOn("first")
	},
	"deleted": func(s *story) {
		s.given("first")
		s.goesOn("first")
		s.happens("The SecureNotes is deleted.", func(t *testing.T) {
			if err := s.Delete(t.Context(), s.parent(t)); err != nil {
				t.Fatal(err)
			}
		})
		s.goesOn("first")
		s.happens("The SecureNotes is let go, and the garbage collector is late.", s.letParentGo)
		s.goesOn("first")
	},
	// Somebody takes the finalizer off the SecureNotes by hand, so that the rotation has no time to
	// see it go.
	"orphaned": func(s *story) {
		s.given("first")
		s.goesOn("first")
		s.happens("Somebody removes the finalizer of the SecureNotes and deletes it.", func(t *testing.T) {
			s.letParentGo(t)
			if err := s.Delete(t.Context(), s.parent(t)); err != nil {
				t.Fatal(err)
			}
		})
		s.goesOn("first")
		s.retry("first")
		s.goesOn("first")
	},
	// Of two Compromises the newer takes over before the older has made a version. What the older
	// one would take for its own when it is tried again is the newer one's, and nothing would be
	// renewed.
	"overtaken": func(s *story) {
		s.given("first", urgent)
		s.vault.sealAt = "Rotate"
		s.goesOn("first")
		s.happens("Somebody makes another KeyRotation of reason Compromise.", func(*testing.T) { s.given("second", urgent) })
		s.goesOn("second")
		s.goesOn("first")
		s.happens("Vault is unsealed.", s.vault.unseal)
		s.goesOn("second")
		s.happens("The service accounts are made anew.", s.remakeAccounts)
		s.goesOn("second")
		s.completes()
		s.happens("The pods of the API restart.", s.restart)
		s.goesOn("second")
		s.completes()
		s.goesOn("second")
		s.retry("first")
		s.goesOn("first")
	},
	"sealed": func(s *story) {
		s.given("first")
		s.vault.sealAt = "Rotate"
		s.goesOn("first")
		s.goesOn("first")
		s.happens("Vault is unsealed.", s.vault.unseal)
		s.vault.sealAt = "RaiseMinEncryption"
		s.goesOn("first")
		s.happens("Vault is unsealed.", s.vault.unseal)
		s.goesOn("first")
		s.happens("Vault is sealed while the Job runs, which waits.", func(*testing.T) { s.vault.sealed = true })
		s.goesOn("first")
		s.happens("Vault is unsealed.", s.vault.unseal)
		s.completes()
		s.goesOn("first")
		s.completes()
		s.goesOn("first")
	},
	"restored": func(s *story) {
		s.given("first")
		s.goesOn("first")
		newer := s.vault.state
		s.happens("Vault is restored to a state from before the rotation.", func(*testing.T) { s.vault.state.Latest = 1 })
		s.failsSaying("KeyMismatch", "the master key is not the one of this database")
		s.goesOn("first")
		s.happens("Somebody makes another KeyRotation.", func(*testing.T) { s.given("second") })
		s.goesOn("second")
		s.happens("The newer state of Vault is restored.", func(*testing.T) { s.vault.state = newer })
		s.retry("first")
		s.goesOn("first")
		s.completes()
		s.goesOn("first")
		s.completes()
		s.goesOn("first")
		s.retry("second")
		s.goesOn("second")
	},
	"stale": func(s *story) {
		s.given("first")
		s.goesOn("first")
		s.completes()
		s.goesOn("first")
		s.failsSaying("StaleRows", "2 rows of owner_keys.wrapped are below version 2")
		s.goesOn("first")
		s.retry("first")
		s.goesOn("first")
		s.completes()
		s.goesOn("first")
		s.completes()
		s.goesOn("first")
	},
	"forged": func(s *story) {
		s.given("first")
		s.goesOn("first")
		s.happens("Somebody makes the verification Job before the operator does.", s.forgeJob)
		s.completes()
		s.goesOn("first")
		s.retry("first")
		s.goesOn("first")
		s.completes()
		s.goesOn("first")
		s.completes()
		s.goesOn("first")
	},
	"removed": func(s *story) {
		s.given("first")
		s.goesOn("first")
		s.happens("Somebody deletes the KeyRotation.", func(t *testing.T) {
			if err := s.Delete(t.Context(), s.rotation(t, "first")); err != nil {
				t.Fatal(err)
			}
		})
		s.goesOn("first")
		s.completes()
		s.goesOn("first")
		s.completes()
		s.goesOn("first")
	},
	"queued": func(s *story) {
		s.given("first")
		s.given("second")
		s.goesOn("second")
		s.goesOn("first")
		s.goesOn("second")
		s.completes()
		s.goesOn("first")
		s.completes()
		s.goesOn("first")
		s.goesOn("second")
		s.completes()
		s.goesOn("second")
		s.completes()
		s.goesOn("second")
	},
	// Vault's administrator adds versions: while nothing is at work, between the two steps in which
	// a rotation does, and while its Job runs.
	"byhand": func(s *story) {
		adds := func(when string) {
			s.happens("Vault's administrator adds a version, "+when+".", func(*testing.T) { s.vault.state.Latest++ })
		}
		adds("before anything")
		s.given("first")
		s.vault.sealAt = "Rotate"
		s.goesOn("first")
		s.happens("Vault is unsealed.", s.vault.unseal)
		adds("before the operator can")
		s.goesOn("first")
		adds("while the Job runs")
		s.completes()
		s.goesOn("first")
		s.completes()
		s.goesOn("first")
	},
	"unrevoked": func(s *story) {
		s.given("first", urgent)
		s.vault.unrevoked = trouble{vaultadmin.RevocationFailed, "Vault at https://vault:8200 answers 400, as it does when it cannot log in to the database; its log says more"}
		s.goesOn("first")
		s.happens("The service accounts are made anew.", s.remakeAccounts)
		s.goesOn("first")
		s.happens("The pods of the API restart.", s.restart)
		s.completes()
		s.goesOn("first")
		s.completes()
		s.goesOn("first")
		s.happens("Vault reaches the database again.", func(*testing.T) { s.vault.unrevoked = nil })
		s.goesOn("first")
		s.happens("The old version is retired.", s.retire)
		s.goesOn("first")
	},
}
