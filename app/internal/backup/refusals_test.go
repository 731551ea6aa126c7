package backup_test

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"filippo.io/age"
	"github.com/google/go-cmp/cmp"

	"github.com/securenotes/securenotes/app/config"
	"github.com/securenotes/securenotes/app/internal/backup"
	"github.com/securenotes/securenotes/app/internal/backup/archive"
	"github.com/securenotes/securenotes/app/internal/backup/destination"
	"github.com/securenotes/securenotes/app/internal/deployment"
	"github.com/securenotes/securenotes/app/internal/envelope"
	"github.com/securenotes/securenotes/app/internal/store"
	"github.com/securenotes/securenotes/app/internal/vault"
)

// refused is a backup that was made, and the restore that is to be refused.
type refused struct {
	testing.TB
	source, target *site
	made           *backup.Made
	run            *backup.Restore
}

// edit changes a file of the backup.
func (r *refused) edit(kind archive.Kind, change func([]byte) []byte) {
	name := archive.Name(r.run.ID, kind, false)
	r.source.writeFile(r, name, change(r.source.readFile(r, name)))
}

// remove removes a file of the backup.
func (r *refused) remove(name string) {
	if err := os.Remove(filepath.Join(r.source.directory, name)); err != nil {
		r.Fatal(err)
	}
}

// signedFile is a manifest file.
type signedFile struct {
	PayloadType string      `json:"payloadType"`
	Payload     []byte      `json:"payload"`
	Signatures  []signature `json:"signatures"`
}

type signature struct {
	KeyID string `json:"keyid"`
	Sig   []byte `json:"sig"`
}

// editManifest changes the manifest file, without a new signature.
func (r *refused) editManifest(change func(*signedFile)) {
	name := archive.ManifestName(r.run.ID)
	var e signedFile
	if err := json.Unmarshal(r.source.readFile(r, name), &e); err != nil {
		r.Fatal(err)
	}
	change(&e)
	raw, err := json.Marshal(e)
	if err != nil {
		r.Fatal(err)
	}
	r.source.writeFile(r, name, raw)
}

// sign signs the manifest file with the keys of a holder.
func (r *refused) sign(with *holder, e *signedFile) {
	message := fmt.Sprintf("DSSEv1 %d %s %d %s", len(e.PayloadType), e.PayloadType, len(e.Payload), e.Payload)
	text, err := with.SignBackup(ctx, []byte(message))
	if err != nil {
		r.Fatal(err)
	}
	raw, err := base64.StdEncoding.DecodeString(text[strings.LastIndex(text, ":")+1:])
	if err != nil {
		r.Fatal(err)
	}
	e.Signatures[0].Sig = raw
}

// editSigned changes the text of the manifest, and signs it as the backup did: only a later release
// could have written it.
func (r *refused) editSigned(old, changed string) {
	r.editManifest(func(e *signedFile) {
		if !bytes.Contains(e.Payload, []byte(old)) {
			r.Fatalf("the manifest has no %s: %s", old, e.Payload)
		}
		e.Payload = bytes.Replace(e.Payload, []byte(old), []byte(changed), 1)
		r.sign(r.source.holder, e)
	})
}

// idAfter returns the id of a backup that began later than the backup that was made, or earlier.
func (r *refused) idAfter(d time.Duration) string {
	return archive.NewID(r.made.Manifest.StartedAt.Add(d))
}

// unreadable writes a manifest file that cannot be read, and returns the destination.
func (r *refused) unreadable(id string) destination.Destination {
	name := archive.ManifestName(id)
	r.source.writeFile(r, name, []byte("{}"))
	return hooked{r.source.to, func(opened string) (io.ReadCloser, error) {
		if opened == name {
			return nil, destination.ErrDenied
		}
		return nil, nil
	}}
}

// hooked is a destination with other files than it has.
type hooked struct {
	destination.Destination
	// open returns a file or an error in the place of that of the destination.
	open func(name string) (io.ReadCloser, error)
}

// Open implements destination.Destination.
func (h hooked) Open(ctx context.Context, name string) (io.ReadCloser, int64, error) {
	if content, err := h.open(name); content != nil || err != nil {
		return content, -1, err
	}
	return h.Destination.Open(ctx, name)
}

