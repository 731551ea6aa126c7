package envelope_test

import (
	"bytes"
	"context"
	"errors"
	"path/filepath"
	"testing"

	"github.com/securenotes/securenotes/app/internal/envelope"
)

// TestExportAndImport moves owner keys from one master key to another: what they sealed opens under
// the other, and only for the same deployment.
func TestExportAndImport(t *testing.T) {
	ctx := context.Background()
	provider := func() *envelope.Local {
		local, err := envelope.OpenLocal(filepath.Join(t.TempDir(), "master.key"))
		if err != nil {
			t.Fatal(err)
		}
		return local
	}
	from, to := envelope.NewKeyring("d1", provider()), provider()
	stored, err := from.GenerateAll(ctx, []string{"owner-1", "owner-2"})
	if err != nil {
		t.Fatal(err)
	}
	key, err := from.Unwrap(ctx, stored[1])
	if err != nil {
		t.Fatal(err)
	}
	place := envelope.Place{Kind: "notes", Row: "r", Field: "content", Revision: 1}
	sealed := key.Seal(place, []byte("the content"))
	raw, err := from.Export(ctx, stored)
	if err != nil {
		t.Fatal(err)
	}
	for deployment, want := range map[string]error{"d1": nil, "d2": envelope.ErrNotAuthentic} {
		keys := envelope.NewKeyring(deployment, to)
		wrapped, err := keys.Import(ctx, raw)
		if err != nil {
			t.Fatal(err)
		}
		if wrapped[1].Owner != "owner-2" || wrapped[1].ID != stored[1].ID || wrapped[1].Wrapped == stored[1].Wrapped {
			t.Errorf("imported %+v", wrapped[1])
		}
		imported, err := keys.Unwrap(ctx, wrapped[1])
		if err != nil {
			t.Fatal(err)
		}
		opened, err := keys.Open(raw[1])
		if err != nil {
			t.Fatal(err)
		}
		for _, key := range []*envelope.OwnerKey{imported, opened} {
			content, err := key.Open(place, sealed)
			if !errors.Is(err, want) || want == nil && string(content) != "the content" {
				t.Errorf("deployment %s: %q, %v; want %v", deployment, content, err, want)
			}
		}
	}
	raw[0].Clear()
	if !bytes.Equal(raw[0].Raw, make([]byte, 32)) {
		t.Error("a cleared key is not zero")
	}

	foreign := stored[0]
	foreign.Owner = "owner-3"
	if keys, err := from.Export(ctx, []envelope.StoredKey{stored[1], foreign}); !errors.Is(err, envelope.ErrRefused) || keys != nil {
		t.Errorf("a key of another owner: %d keys, %v", len(keys), err)
	}
	if _, err := from.Import(ctx, []envelope.RawKey{{Owner: "owner-1", ID: "id", Raw: []byte("short")}}); err == nil {
		t.Error("a short key is imported")
	}
}
