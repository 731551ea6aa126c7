package archive_test

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"filippo.io/age"

	"github.com/securenotes/securenotes/app/internal/backup/archive"
)

// TestRecipients checks which recipients are accepted.
func TestRecipients(t *testing.T) {
	classic := newIdentity(t)
	hybrid, err := age.GenerateHybridIdentity()
	if err != nil {
		t.Fatal(err)
	}
	for name, tc := range map[string]struct {
		texts []string
		want  string // the error
	}{
		"two":         {[]string{classic.Recipient().String(), newIdentity(t).Recipient().String()}, ""},
		"hybrid":      {[]string{hybrid.Recipient().String()}, ""},
		"none":        {nil, "there is no recipient"},
		"too many":    {slices.Repeat([]string{classic.Recipient().String()}, 18), "there are 18 recipients: give at most 17"},
		"mixed":       {[]string{classic.Recipient().String(), hybrid.Recipient().String()}, "which age refuses to mix"},
		"an identity": {[]string{classic.Recipient().String(), classic.String()}, "recipient 2 is not a public key of age"},
		"ssh":         {[]string{"ssh-ed25519 AAAA"}, "recipient 1 is not a public key of age"},
		"a typo":      {[]string{classic.Recipient().String() + "q"}, "recipient 1 is not a public key of age"},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := archive.ParseRecipients(tc.texts)
			if tc.want == "" {
				if err != nil || len(got) != len(tc.texts) {
					t.Errorf("got %d recipients, %v, want %d", len(got), err, len(tc.texts))
				}
				return
			}
			if err == nil || !strings.Contains(err.Error(), tc.want) || strings.Contains(err.Error(), "AGE-SECRET-KEY") {
				t.Errorf("got error %v, want %q in it and no secret", err, tc.want)
			}
		})
	}
}

// TestIdentities checks which files with identities are accepted, and that errors do not quote
// them.
func TestIdentities(t *testing.T) {
	classic := newIdentity(t)
	hybrid, err := age.GenerateHybridIdentity()
	if err != nil {
		t.Fatal(err)
	}
	for name, tc := range map[string]struct {
		text string
		n    int
		want string // the error
	}{
		"as age-keygen writes it": {"# created: 2026-11-30\n# public key: age1\n" + classic.String() + "\n", 1, ""},
		"both forms":              {classic.String() + "\r\n\r\n" + hybrid.String(), 2, ""},
		"empty":                   {"", 0, "no identity in it: give a file that age-keygen wrote"},
		"only a comment":          {"# nothing\n", 0, "no identity in it"},
		"a recipient":             {classic.Recipient().String() + "\n", 0, "line 1 is not an identity"},
		"in small letters":        {"\n" + strings.ToLower(classic.String()), 0, "line 2 is not an identity"},
		"cut off":                 {classic.String()[:60], 0, "line 1 is not an identity"},
		"with text before":        {"key: " + classic.String(), 0, "line 1 is not an identity"},
		"encrypted":               {"age-encryption.org/v1\n-> scrypt", 0, "it is encrypted: decrypt it with `age -d` first"},
		"encrypted and armored":   {"-----BEGIN AGE ENCRYPTED FILE-----\n", 0, "it is encrypted"},
		"more than 64 KiB":        {strings.Repeat("#\n", 40<<10), 0, "has more than 65536 bytes"},
		"a line of 64 KiB":        {strings.Repeat("A", 64<<10), 0, "give a file that age-keygen wrote"},
	} {
		t.Run(name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "identity.txt")
			if err := os.WriteFile(path, []byte(tc.text), 0o600); err != nil {
				t.Fatal(err)
			}
			got, err := archive.ReadIdentities(path)
			if tc.want == "" {
				if err != nil || len(got) != tc.n {
					t.Errorf("got %d identities, %v, want %d", len(got), err, tc.n)
				}
				return
			}
			if err == nil || !strings.Contains(err.Error(), tc.want) {
				t.Fatalf("got error %v, want %q in it", err, tc.want)
			}
			for _, secret := range []string{classic.String()[20:50], strings.ToLower(classic.String())[20:50]} {
				if strings.Contains(err.Error(), secret) {
					t.Errorf("the error quotes the identity: %v", err)
				}
			}
		})
	}
	if _, err := archive.ReadIdentities(filepath.Join(t.TempDir(), "missing")); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("got error %v, want os.ErrNotExist", err)
	}
}

// TestEachRecipientReads checks that every recipient of a file can read it.
func TestEachRecipientReads(t *testing.T) {
	a, b := newIdentity(t), newIdentity(t)
	id := archive.NewID(started)
	var out bytes.Buffer
	w, err := archive.NewWriter(&out, []age.Recipient{a.Recipient(), b.Recipient()}, archiveContents(id))
	if err != nil {
		t.Fatal(err)
	}
	written, err := w.Close()
	if err != nil {
		t.Fatal(err)
	}
	for _, identity := range []age.Identity{a, b} {
		if _, err := readAll(out.Bytes(), identity, written.File, archive.KindArchive, id); err != nil {
			t.Error(err)
		}
	}
}

// TestNames checks the names of a backup's files.
func TestNames(t *testing.T) {
	id := archive.NewID(time.Date(2026, 11, 30, 14, 42, 0, 0, time.FixedZone("CET", 3600)))
	if !archive.IsID(id) || !strings.HasPrefix(id, "20261130T134200Z-") {
		t.Errorf("got id %s", id)
	}
	if other := archive.NewID(started); other == id {
		t.Errorf("two ids are %s", id)
	}
	for name, manifest := range map[string]bool{
		archive.ManifestName(id): true, archive.Name(id, archive.KindArchive, false): false, archive.Name(id, archive.KindEscrow, false): false,
		archive.Name(id, archive.KindArchive, true): false, archive.Name(id, archive.KindEscrow, true): false,
	} {
		if got, isManifest, ok := archive.SplitName(name); got != id || isManifest != manifest || !ok {
			t.Errorf("SplitName(%s) = %s, %t, %t", name, got, isManifest, ok)
		}
	}
	for _, name := range []string{"", id, id + ".", id + ".tar", id + ".manifest.json.bak", "x" + id + ".manifest.json", "../" + id + ".manifest.json", strings.ToUpper(id) + ".manifest.json"} {
		if _, _, ok := archive.SplitName(name); ok {
			t.Errorf("SplitName(%s) is ok", name)
		}
	}
}
