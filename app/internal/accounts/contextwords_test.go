package accounts

import (
	"errors"
	"testing"
)

func TestPasswordsOfContextWords(t *testing.T) {
	for _, tc := range []struct {
		username, password string
		refused            bool
	}{
		{"alice", "alice in a well", true},
		{"alice", "MyNameIsAlice!", true},
		{"ärger", "viel ÄRGER hier", true},
		{"alice", "SecureNotes 2026", true},
		{"bob", "bob and a horse", false}, // too short to be more than chance
		{"alice", "alic e in a well", false},
		{"securenotes", "secure notes of mine", false},
	} {
		err := checkContextWords(tc.password, tc.username)
		var invalid *InvalidError
		if errors.As(err, &invalid) != tc.refused {
			t.Errorf("%q for %q: %v", tc.password, tc.username, err)
		}
	}
}
