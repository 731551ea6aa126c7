package archive_test

import (
	"bytes"
	"errors"
	"io"
	"strings"
	"testing"

	"filippo.io/age"

	"github.com/securenotes/securenotes/app/internal/backup/archive"
)

// fuzzIdentity is fixed, so that seeds stay valid.
const fuzzIdentity = "AGE-SECRET-KEY-1RJDCHX7UY4VKTND5HQNZLTAHJVJD8W7ZTWG24EA99YJC9J5RYSFQCC73D4"

// FuzzReader reads arbitrary content behind a correct age layer. The content is a zstd stream, or a
// tar stream if isTar. What is accepted must be exactly what the writer writes for the same rows.
func FuzzReader(f *testing.F) {
	identity, err := age.ParseX25519Identity(fuzzIdentity)
	if err != nil {
		f.Fatal(err)
	}
	c := &crafted{identity: identity, id: "20261130T134200Z-aaaaaaaaaaaaaaaa"}
	raw, _ := write(f, identity.Recipient(), archiveContents(c.id), sampleRows())
	f.Add(decrypt(f, identity, raw), false)
	f.Add(craft(f, identity, c.id, raw).tar(f), true)
	f.Fuzz(func(t *testing.T, content []byte, isTar bool) {
		tarSize := 1 << 20
		if isTar {
			tarSize = len(content)
			content = compress(t, content)
		}
		file, want := c.packContent(t, content, tarSize)
		r, err := archive.Open(bytes.NewReader(file), []age.Identity{identity}, want, archive.KindArchive, c.id, false)
		if err != nil {
			return
		}
		defer r.Close()
		var rows []row
		for {
			table, values, err := r.Next()
			if errors.Is(err, io.EOF) {
				break
			}
			if err != nil {
				if !strings.HasPrefix(err.Error(), c.id) || len(err.Error()) > 2000 {
					t.Fatalf("got error %v, want one that names the file, of a limited length", err)
				}
				return
			}
			rows = append(rows, row{table, cloneValues(values)})
		}
		again, _ := write(t, identity.Recipient(), r.Contents(), rows)
		got, want2 := craft(t, identity, c.id, again).tar(t), craft(t, identity, c.id, file).tar(t)
		if !bytes.Equal(got, want2) {
			t.Errorf("the reader accepts\n%q\nwhich the writer writes as\n%q", want2, got)
		}
	})
}

// FuzzEnvelope verifies arbitrary manifest files. Only one that the key signed may be accepted.
func FuzzEnvelope(f *testing.F) {
	id := "20261130T134200Z-aaaaaaaaaaaaaaaa"
	file := archive.File{SHA256: strings.Repeat("0", 64), Size: 1, Content: archive.Digest{SHA256: strings.Repeat("0", 64), Size: 1}, TarSize: 1}
	m := sampleManifest(id, archive.Written{File: file, Rows: map[string]int64{"users": 1}}, &file)
	good := sealed(f, current(), m)
	f.Add(good)
	f.Add(sealed(f, newSigner(1, 1), m))
	keys := trusted()
	f.Fuzz(func(t *testing.T, raw []byte) {
		e, err := archive.ParseEnvelope(archive.ManifestName(id), raw)
		if err != nil {
			return
		}
		got, err := e.Verify(keys, "")
		if err != nil {
			if !strings.HasPrefix(err.Error(), id) || len(err.Error()) > 4000 {
				t.Fatalf("got error %v, want one that names the file, of a limited length", err)
			}
			return
		}
		if again := sealed(t, current(), *got); !bytes.Equal(again, good) {
			t.Errorf("%q is accepted, and was never signed", raw)
		}
	})
}
