package archive_test

import (
	"bytes"
	crand "crypto/rand"
	"encoding/hex"
	"errors"
	"io"
	"math/rand/v2"
	"strings"
	"testing"
	"testing/iotest"

	"filippo.io/age"
	"filippo.io/age/armor"

	"github.com/securenotes/securenotes/app/internal/backup/archive"
)

// TestFilesAreRefused checks files that differ from the signed manifest, which an attacker who can
// write the destination can make. Every case is refused by Verify, which reads no content, and by
// the Reader, which a restore uses for the second pass.
func TestFilesAreRefused(t *testing.T) {
	b := newBackup(t)
	name := archive.Name(b.id, archive.KindArchive, false)
	whole := b.files[name]
	other := encrypt(t, b.identity.Recipient(), decrypt(t, b.identity, whole))
	header := bytes.Index(whole, []byte("\n---")) + 1
	payload := header + bytes.IndexByte(whole[header:], '\n') + 1
	armored := func() []byte {
		var out bytes.Buffer
		w := armor.NewWriter(&out)
		w.Write(whole)
		w.Close()
		return out.Bytes()
	}
	edited := func(at int) []byte {
		raw := bytes.Clone(whole)
		raw[(at+len(raw))%len(raw)] ^= 1
		return raw
	}
	// The end of the header is base64, and stays base64.
	headerEdited := bytes.Clone(whole)
	if at := header - 3; headerEdited[at] == 'A' {
		headerEdited[at] = 'B'
	} else {
		headerEdited[at] = 'A'
	}
	for name, tc := range map[string]struct {
		raw    []byte
		reason error // of the Reader, if it is not ErrDamaged
		want   string
	}{
		"empty":                      {nil, nil, "age cannot read its header"},
		"truncated in the header":    {whole[:header-10], nil, "age cannot read its header"},
		"truncated after the header": {whole[:payload], nil, "age cannot read its header"},
		"truncated in the nonce":     {whole[:payload+8], nil, "age cannot read its header"},
		"truncated after the nonce":  {whole[:payload+16], nil, "so it is truncated"},
		"truncated by a byte":        {whole[:len(whole)-1], nil, "so it is truncated"},
		"extended by a byte":         {append(bytes.Clone(whole), 'x'), nil, "it has more than the"},
		"extended by a file":         {append(bytes.Clone(whole), whole...), nil, "it has more than the"},
		"first byte edited":          {edited(0), nil, "age cannot read its header"},
		"header edited":              {headerEdited, archive.ErrWrongIdentity, "no given identity belongs"},
		"nonce edited":               {edited(payload), nil, "age cannot authenticate it"},
		"content edited":             {edited(payload + 100), nil, "age cannot authenticate it"},
		"last byte edited":           {edited(-1), nil, "age cannot authenticate it"},
		"armored":                    {armored(), nil, "it has more than the"},
		"not an age file":            {bytes.Repeat([]byte("x"), 200<<10), nil, "it has more than the"},
		"much longer":                {[]byte("age-encryption.org/v1\n-> X25519 " + strings.Repeat("x", 200<<10)), nil, "it has more than the"},
		"encrypted again":            {other, nil, "the signed manifest says"},
	} {
		t.Run(name, func(t *testing.T) {
			files := files{archive.Name(b.id, archive.KindArchive, false): tc.raw}
			m := b.manifest
			m.Escrow = nil
			_, err := archive.Verify(t.Context(), archive.Check{Manifest: &m, Files: files, Identities: b.identities()})
			refused(t, err, archive.ErrDamaged, "the signed manifest")
			_, err = readAll(tc.raw, b.identity, b.manifest.Archive, archive.KindArchive, b.id)
			if tc.reason == nil {
				tc.reason = archive.ErrDamaged
			}
			refused(t, err, tc.reason, tc.want)
		})
	}
	t.Run("a long header", func(t *testing.T) {
		raw := []byte("age-encryption.org/v1\n-> X25519 " + strings.Repeat("x", 200<<10))
		_, err := readAll(raw, b.identity, describe(raw, nil, 1), archive.KindArchive, b.id)
		refused(t, err, archive.ErrDamaged, "its header has more than 65536 bytes")
	})
}

// TestEveryTruncationIsRefused cuts a file at each byte.
func TestEveryTruncationIsRefused(t *testing.T) {
	b := newBackup(t)
	whole := b.files[archive.Name(b.id, archive.KindArchive, false)]
	for n := range len(whole) {
		_, err := readAll(whole[:n], b.identity, b.manifest.Archive, archive.KindArchive, b.id)
		if !errors.Is(err, archive.ErrDamaged) {
			t.Fatalf("of %d bytes, the first %d: got error %v, want ErrDamaged", len(whole), n, err)
		}
	}
}

