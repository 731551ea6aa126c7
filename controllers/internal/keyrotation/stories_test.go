package keyrotation

import "testing"

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
	// Somebody takes the finalizer off the SecureNotes by hand, so that the rotation has no time to see it go.
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
	// Of two Compromises the newer takes over before the older has made a version. What the older one would take for its
	// own when it is tried again is the newer one's, and nothing would be renewed.
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
}
