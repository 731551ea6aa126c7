package backup_test

import (
	"bytes"
	"errors"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"filippo.io/age"
	"github.com/google/go-cmp/cmp"

	"github.com/securenotes/securenotes/app/internal/backup"
	"github.com/securenotes/securenotes/app/internal/backup/archive"
	"github.com/securenotes/securenotes/app/internal/backup/destination"
	"github.com/securenotes/securenotes/app/internal/vault"
)

// changedAt returns the destination with other content of a file from the n-th time that it is
// opened.
func (s *site) changedAt(name string, n int, content []byte) destination.Destination {
	opened := 0
	return hooked{s.to, func(got string) (io.ReadCloser, error) {
		if got != name {
			return nil, nil
		}
		if opened++; opened < n {
			return nil, nil
		}
		return io.NopCloser(bytes.NewReader(content)), nil
	}}
}

// TestFilesChangeDuringRestore checks that a restore whose files change is only a refusal if it has
// written nothing.
func TestFilesChangeDuringRestore(t *testing.T) {
	for pass, n := range map[string]int{"digests": 1, "examination": 2, "loading": 3} {
		t.Run(pass, func(t *testing.T) {
			r := newRefused(t, newMigratedSQLite, false)
			r.target.claim(t)
			name := archive.Name(r.run.ID, archive.KindArchive, false)
			changed := bytes.Clone(r.source.readFile(t, name))
			changed[len(changed)-1] ^= 1
			r.run.Source = r.source.changedAt(name, n, changed)
			before := r.target.database.dump(t)
			_, err := r.run.Run(ctx)
			_, refusal := errors.AsType[*archive.Refusal](err)
			written := cmp.Diff(before, r.target.database.dump(t)) != ""
			if want := pass == "loading"; err == nil || written != want || refusal == want || errors.Is(err, backup.ErrChanged) != want {
				t.Errorf("the target has changed: %t; refusal: %t; %v", written, refusal, err)
			}
			r.run.Source = r.source.to
			r.target.mustRestore(t, r.run)
			r.target.mustHave(t, r.source.users)
		})
	}
}

// TestBackupWithFileThatCannotBeRead checks that an old manifest that cannot be read stops neither
// a backup nor a list.
func TestBackupWithFileThatCannotBeRead(t *testing.T) {
	r := newRefused(t, newSQLite, false)
	old := r.idAfter(-time.Second)
	b := r.source.backup(t)
	b.Destination = r.unreadable(old)
	var log bytes.Buffer
	b.Log = slog.New(slog.NewTextHandler(&log, nil))
	if _, err := b.Run(ctx); err != nil || !strings.Contains(log.String(), old) {
		t.Errorf("backup: %v, and it logs %s", err, log.String())
	}
	all, err := backup.List(ctx, b.Destination, r.source.publicKeys())
	if err != nil || len(all) != 3 || all[2].ID != old || !errors.Is(all[2].Err, destination.ErrDenied) {
		t.Errorf("list: %+v, %v", all, err)
	}
	b.Destination = hooked{r.source.to, func(string) (io.ReadCloser, error) { return nil, destination.ErrUnavailable }}
	if _, err := b.Run(ctx); !errors.Is(err, destination.ErrUnavailable) {
		t.Errorf("backup to a destination that is unavailable: %v", err)
	}
}

// TestManifestIsReadBack checks that a backup whose manifest was not stored as it was written is
// reported as failed.
func TestManifestIsReadBack(t *testing.T) {
	s := newSite(t, "source", newMigratedSQLite(t))
	s.claim(t)
	s.fill(t, 1, 1)
	b := s.backup(t)
	b.Destination = hooked{s.to, func(name string) (io.ReadCloser, error) {
		if _, isManifest, _ := archive.SplitName(name); isManifest {
			raw := bytes.TrimSuffix(s.readFile(t, name), []byte("}"))
			return io.NopCloser(bytes.NewReader(append(raw, " }"...))), nil
		}
		return nil, nil
	}}
	if made, err := b.Run(ctx); err == nil || !strings.Contains(err.Error(), "read back") {
		t.Errorf("%+v, %v; want an error", made, err)
	}
}

// TestKeptKeysWithoutVault checks that the public keys of a file are used while Vault does not give
// its own, with a warning, if a restore from the escrow asks. For others, a Compromise that the
// file does not know decides.
func TestKeptKeysWithoutVault(t *testing.T) {
	kept := newHolder(t, "source").publicKeys()
	var log bytes.Buffer
	got, err := backup.TrustedKeys(ctx, kept, failing{vault.ErrUnavailable}, true, slog.New(slog.NewTextHandler(&log, nil)))
	if err != nil || !cmp.Equal(got, kept) || !strings.Contains(log.String(), vault.ErrUnavailable.Error()) {
		t.Errorf("%+v, %v, and it logs %q", got, err, log.String())
	}
	for failure, want := range map[error]error{vault.ErrUnavailable: vault.ErrUnavailable, vault.ErrSealed: vault.ErrSealed, vault.ErrDenied: vault.ErrDenied, vault.ErrNotFound: nil} {
		got, err := backup.TrustedKeys(ctx, kept, failing{failure}, false, slog.New(slog.DiscardHandler))
		if !errors.Is(err, want) || (err == nil) != cmp.Equal(got, kept) {
			t.Errorf("Vault says %v: %+v, %v; want %v", failure, got, err, want)
		}
	}
	r := newRefused(t, newMigratedSQLite, true)
	r.run.Living = failing{vault.ErrSealed}
	r.target.adopt(t, r.target.mustRestore(t, r.run))
	r.target.mustHave(t, r.source.users)
}

