package notes

import (
	"context"
	"errors"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/uuid"

	"github.com/securenotes/securenotes/app/internal/envelope"
)

// TestTransplantsDoNotOpen: a sealed value opens only in its own field of its own row, at its own
// revision and for its own owner, whatever an attacker moves in the database.
func TestTransplantsDoNotOpen(t *testing.T) {
	provider, err := envelope.OpenLocal(filepath.Join(t.TempDir(), "master.key"))
	if err != nil {
		t.Fatal(err)
	}
	newKey := func(deployment, owner string) *envelope.OwnerKey {
		t.Helper()
		keyring := envelope.NewKeyring(deployment, provider)
		stored, err := keyring.Generate(context.Background(), owner)
		if err != nil {
			t.Fatal(err)
		}
		key, err := envelope.NewCache(keyring, nil).Key(context.Background(), stored)
		if err != nil {
			t.Fatal(err)
		}
		return key
	}
	seal := func(key *envelope.OwnerKey, id string, revision int64, text Text) Sealed {
		t.Helper()
		n := Sealed{ID: id, Revision: revision}
		if err := text.seal(key, &n); err != nil {
			t.Fatal(err)
		}
		return n
	}
	// A list of tags is also a text, so that each of the three values could be taken for the
	// others.
	text := Text{Content: `["a"]`, Title: `["a"]`, Tags: []string{"a"}}
	alice, successor, bob := newKey("d1", "alice"), newKey("d1", "alice"), newKey("d1", "bob")
	row, other := uuid.NewString(), uuid.NewString()
	note := seal(alice, row, 2, text)
	before, neighbour := seal(alice, row, 1, text), seal(alice, other, 2, text)
	moved, foreign := seal(successor, row, 2, text), seal(bob, row, 2, text)

	if opened, err := note.open(alice); err != nil || !cmp.Equal(opened, text) {
		t.Fatalf("in its place: %v, %v", opened, err)
	}
	// This is the limit of the protection: a whole row of an earlier revision opens.
	// docs/security.md says so.
	if opened, err := before.open(alice); err != nil || !cmp.Equal(opened, text) {
		t.Errorf("a whole row of an earlier revision: %v, %v", opened, err)
	}
	for name, change := range map[string]func(*Sealed){
		"title as content":            func(n *Sealed) { n.Content = n.Title },
		"tags as content":             func(n *Sealed) { n.Content = n.Tags },
		"content as title":            func(n *Sealed) { n.Title = n.Content },
		"tags as title":               func(n *Sealed) { n.Title = n.Tags },
		"content as tags":             func(n *Sealed) { n.Tags = n.Content },
		"title as tags":               func(n *Sealed) { n.Tags = n.Title },
		"title and tags":              func(n *Sealed) { n.Title, n.Tags = n.Tags, n.Title },
		"content of another row":      func(n *Sealed) { n.Content = neighbour.Content },
		"title of another row":        func(n *Sealed) { n.Title = neighbour.Title },
		"tags of another row":         func(n *Sealed) { n.Tags = neighbour.Tags },
		"all of another row":          func(n *Sealed) { *n = neighbour; n.ID = row },
		"content of the previous one": func(n *Sealed) { n.Content = before.Content },
		"title of the previous one":   func(n *Sealed) { n.Title = before.Title },
		"tags of the previous one":    func(n *Sealed) { n.Tags = before.Tags },
		"all of the previous one":     func(n *Sealed) { *n = before; n.Revision = 2 },
		"another revision's number":   func(n *Sealed) { n.Revision = 3 },
		"content under another key":   func(n *Sealed) { n.Content = moved.Content },
		"title under another key":     func(n *Sealed) { n.Title = moved.Title },
		"tags under another key":      func(n *Sealed) { n.Tags = moved.Tags },
		"content of another user":     func(n *Sealed) { n.Content = foreign.Content },
		"title of another user":       func(n *Sealed) { n.Title = foreign.Title },
		"tags of another user":        func(n *Sealed) { n.Tags = foreign.Tags },
		"all of another user":         func(n *Sealed) { *n = foreign },
		"no content":                  func(n *Sealed) { n.Content = nil },
		"content cut off":             func(n *Sealed) { n.Content = n.Content[:len(n.Content)-1] },
		"empty title, where one was":  func(n *Sealed) { n.Title = []byte{} },
		"content in clear":            func(n *Sealed) { n.Content = []byte(text.Content) },
		"of another table": func(n *Sealed) {
			n.Content = alice.Seal(envelope.Place{Kind: "second_factors", Row: row, Field: contentField, Revision: 2}, []byte("x"))
		},
	} {
		t.Run(name, func(t *testing.T) {
			n := note
			change(&n)
			if opened, err := n.open(alice); !errors.Is(err, envelope.ErrNotAuthentic) || !cmp.Equal(opened, Text{}) {
				t.Errorf("opened as %v, %v", opened, err)
			}
		})
	}
	if opened, err := note.open(bob); !errors.Is(err, envelope.ErrNotAuthentic) {
		t.Errorf("another user's key opened it: %v, %v", opened, err)
	}
	if opened, err := note.open(newKey("d2", "alice")); !errors.Is(err, envelope.ErrNotAuthentic) {
		t.Errorf("a key of another deployment opened it: %v, %v", opened, err)
	}
}