// listed are public keys that Vault gives.
type listed struct{ keys *config.BackupKeys }

// BackupKeys implements backup.KeyReader.
func (l listed) BackupKeys(context.Context) (*config.BackupKeys, error) { return l.keys, nil }

// failing are public keys that Vault does not give.
type failing struct{ err error }

// BackupKeys implements backup.KeyReader.
func (f failing) BackupKeys(context.Context) (*config.BackupKeys, error) { return nil, f.err }

// TestRefusals checks that a restore refuses what is wrong, says what to do, and leaves the target
// and the peppers as they were.
func TestRefusals(t *testing.T) {
	for name, tc := range map[string]struct {
		prepare func(*refused)
		// fromEscrow restores from the escrow, under other keys.
		fromEscrow bool
		want       error
		says       string
	}{
		"no identity":    {prepare: func(r *refused) { r.run.Identities = nil }, want: archive.ErrNoIdentity, says: "--identity"},
		"wrong identity": {prepare: func(r *refused) { r.run.Identities = []age.Identity{newIdentity(r)} }, want: archive.ErrWrongIdentity, says: "identity"},
		"wrong identity of the escrow": {fromEscrow: true, prepare: func(r *refused) {
			r.run.Identities = []age.Identity{r.source.identity, newIdentity(r)}
		}, want: archive.ErrWrongIdentity, says: "identity"},
		"no public keys": {prepare: func(r *refused) { r.run.Living = nil }, want: archive.ErrNoPublicKeys, says: "--public-keys"},
		"no public keys, and Vault does not answer": {prepare: func(r *refused) { r.run.Living = failing{vault.ErrUnavailable} }, want: archive.ErrNoPublicKeys, says: "--public-keys"},
		"public keys of another deployment": {prepare: func(r *refused) {
			r.run.PublicKeys = newHolder(r, "other").publicKeys()
		}, want: archive.ErrOtherKey, says: "public"},

		"no such backup": {prepare: func(r *refused) { r.run.ID = archive.NewID(r.made.Manifest.StartedAt) }, want: backup.ErrUnknown, says: "backup list"},
		"not signed":     {prepare: func(r *refused) { r.editManifest(func(e *signedFile) { e.Signatures = []signature{} }) }, want: archive.ErrNotSigned, says: "use"},
		"signed by another key": {prepare: func(r *refused) {
			r.editManifest(func(e *signedFile) { r.sign(newHolder(r, "source"), e) })
		}, want: archive.ErrOtherKey, says: "use"},
		"manifest edited": {prepare: func(r *refused) {
			r.editManifest(func(e *signedFile) {
				e.Payload = bytes.Replace(e.Payload, []byte(`"sequence":1`), []byte(`"sequence":2`), 1)
			})
		}, want: archive.ErrOtherKey, says: "use"},
		"manifest of another backup": {prepare: func(r *refused) {
			other := r.source.mustBackUp(r).Manifest.ID
			r.source.writeFile(r, archive.ManifestName(r.run.ID), r.source.readFile(r, archive.ManifestName(other)))
		}, want: archive.ErrDamaged, says: "rename"},
		"signed by a version that a Compromise ended": {prepare: func(r *refused) { r.source.renewSigning(r) }, want: archive.ErrEndedVersion, says: "--accept-sha256"},
		"ended version, with another SHA-256": {prepare: func(r *refused) {
			r.source.renewSigning(r)
			r.run.EndedSHA256 = strings.Repeat("0", 64)
		}, want: archive.ErrEndedVersion, says: "--accept-sha256"},
		"ended version, although the kept keys do not know": {prepare: func(r *refused) {
			r.run.PublicKeys = r.source.publicKeys()
			r.source.renewSigning(r)
		}, want: archive.ErrEndedVersion, says: "--accept-sha256"},
		"ended version, and Vault does not give the keys that show it": {prepare: func(r *refused) {
			r.run.PublicKeys, r.run.Living = r.source.publicKeys(), failing{vault.ErrDenied}
			r.source.renewSigning(r)
		}, want: vault.ErrDenied, says: "a Compromise may have ended a version"},
		"older": {prepare: func(r *refused) { r.source.mustBackUp(r) }, want: backup.ErrOlder, says: "--older"},
		"ended version, older than one of the next version": {prepare: func(r *refused) {
			r.run.EndedSHA256 = r.made.SHA256
			r.source.renewSigning(r)
			r.source.mustBackUp(r)
		}, want: backup.ErrOlder, says: "--older"},
		"ended version that Vault no longer lists, and the kept keys do not know as ended": {prepare: func(r *refused) {
			r.run.PublicKeys = r.source.publicKeys()
			r.source.renewSigning(r)
			now := r.source.publicKeys()
			now.Versions = now.Versions[1:]
			r.run.Living = listed{now}
		}, want: archive.ErrEndedVersion, says: "--accept-sha256"},
		"older than one that was made while the manifests were hidden": {prepare: func(r *refused) {
			name := archive.ManifestName(r.source.mustBackUp(r).Manifest.ID)
			second := r.source.readFile(r, name)
			first := r.source.readFile(r, archive.ManifestName(r.run.ID))
			r.remove(name)
			r.remove(archive.ManifestName(r.run.ID))
			later := r.source.backup(r)
			later.Now = func() time.Time { return r.made.Manifest.StartedAt.Add(time.Hour) }
			if _, err := later.Run(ctx); err != nil {
				r.Fatal(err)
			}
			r.source.writeFile(r, name, second)
			r.source.writeFile(r, archive.ManifestName(r.run.ID), first)
			r.run.ID, _, _ = archive.SplitName(name)
		}, want: backup.ErrOlder, says: "--older"},
		"older than one with the same sequence": {prepare: func(r *refused) {
			first := r.source.readFile(r, archive.ManifestName(r.run.ID))
			r.remove(archive.ManifestName(r.run.ID))
			same := r.source.backup(r)
			started := time.Unix(r.made.Manifest.Sequence, 0)
			same.Now = func() time.Time { now := started; started = started.Add(time.Hour); return now }
			if _, err := same.Run(ctx); err != nil {
				r.Fatal(err)
			}
			r.source.writeFile(r, archive.ManifestName(r.run.ID), first)
		}, want: backup.ErrOlder, says: "--older"},
		"older than one of the object that adopted the deployment": {prepare: func(r *refused) {
			adopted := r.source.backup(r)
			adopted.Settings.SecureNotesUID = "another UID"
			if _, err := adopted.Run(ctx); err != nil {
				r.Fatal(err)
			}
		}, want: backup.ErrOlder, says: "--older"},
		"older than one of a newer format": {prepare: func(r *refused) {
			old := r.run.ID
			r.run.ID = r.source.mustBackUp(r).Manifest.ID
			r.editSigned(`"format":1`, `"format":2`)
			r.run.ID = old
		}, want: backup.ErrOlder, says: "--older"},
		"older than a file that is not valid": {prepare: func(r *refused) {
			r.source.writeFile(r, archive.ManifestName(r.idAfter(time.Second)), []byte("{}"))
		}, want: backup.ErrOlder, says: ".manifest.json may be of a newer backup"},
		"older than a file that cannot be read": {prepare: func(r *refused) {
			r.run.Source = r.unreadable(r.idAfter(time.Second))
		}, want: backup.ErrOlder, says: ".manifest.json may be of a newer backup"},
		"older than another of the ended version": {prepare: func(r *refused) {
			later := r.source.backup(r)
			later.Now = func() time.Time { return r.made.Manifest.StartedAt.Add(time.Hour) }
			if _, err := later.Run(ctx); err != nil {
				r.Fatal(err)
			}
			r.source.renewSigning(r)
			r.run.EndedSHA256 = r.made.SHA256
		}, want: backup.ErrOlder, says: ".manifest.json may be of a newer backup"},
		"older, with the rows of both": {prepare: func(r *refused) {
			r.source.mustBackUp(r)
		}, want: backup.ErrOlder, says: "2 users; the older one has "},
		"newer format": {prepare: func(r *refused) { r.editSigned(`"format":1`, `"format":2`) }, want: archive.ErrNewerFormat, says: "release"},
		"newer schema": {prepare: func(r *refused) {
			r.editSigned(fmt.Sprintf(`"schema":%d`, r.made.Manifest.Schema), `"schema":1000`)
		}, want: backup.ErrNewerSchema, says: "release"},

		"archive missing": {prepare: func(r *refused) { r.remove(archive.Name(r.run.ID, archive.KindArchive, false)) }, want: archive.ErrMissing, says: "use another backup"},
		"archive empty":   {prepare: func(r *refused) { r.edit(archive.KindArchive, func([]byte) []byte { return nil }) }, want: archive.ErrDamaged, says: "use another"},
		"archive truncated": {prepare: func(r *refused) {
			r.edit(archive.KindArchive, func(raw []byte) []byte { return raw[:len(raw)-1] })
		}, want: archive.ErrDamaged, says: "use another"},
		"archive extended": {prepare: func(r *refused) {
			r.edit(archive.KindArchive, func(raw []byte) []byte { return append(raw, 0) })
		}, want: archive.ErrDamaged, says: "use another"},
		"archive edited": {prepare: func(r *refused) {
			r.edit(archive.KindArchive, func(raw []byte) []byte { raw[len(raw)/2] ^= 1; return raw })
		}, want: archive.ErrDamaged, says: "use another"},
		"archive of another backup": {prepare: func(r *refused) {
			other := r.source.mustBackUp(r).Manifest.ID
			r.run.Older = true
			r.edit(archive.KindArchive, func([]byte) []byte { return r.source.readFile(r, archive.Name(other, archive.KindArchive, false)) })
		}, want: archive.ErrDamaged, says: "use another"},
		"escrow file missing": {fromEscrow: true, prepare: func(r *refused) { r.remove(archive.Name(r.run.ID, archive.KindEscrow, false)) }, want: archive.ErrMissing, says: "use another backup"},
		"escrow file edited": {fromEscrow: true, prepare: func(r *refused) {
			r.edit(archive.KindEscrow, func(raw []byte) []byte { raw[len(raw)-20] ^= 1; return raw })
		}, want: archive.ErrDamaged, says: "use another"},
		"escrow file of another backup": {fromEscrow: true, prepare: func(r *refused) {
			other := r.source.mustBackUp(r).Manifest.ID
			r.run.Older = true
			r.edit(archive.KindEscrow, func([]byte) []byte { return r.source.readFile(r, archive.Name(other, archive.KindEscrow, false)) })
		}, want: archive.ErrDamaged, says: "use another"},
		"no escrow": {fromEscrow: true, prepare: func(r *refused) {
			again := r.source.backup(r)
			again.Settings.Escrow = nil
			made, err := again.Run(ctx)
			if err != nil {
				r.Fatal(err)
			}
			r.run.ID = made.Manifest.ID
		}, want: backup.ErrNoEscrow, says: "without --escrow-identity"},

		"under another master key": {prepare: func(r *refused) { r.run.MasterKey = "sn-other.ns.source" }, want: backup.ErrOtherDeployment, says: "--escrow-identity"},
		"of another deployment":    {prepare: func(r *refused) { r.run.Deployment.ID = "another" }, want: backup.ErrOtherDeployment, says: "--escrow-identity"},
		"version retired": {prepare: func(r *refused) {
			r.source.retire(r, r.source.rotate(r))
		}, want: backup.ErrVersionsRefused, says: "versions 1: "},
		"version retired, and how to allow it": {prepare: func(r *refused) {
			r.source.retire(r, r.source.rotate(r))
		}, want: backup.ErrVersionsRefused, says: "min_decryption_version=1"},
		"another key of the same name": {prepare: func(r *refused) {
			r.run.Provider = newHolder(r, "source").master
		}, want: backup.ErrVersionsRefused, says: "--escrow-identity"},
		"pepper that nobody has": {prepare: func(r *refused) {
			r.target.peppers[r.target.entry] = config.NewPepper()
		}, want: backup.ErrPepperMissing, says: "--escrow-identity"},
		"target with users": {prepare: func(r *refused) {
			r.target.claim(r)
			r.target.fill(r, 1, 1)
		}, want: store.ErrNotEmpty, says: "1 in the database of source: restore into an empty database"},
		"target of another deployment": {prepare: func(r *refused) {
			r.target.claim(r)
			r.target.database.execute(r, "UPDATE meta SET deployment_id = 'a third'")
		}, want: deployment.ErrOtherDeployment, says: "correct the database URI"},
		"target that a restore of another deployment fills": {prepare: func(r *refused) {
			r.target.claim(r)
			r.target.database.execute(r, "UPDATE meta SET deployment_id = 'restoring:run', belongs_to = 'ns/other'")
		}, want: deployment.ErrOtherDeployment, says: "the database of source: "},
		"target with a table of another program": {prepare: func(r *refused) {
			r.target.database.execute(r, "CREATE TABLE invoices (id INTEGER PRIMARY KEY)")
		}, want: store.ErrSchema, says: "invoices"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			check := func(t *testing.T, create func(testing.TB) *database, claimed, overwrite bool) {
				r := newRefused(t, create, tc.fromEscrow)
				if claimed {
					r.target.claim(t)
				}
				if overwrite {
					r.target.fill(t, 1, 1)
					r.run.Existing = store.DeleteExisting
				}
				tc.prepare(r)
				before, peppers := r.target.database.dump(t), r.target.entries()
				restored, err := r.run.Run(ctx)
				if !errors.Is(err, tc.want) || !strings.Contains(fmt.Sprint(err), tc.says) {
					t.Errorf("restored %+v, error %v; want %v, with %q", restored, err, tc.want, tc.says)
				}
				if diff := cmp.Diff(before, r.target.database.dump(t)); diff != "" {
					t.Errorf("the target has changed:\n%s", diff)
				}
				if diff := cmp.Diff(peppers, r.target.entries()); diff != "" {
					t.Errorf("the peppers have changed:\n%s", diff)
				}
			}
			t.Run("without a schema", func(t *testing.T) { check(t, newSQLite, false, false) })
			for kind, create := range migrated() {
				t.Run(kind, func(t *testing.T) { check(t, create, true, false) })
			}
			if !errors.Is(tc.want, store.ErrNotEmpty) {
				t.Run("with accounts to be overwritten", func(t *testing.T) { check(t, newMigratedSQLite, true, true) })
			}
		})
	}
}