// rekeying returns a run that copies the backup for another identity, into an empty directory.
func (r *refused) rekeying(output string) *backup.Rekeying {
	return &backup.Rekeying{
		Source: r.source.to, ID: r.run.ID, PublicKeys: r.source.publicKeys(), Identities: []age.Identity{r.source.identity, r.source.escrow},
		Recipients: []age.Recipient{newIdentity(r).Recipient()}, Output: directory(r, output), Phase: quiet,
	}
}

// TestRekeyRefusals checks that nothing of a backup is copied that is not as it was signed.
func TestRekeyRefusals(t *testing.T) {
	for name, tc := range map[string]struct {
		prepare func(r *refused, run *backup.Rekeying, output string)
		want    error
		says    string
	}{
		"escrow file for others in its place": {func(r *refused, _ *backup.Rekeying, _ string) {
			r.edit(archive.KindEscrow, func([]byte) []byte {
				var other bytes.Buffer
				w, err := age.Encrypt(&other, newIdentity(r).Recipient())
				if err := errors.Join(err, w.Close()); err != nil {
					r.Fatal(err)
				}
				return other.Bytes()
			})
		}, archive.ErrDamaged, "use another"},
		"archive edited": {func(r *refused, _ *backup.Rekeying, _ string) {
			r.edit(archive.KindArchive, func(raw []byte) []byte { raw[len(raw)/2] ^= 1; return raw })
		}, archive.ErrDamaged, "use another"},
		"signed by a version that a Compromise ended": {func(r *refused, run *backup.Rekeying, _ string) {
			r.source.renewSigning(r)
			run.PublicKeys = r.source.publicKeys()
		}, archive.ErrEndedVersion, "--accept-sha256"},
		"a copy is already there": {func(r *refused, _ *backup.Rekeying, output string) {
			r.write(output, archive.Name(r.run.ID, archive.KindArchive, true))
		}, destination.ErrExists, "empty directory with --output"},
		"another manifest is already there": {func(r *refused, _ *backup.Rekeying, output string) {
			r.write(output, archive.ManifestName(r.run.ID))
		}, destination.ErrExists, "empty directory with --output"},
	} {
		t.Run(name, func(t *testing.T) {
			r, output := newRefused(t, newSQLite, false), t.TempDir()
			run := r.rekeying(output)
			tc.prepare(r, run, output)
			if written, err := run.Run(ctx); !errors.Is(err, tc.want) || !strings.Contains(err.Error(), tc.says) {
				t.Errorf("%+v, %v; want %v, with %q", written, err, tc.want, tc.says)
			}
		})
	}
}

// write creates a file.
func (r *refused) write(directory, name string) {
	if err := os.WriteFile(filepath.Join(directory, name), []byte("?"), 0o600); err != nil {
		r.Fatal(err)
	}
}

// TestRekeyAccepts checks what a rekeying copies.
func TestRekeyAccepts(t *testing.T) {
	r := newRefused(t, newSQLite, false)
	manifest := archive.ManifestName(r.run.ID)
	want := []string{archive.Name(r.run.ID, archive.KindArchive, true), archive.Name(r.run.ID, archive.KindEscrow, true), manifest}
	check := func(what string, run *backup.Rekeying, output string, want []string, leftOut bool) {
		t.Helper()
		written, err := run.Run(ctx)
		if err != nil || !cmp.Equal(written.Files, want) || written.EscrowLeftOut != leftOut {
			t.Errorf("%s: %+v, %v; want %q", what, written, err, want)
			return
		}
		copied, err := os.ReadFile(filepath.Join(output, manifest))
		if err != nil || !bytes.Equal(copied, r.source.readFile(t, manifest)) {
			t.Errorf("%s: the manifest is %q, %v", what, copied, err)
		}
	}
	output := t.TempDir()
	check("all", r.rekeying(output), output, want, false)

	output = t.TempDir()
	run := r.rekeying(output)
	run.Identities = []age.Identity{r.source.identity}
	check("without the escrow's identity", run, output, []string{want[0], manifest}, true)

	output = t.TempDir()
	run = r.rekeying(output)
	run.Source = r.source.changedAt(manifest, 2, []byte("another"))
	check("a manifest that changes meanwhile", run, output, want, false)

	output = t.TempDir()
	r.source.renewSigning(t)
	run = r.rekeying(output)
	run.EndedSHA256 = r.made.SHA256
	check("an ended version that is accepted", run, output, want, false)
	verification := &backup.Verification{
		Source: r.source.to, ID: r.run.ID, PublicKeys: r.source.publicKeys(), EndedSHA256: r.made.SHA256, Phase: quiet,
	}
	if _, err := verification.Run(ctx); err != nil {
		t.Errorf("verify: %v", err)
	}
}