// TestTruncationAtTheEndOfContent cuts the file between two chunks of age, where zstd has ended.
// The decoder would take that for the end of the stream.
func TestTruncationAtTheEndOfContent(t *testing.T) {
	const chunk = 64 << 10
	c := craftSample(t)
	notes := c.find(t, "notes/000001.ndjson")
	var stream, content []byte
	for size := 2 * chunk; len(content) != chunk; size += 2*(chunk-len(content)) + rand.IntN(5) { // two digits are a byte
		digits := make([]byte, size/2)
		crand.Read(digits)
		c.members[notes].content = []byte(`{"owner":"` + hex.EncodeToString(digits)[:size-size%2] + `"}` + "\n")
		c.reseal(t)
		stream = c.tar(t)
		content = compress(t, stream)
	}
	file := encrypt(t, c.identity.Recipient(), append(bytes.Clone(content), 'x'))
	cut := file[:len(file)-len("x")-16]
	refused(t, c.read(cut, describe(cut, content, len(stream))), archive.ErrDamaged, "so it is truncated")
	// The content that it was made for is accepted.
	if err := c.read(c.packContent(t, content, len(stream))); err != nil {
		t.Error(err)
	}
}

// TestEveryEditIsRefused flips a bit of each byte of each file.
func TestEveryEditIsRefused(t *testing.T) {
	b := newBackup(t)
	for name, whole := range b.files {
		for i := range whole {
			raw := bytes.Clone(whole)
			raw[i] ^= 1 << (i % 8)
			b.files[name] = raw
			if _, _, err := b.verify(t, b.identities()...); err == nil {
				t.Errorf("%s is accepted with byte %d changed from %q to %q", name, i, whole[i], raw[i])
			}
			if name == archive.Name(b.id, archive.KindArchive, false) {
				if _, err := readAll(raw, b.identity, b.manifest.Archive, archive.KindArchive, b.id); err == nil {
					t.Errorf("the reader accepts %s with byte %d changed", name, i)
				}
			}
		}
		b.files[name] = whole
	}
}

// TestIdentitiesAreNeeded checks that a wrong identity and none are told apart.
func TestIdentitiesAreNeeded(t *testing.T) {
	b := newBackup(t)
	hybrid, err := age.GenerateHybridIdentity()
	if err != nil {
		t.Fatal(err)
	}
	m := &b.manifest
	raw := b.files[archive.Name(b.id, archive.KindArchive, false)]
	_, err = archive.Open(bytes.NewReader(raw), nil, m.Archive, archive.KindArchive, b.id, false)
	refused(t, err, archive.ErrNoIdentity, "no identity was given")
	for name, identities := range map[string][]age.Identity{"another": {newIdentity(t)}, "the escrow's": {b.escrow}, "a hybrid one": {hybrid}} {
		t.Run(name, func(t *testing.T) {
			_, err := archive.Open(bytes.NewReader(raw), identities, m.Archive, archive.KindArchive, b.id, false)
			refused(t, err, archive.ErrWrongIdentity, "it has 1 recipients, and no given identity belongs to one of them")
			_, err = archive.Verify(t.Context(), archive.Check{Manifest: m, Files: b.files, Identities: identities})
			refused(t, err, archive.ErrWrongIdentity, "")
		})
	}
	_, err = archive.Verify(t.Context(), archive.Check{Manifest: m, Files: b.files, Identities: []age.Identity{b.identity}, NeedEscrow: true})
	refused(t, err, archive.ErrWrongIdentity, ".escrow.tar.zst.age: it has 1 recipients")
}

// TestUnreadableIsNotDamaged checks that an error of the storage is not taken for damage.
func TestUnreadableIsNotDamaged(t *testing.T) {
	b := newBackup(t)
	raw := b.files[archive.Name(b.id, archive.KindArchive, false)]
	away := errors.New("connection reset")
	for _, n := range []int{0, 10, 150, 400, len(raw) - 1, len(raw)} {
		in := io.MultiReader(bytes.NewReader(raw[:n]), iotest.ErrReader(away))
		r, err := archive.Open(in, []age.Identity{b.identity}, b.manifest.Archive, archive.KindArchive, b.id, false)
		for err == nil {
			_, _, err = r.Next()
		}
		refused(t, err, archive.ErrRead, "it cannot be read: connection reset: try again")
		if !errors.Is(err, away) {
			t.Errorf("after %d bytes: got error %v, want one that is %v", n, err, away)
		}
	}
	// The other way round: readers that return little at once, or data together with the end.
	for name, wrap := range map[string]func(io.Reader) io.Reader{"one byte": iotest.OneByteReader, "half": iotest.HalfReader, "data with the end": iotest.DataErrReader} {
		r, err := archive.Open(wrap(bytes.NewReader(raw)), []age.Identity{b.identity}, b.manifest.Archive, archive.KindArchive, b.id, false)
		for err == nil {
			_, _, err = r.Next()
		}
		if !errors.Is(err, io.EOF) {
			t.Errorf("%s: got error %v, want io.EOF", name, err)
		}
	}
}