// newRefused backs up a deployment with SQLite and returns a restore that would succeed.
func newRefused(t *testing.T, create func(testing.TB) *database, fromEscrow bool) *refused {
	t.Helper()
	source := newSite(t, "source", newMigratedSQLite(t))
	source.claim(t)
	source.fill(t, 2, 2)
	r := &refused{TB: t, source: source, made: source.mustBackUp(t)}
	if fromEscrow {
		r.target = newSite(t, "target", create(t))
		r.run = r.target.fromEscrow(source, r.made.Manifest.ID)
	} else {
		r.target = source.another(t, create(t))
		r.run = r.target.restore(source, r.made.Manifest.ID)
	}
	return r
}

// TestDamagedKeyIsNoRefusedVersion checks that a restore does not take one owner key that Vault
// does not unwrap for a version that was retired, wherever the key is in the order.
func TestDamagedKeyIsNoRefusedVersion(t *testing.T) {
	for _, order := range []string{"ASC", "DESC"} {
		t.Run(order, func(t *testing.T) {
			t.Parallel()
			r := newRefused(t, newMigratedSQLite, false)
			r.source.database.execute(t, `UPDATE owner_keys SET wrapped = (SELECT k.wrapped FROM owner_keys k WHERE k.owner <> owner_keys.owner LIMIT 1)
				WHERE owner = (SELECT owner FROM owner_keys ORDER BY owner `+order+` LIMIT 1)`)
			run := r.source.backup(t)
			run.Settings.Escrow = nil
			made, err := run.Run(ctx)
			if err != nil {
				t.Fatal(err)
			}
			r.run.ID = made.Manifest.ID
			if restored, err := r.run.Run(ctx); errors.Is(err, backup.ErrVersionsRefused) {
				t.Errorf("restored %+v, %v; want anything but %v", restored, err, backup.ErrVersionsRefused)
			}
		})
	}
}

