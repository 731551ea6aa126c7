package archive_test

import (
	"archive/tar"
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"testing"

	"filippo.io/age"
	"github.com/klauspost/compress/zstd"

	"github.com/securenotes/securenotes/app/internal/backup/archive"
)

// member is a member of a crafted tar stream.
type member struct {
	header  tar.Header
	content []byte
}

// crafted is an archive that a test takes apart, changes, and puts together without the writer.
type crafted struct {
	identity *age.X25519Identity
	id       string
	members  []member
	// end follows the members.
	end []byte
}

// craft takes apart a file that the writer wrote.
func craft(t testing.TB, identity *age.X25519Identity, id string, raw []byte) *crafted {
	t.Helper()
	c := &crafted{identity: identity, id: id, end: make([]byte, 1024)}
	plain := decrypt(t, identity, raw)
	stream, err := zstd.NewReader(bytes.NewReader(plain))
	if err != nil {
		t.Fatal(err)
	}
	defer stream.Close()
	for r := tar.NewReader(stream); ; {
		header, err := r.Next()
		if errors.Is(err, io.EOF) {
			return c
		}
		if err != nil {
			t.Fatal(err)
		}
		content, err := io.ReadAll(r)
		if err != nil {
			t.Fatal(err)
		}
		c.members = append(c.members, member{*header, content})
	}
}

// craftSample is the sample archive, taken apart.
func craftSample(t testing.TB) *crafted {
	t.Helper()
	identity, id := newIdentity(t), archive.NewID(started)
	raw, _ := write(t, identity.Recipient(), archiveContents(id), sampleRows())
	return craft(t, identity, id, raw)
}

func decrypt(t testing.TB, identity age.Identity, raw []byte) []byte {
	t.Helper()
	r, err := age.Decrypt(bytes.NewReader(raw), identity)
	if err != nil {
		t.Fatal(err)
	}
	plain, err := io.ReadAll(r)
	if err != nil {
		t.Fatal(err)
	}
	return plain
}

// find returns the index of a member.
func (c *crafted) find(t testing.TB, name string) int {
	t.Helper()
	for i := range c.members {
		if c.members[i].header.Name == name {
			return i
		}
	}
	t.Fatalf("no member %s", name)
	return -1
}

// file returns a member with rows, which begins like one of the writer's.
func (c *crafted) file(name, content string) member {
	header := c.members[0].header
	header.Name = name
	return member{header, []byte(content)}
}

// reseal writes the list of members again.
func (c *crafted) reseal(t testing.TB) {
	t.Helper()
	last := len(c.members) - 1
	var list []string
	for _, m := range c.members[:last] {
		rows := bytes.Count(m.content, []byte("\n"))
		if m.header.Name == "manifest.json" {
			rows = 0
		}
		digest := sha256.Sum256(m.content)
		list = append(list, fmt.Sprintf(`{"name":%q,"size":%d,"sha256":%q,"rows":%d}`, m.header.Name, len(m.content), hex.EncodeToString(digest[:]), rows))
	}
	var text bytes.Buffer
	text.WriteString(`{"members":[`)
	for i, line := range list {
		if i > 0 {
			text.WriteByte(',')
		}
		text.WriteString("\n" + line)
	}
	text.WriteString("\n]}\n")
	c.members[last].content = text.Bytes()
	if !json.Valid(text.Bytes()) {
		t.Fatalf("not JSON: %s", text.Bytes())
	}
}

// tar returns the tar stream.
func (c *crafted) tar(t testing.TB) []byte {
	t.Helper()
	var out bytes.Buffer
	for _, m := range c.members {
		w := tar.NewWriter(&out)
		m.header.Size = int64(len(m.content))
		if err := w.WriteHeader(&m.header); err != nil {
			t.Fatal(err)
		}
		if _, err := w.Write(m.content); err != nil {
			t.Fatal(err)
		}
		if err := w.Flush(); err != nil {
			t.Fatal(err)
		}
	}
	return append(out.Bytes(), c.end...)
}

// compress returns a zstd frame.
func compress(t testing.TB, stream []byte, options ...zstd.EOption) []byte {
	t.Helper()
	var out bytes.Buffer
	w, err := zstd.NewWriter(&out, options...)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := w.Write(stream); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

// encrypt returns an age file.
func encrypt(t testing.TB, recipient age.Recipient, content []byte) []byte {
	t.Helper()
	var out bytes.Buffer
	w, err := age.Encrypt(&out, recipient)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := w.Write(content); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

// describe returns what a manifest would say of a file: the attacker has even the signing key.
func describe(raw, content []byte, tarSize int) archive.File {
	digest, plain := sha256.Sum256(raw), sha256.Sum256(content)
	return archive.File{SHA256: hex.EncodeToString(digest[:]), Size: int64(len(raw)),
		Content: archive.Digest{SHA256: hex.EncodeToString(plain[:]), Size: int64(len(content))}, TarSize: int64(tarSize)}
}

// pack compresses and encrypts a tar stream.
func (c *crafted) pack(t testing.TB, stream []byte) ([]byte, archive.File) {
	t.Helper()
	return c.packContent(t, compress(t, stream), len(stream))
}

func (c *crafted) packContent(t testing.TB, content []byte, tarSize int) ([]byte, archive.File) {
	t.Helper()
	raw := encrypt(t, c.identity.Recipient(), content)
	return raw, describe(raw, content, tarSize)
}

func (c *crafted) read(raw []byte, want archive.File) error {
	_, err := readAll(raw, c.identity, want, archive.KindArchive, c.id)
	return err
}