// TestFilesOfOtherBackups checks files that were exchanged, with manifests that describe them: the
// attacker has the signing key.
func TestFilesOfOtherBackups(t *testing.T) {
	a, b := newBackup(t), newBackup(t)
	main, escrow := archive.Name(a.id, archive.KindArchive, false), archive.Name(a.id, archive.KindEscrow, false)
	otherMain, otherEscrow := archive.Name(b.id, archive.KindArchive, false), archive.Name(b.id, archive.KindEscrow, false)
	for name, tc := range map[string]struct {
		change func(m *archive.Manifest, f files)
		want   string
	}{
		"archive of another backup": {func(m *archive.Manifest, f files) { f[main], m.Archive = b.files[otherMain], b.manifest.Archive }, "it is the archive of the backup " + b.id},
		"escrow of another backup":  {func(m *archive.Manifest, f files) { f[escrow], m.Escrow = b.files[otherEscrow], b.manifest.Escrow }, "it is the escrow of the backup " + b.id},
		"escrow as archive":         {func(m *archive.Manifest, f files) { f[main], m.Archive = f[escrow], *m.Escrow }, "it is the escrow of the backup " + a.id},
		"archive as escrow":         {func(m *archive.Manifest, f files) { f[escrow], m.Escrow = f[main], &m.Archive }, "it is the archive of the backup " + a.id},
		"another deployment":        {func(m *archive.Manifest, _ files) { m.Deployment.ID = "other" }, "manifest.json names the deployment " + deploymentID},
		"another schema":            {func(m *archive.Manifest, _ files) { m.Schema = 10 }, "and schema 9, and the signed manifest"},
		"fewer rows":                {func(m *archive.Manifest, _ files) { m.Rows["notes"]++ }, "it has the rows map[notes:2 owner_keys:3 recovery_codes:0 users:2], and the signed manifest says map[notes:3"},
		"another table":             {func(m *archive.Manifest, _ files) { m.Rows["other"] = 0 }, "it has the rows map["},
	} {
		t.Run(name, func(t *testing.T) {
			m, f := a.manifest, files{}
			m.Rows = map[string]int64{}
			for table, n := range a.manifest.Rows {
				m.Rows[table] = n
			}
			for name, raw := range a.files {
				f[name] = raw
			}
			tc.change(&m, f)
			_, err := archive.Verify(t.Context(), archive.Check{Manifest: &m, Files: f, Identities: append(a.identities(), b.identities()...)})
			refused(t, err, archive.ErrDamaged, tc.want)
		})
	}
	t.Run("exchanged without the signing key", func(t *testing.T) {
		_, err := archive.Verify(t.Context(), archive.Check{Manifest: &a.manifest, Files: files{main: b.files[otherMain], escrow: a.files[escrow]}})
		refused(t, err, archive.ErrDamaged, "the signed manifest says")
	})
	for _, missing := range []string{main, escrow} {
		t.Run("without "+missing[len(a.id):], func(t *testing.T) {
			f := files{main: a.files[main], escrow: a.files[escrow]}
			delete(f, missing)
			_, err := archive.Verify(t.Context(), archive.Check{Manifest: &a.manifest, Files: f, Identities: a.identities()})
			refused(t, err, archive.ErrMissing, missing+": there is no such file beside the manifest")
		})
	}
	t.Run("made without escrow", func(t *testing.T) {
		m := a.manifest
		m.Escrow = nil
		_, err := archive.Verify(t.Context(), archive.Check{Manifest: &m, Files: a.files, Identities: a.identities(), NeedEscrow: true})
		refused(t, err, archive.ErrMissing, "the backup was made without an escrow file")
	})
}

// TestReadAheadIsShared checks what the caller and the goroutines that read ahead both use: the
// reader below them, where the stream goes on after its end, and the progress of two files. The
// race detector finds what is not synchronized.
func TestReadAheadIsShared(t *testing.T) {
	t.Run("the reader below", func(t *testing.T) {
		c := craftSample(t)
		tail := make([]byte, 500_000)
		crand.Read(tail)
		c.end = append(c.end, tail...)
		refused(t, c.read(c.pack(t, c.tar(t))), archive.ErrDamaged, "bytes after its end")
	})
	t.Run("progress", func(t *testing.T) {
		b := newBackup(t)
		note := make([]byte, 500_000) // it is read ahead while the escrow file is opened
		crand.Read(note)
		raw, written := write(t, b.identity.Recipient(), archiveContents(b.id), append(sampleRows(), row{2, []any{"user-2", "note-3", int64(1), note, nil}}))
		b.files[archive.Name(b.id, archive.KindArchive, false)] = raw
		b.manifest.Archive, b.manifest.Rows = written.File, written.Rows
		read, want := int64(0), 2*(b.manifest.Archive.Size+b.manifest.Escrow.Size)
		check := archive.Check{Manifest: &b.manifest, Files: b.files, Identities: b.identities(), Progress: func(n int) { read += int64(n) }}
		if _, err := archive.Verify(t.Context(), check); err != nil {
			t.Fatal(err)
		}
		if read != want {
			t.Errorf("%d bytes were read, want %d: each file for its digest and for its content", read, want)
		}
	})
}