// wrapsOnly is a master key that the role may not decrypt with.
type wrapsOnly struct{ envelope.KeyProvider }

// Unwrap implements envelope.KeyProvider.
func (wrapsOnly) Unwrap(context.Context, []envelope.WrappedItem) ([]envelope.UnwrapResult, error) {
	return nil, vault.ErrDenied
}

// TestMissingRightsAreFoundFirst checks that a restore from an escrow without the rights that it
// needs leaves the database as it was.
func TestMissingRightsAreFoundFirst(t *testing.T) {
	for name, deny := range map[string]func(*refused){
		"to decrypt": func(r *refused) { r.run.Provider = wrapsOnly{r.run.Provider} },
		"to create a pepper": func(r *refused) {
			r.target.interrupt = func(operation string) error {
				if operation == "create the pepper" {
					return vault.ErrDenied
				}
				return nil
			}
		},
	} {
		for kind, create := range migrated() {
			t.Run(name+", "+kind, func(t *testing.T) {
				t.Parallel()
				r := newRefused(t, create, true)
				r.target.claim(t)
				deny(r)
				before, peppers := r.target.database.dump(t), r.target.entries()
				if restored, err := r.run.Run(ctx); !errors.Is(err, vault.ErrDenied) {
					t.Errorf("restored %+v, %v; want %v", restored, err, vault.ErrDenied)
				}
				if diff := cmp.Diff(before, r.target.database.dump(t)); diff != "" {
					t.Errorf("the target has changed:\n%s", diff)
				}
				if diff := cmp.Diff(peppers, r.target.entries()); diff != "" {
					t.Errorf("the peppers have changed:\n%s", diff)
				}
			})
		}
	}
}

