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
		{username: "alice", password: "alice in a well", refused: true},
		{username: "alice", password: "MyNameIsAlice!", refused: true},
		{username: "ärger", password: "viel ÄRGER hier", refused: true},
		{username: "alice", password: "SecureNotes 2026", refused: true},
		{username: "bob", password: "bob and a horse"}, // a short name may occur by chance
		{username: "alice", password: "alic e in a well"},
		{username: "securenotes", password: "secure notes of mine"},
	} {
		err := checkContextWords(tc.password, tc.username)
		if _, refused := errors.AsType[*InvalidError](err); refused != tc.refused {
			t.Errorf("%q for %q: %v", tc.password, tc.username, err)
		}
	}
}
