package archive_test

import (
	"bytes"
	"io"
	"strings"
	"testing"

	"filippo.io/age"

	"github.com/securenotes/securenotes/app/internal/backup/archive"
)

// rekey writes copies of the files of b for other recipients.
func (b *backup) rekey(t testing.TB, to age.Recipient) {
	t.Helper()
	for _, kind := range []archive.Kind{archive.KindArchive, archive.KindEscrow} {
		want, _ := b.manifest.File(kind)
		var out bytes.Buffer
		name := archive.Name(b.id, kind, false)
		if err := archive.Rekey(&out, bytes.NewReader(b.files[name]), b.identities(), []age.Recipient{to}, want, name, false); err != nil {
			t.Fatal(err)
		}
		b.files[archive.Name(b.id, kind, true)] = out.Bytes()
	}
}

// TestRekeyedCopies checks that copies for another recipient are verified by the same manifest, and
// only with that recipient's identity.
func TestRekeyedCopies(t *testing.T) {
	b := newBackup(t)
	once, err := age.GenerateHybridIdentity()
	if err != nil {
		t.Fatal(err)
	}
	b.rekey(t, once.Recipient())
	check := archive.Check{Manifest: &b.manifest, Files: b.files, Identities: []age.Identity{once}, Rekeyed: true, NeedEscrow: true}
	report, err := archive.Verify(t.Context(), check)
	if err != nil {
		t.Fatal(err)
	}
	if !report.Opened || !report.EscrowOpened || len(report.Peppers) != 2 {
		t.Errorf("got report %+v, want both files opened", report)
	}
	check.Identities = b.identities()
	_, err = archive.Verify(t.Context(), check)
	refused(t, err, archive.ErrWrongIdentity, archive.Name(b.id, archive.KindArchive, true))
	check.Identities = nil
	_, err = archive.Verify(t.Context(), check)
	refused(t, err, archive.ErrNoIdentity, archive.Name(b.id, archive.KindArchive, true))

	// A copy can be the source of the next one.
	var again bytes.Buffer
	name := archive.Name(b.id, archive.KindArchive, true)
	if err := archive.Rekey(&again, bytes.NewReader(b.files[name]), []age.Identity{once}, []age.Recipient{b.identity.Recipient()}, b.manifest.Archive, name, true); err != nil {
		t.Fatal(err)
	}
	if got, want := decrypt(t, b.identity, again.Bytes()), decrypt(t, b.identity, b.files[archive.Name(b.id, archive.KindArchive, false)]); !bytes.Equal(got, want) {
		t.Error("the content of a copy of a copy differs")
	}
}

// TestRekeyedCopiesAreRefused checks copies with other content. Their digests are in no manifest.
func TestRekeyedCopiesAreRefused(t *testing.T) {
	b := newBackup(t)
	b.rekey(t, b.identity.Recipient())
	main, escrow := archive.Name(b.id, archive.KindArchive, true), archive.Name(b.id, archive.KindEscrow, true)
	other := newBackup(t)
	content := decrypt(t, b.identity, b.files[main])
	edited := bytes.Clone(content)
	edited[len(edited)/2] ^= 1
	for name, tc := range map[string]struct {
		name    string
		content []byte
		want    string
	}{
		"edited":            {main, edited, "what it decrypts to has"},
		"shorter":           {main, content[:len(content)-1], "what it decrypts to has"},
		"longer":            {main, append(bytes.Clone(content), 0), "it decrypts to more than the"},
		"of another backup": {main, decrypt(t, other.identity, other.files[archive.Name(other.id, archive.KindArchive, false)]), " or of another backup"},
		"escrow edited":     {escrow, edited, "so it is e"},
	} {
		t.Run(name, func(t *testing.T) {
			f := files{main: b.files[main], escrow: b.files[escrow]}
			f[tc.name] = encrypt(t, b.identity.Recipient(), tc.content)
			check := archive.Check{Manifest: &b.manifest, Files: f, Identities: b.identities(), Rekeyed: true}
			_, err := archive.Verify(t.Context(), check)
			refused(t, err, archive.ErrDamaged, tc.want)
			_, err = archive.Read(t.Context(), check)
			refused(t, err, archive.ErrDamaged, "")
			want, _ := b.manifest.File(archive.KindArchive)
			if tc.name == escrow {
				want, _ = b.manifest.File(archive.KindEscrow)
			}
			err = archive.Rekey(io.Discard, bytes.NewReader(f[tc.name]), b.identities(), []age.Recipient{b.identity.Recipient()}, want, tc.name, true)
			refused(t, err, archive.ErrDamaged, tc.want)
		})
	}
	t.Run("the source edited", func(t *testing.T) {
		name := archive.Name(b.id, archive.KindArchive, false)
		raw := bytes.Clone(b.files[name])
		raw[len(raw)-1] ^= 1
		err := archive.Rekey(io.Discard, bytes.NewReader(raw), b.identities(), []age.Recipient{b.identity.Recipient()}, b.manifest.Archive, name, false)
		refused(t, err, archive.ErrDamaged, name)
	})
	// The escrow file's copy may be missing, or be for others, unless it is needed.
	for name, raw := range map[string][]byte{"missing": nil, "for others": encrypt(t, newIdentity(t).Recipient(), nil)} {
		t.Run("escrow "+name, func(t *testing.T) {
			f := files{main: b.files[main]}
			if raw != nil {
				f[escrow] = raw
			}
			check := archive.Check{Manifest: &b.manifest, Files: f, Identities: b.identities(), Rekeyed: true}
			report, err := archive.Verify(t.Context(), check)
			if err != nil || !report.Opened || report.EscrowOpened || report.EscrowMissing != (raw == nil) {
				t.Errorf("got %+v, %v, want only the archive opened, and EscrowMissing %t", report, err, raw == nil)
			}
			check.NeedEscrow = true
			if _, err := archive.Verify(t.Context(), check); err == nil || !strings.HasPrefix(err.Error(), escrow+": ") {
				t.Errorf("got error %v, want one of %s", err, escrow)
			}
		})
	}
}