// TestAcceptedDespite checks the flags that accept what is otherwise refused.
func TestAcceptedDespite(t *testing.T) {
	for name, prepare := range map[string]func(*refused){
		"nothing":                             func(*refused) {},
		"a master key that was rotated since": func(r *refused) { r.source.rotate(r) },
		"a newer backup": func(r *refused) {
			r.source.mustBackUp(r)
			r.run.Older = true
		},
		"an ended version": func(r *refused) {
			r.source.renewSigning(r)
			r.run.EndedSHA256 = r.made.SHA256
		},
		"an ended version and a newer backup": func(r *refused) {
			r.source.renewSigning(r)
			r.run.EndedSHA256 = r.made.SHA256
			r.source.mustBackUp(r)
			r.run.Older = true
		},
		"a newer backup of another SecureNotes in the same place": func(r *refused) {
			other := newSite(r, "other", newMigratedSQLite(r))
			other.claim(r)
			other.fill(r, 1, 1)
			other.to = r.source.to
			other.mustBackUp(r)
			other.mustBackUp(r)
		},
		"a newer file that is not valid": func(r *refused) {
			r.source.writeFile(r, archive.ManifestName(r.idAfter(time.Second)), []byte("{}"))
			r.run.Older = true
		},
		"an older file that cannot be read": func(r *refused) { r.run.Source = r.unreadable(r.idAfter(-time.Second)) },
		"junk in the destination": func(r *refused) {
			r.source.writeFile(r, archive.ManifestName(r.idAfter(-time.Second)), []byte("{}"))
			r.source.writeFile(r, "notes.txt", []byte("?"))
		},
		"an escrow that is not used": func(r *refused) { r.remove(archive.Name(r.run.ID, archive.KindEscrow, false)) },
		"a rekeyed copy for another identity": func(r *refused) {
			identity := newIdentity(r)
			r.source.rekey(r, r.run.ID, identity, r.source.to, r.source.identity)
			r.run.Identities = []age.Identity{identity}
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := newRefused(t, newSQLite, false)
			prepare(r)
			r.target.mustRestore(t, r.run)
			r.target.mustHave(t, r.source.users)
		})
	}
}

// rekey writes a copy of a backup for another identity.
func (s *site) rekey(t testing.TB, id string, identity *age.X25519Identity, to destination.Destination, with ...age.Identity) []string {
	t.Helper()
	rekeying := &backup.Rekeying{
		Source: s.to, ID: id, PublicKeys: s.publicKeys(), Identities: with, Recipients: []age.Recipient{identity.Recipient()}, Output: to, Phase: quiet,
	}
	written, err := rekeying.Run(ctx)
	if err != nil {
		t.Fatal(err)
	}
	return written.Files
}
