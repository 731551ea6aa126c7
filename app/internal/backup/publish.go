package backup

import (
	"bytes"
	"context"
	"errors"
	"fmt"

	"github.com/securenotes/securenotes/app/internal/backup/archive"
	"github.com/securenotes/securenotes/app/internal/vault"
)

// readBack reads the files from the destination and compares them with what was written.
func (b *Backup) readBack(ctx context.Context, m *archive.Manifest) error {
	if _, err := readKind(ctx, archive.Check{Manifest: m, Files: files{b.Destination}}, b.Phase); err != nil {
		return fmt.Errorf("read back what was written to %s: %w", b.Destination, err)
	}
	return nil
}

// neededVersions checks that the master key still has the versions that the archive needs. They may
// have been retired or trimmed meanwhile.
func (b *Backup) neededVersions(ctx context.Context, m *archive.Manifest) (*vault.KeyVersions, error) {
	versions, err := b.Versions.MasterKeyVersions(ctx)
	if err != nil {
		return nil, fmt.Errorf("read the versions of the master key %s: %w", b.MasterKey, err)
	}
	if least := max(versions.MinDecryption, versions.MinAvailable); m.MasterKey.OldestVersion < least {
		return nil, refuse(ErrVersionsGone, "backup "+m.ID, fmt.Sprintf("the archive needs version %d of the master key %s, but meanwhile it decrypts only with version %d and later",
			m.MasterKey.OldestVersion, b.MasterKey, least), nextIfGone)
	}
	return versions, nil
}

// recordVersions records the versions of the master key in the manifest.
func (b *Backup) recordVersions(ctx context.Context, m *archive.Manifest) error {
	versions, err := b.neededVersions(ctx, m)
	if err != nil {
		return err
	}
	for number := m.MasterKey.OldestVersion; number <= versions.Latest; number++ {
		version := archive.KeyVersion{Version: number}
		if created, known := versions.Created[number]; known {
			version.CreatedAt = &created
		}
		m.MasterKey.Versions = append(m.MasterKey.Versions, version)
	}
	return nil
}

// nextIfGone is what to do about a key version that has ended while a backup ran.
const nextIfGone = "start the backup again"

// checkSigned verifies a manifest with the public keys of now: a Compromise may have replaced the
// version that signed it.
func (b *Backup) checkSigned(ctx context.Context, envelope *archive.Envelope) (*archive.Manifest, error) {
	keys, err := b.Signer.BackupKeys(ctx)
	if err != nil {
		return nil, fmt.Errorf("read the public keys of the backup key: %w", err)
	}
	m, err := envelope.Verify(keys, "")
	if refusal, refused := errors.AsType[*archive.Refusal](err); refused && errors.Is(err, archive.ErrEndedVersion) {
		return nil, refuse(ErrVersionsGone, refusal.Object, "meanwhile a Compromise has replaced the version of the backup key that signed it", nextIfGone)
	}
	return m, err
}

// publish signs the manifest, verifies it as a restore would, and writes it.
func (b *Backup) publish(ctx context.Context, m *archive.Manifest) (*Made, error) {
	keys, err := b.Signer.BackupKeys(ctx)
	if err != nil {
		return nil, fmt.Errorf("read the public keys of the backup key: %w", err)
	}
	raw, err := archive.Seal(ctx, b.Signer, keys.Key, *m)
	if err != nil {
		return nil, fmt.Errorf("sign the manifest: %w", err)
	}
	envelope, err := archive.ParseEnvelope(archive.ManifestName(m.ID), raw)
	if err != nil {
		return nil, err
	}
	signed, err := b.checkSigned(ctx, envelope)
	if err != nil {
		return nil, err
	}
	if err := b.Destination.Create(ctx, archive.ManifestName(m.ID), bytes.NewReader(raw)); err != nil {
		return nil, fmt.Errorf("publish the backup: %w", err)
	}
	written, err := readManifest(ctx, b.Destination, m.ID)
	if err != nil {
		return nil, fmt.Errorf("read back what was written to %s: %w", b.Destination, err)
	}
	if !bytes.Equal(written.raw, raw) {
		return nil, fmt.Errorf("read back what was written to %s: %s is not the file that was written: check the destination, and start the backup again", b.Destination, archive.ManifestName(m.ID))
	}
	// What ends from now on ends after the backup was there, as in any other one.
	if _, err := b.checkSigned(ctx, envelope); err != nil {
		return nil, err
	}
	if _, err := b.neededVersions(ctx, m); err != nil {
		return nil, err
	}
	return &Made{Manifest: signed, SHA256: envelope.SHA256()}, nil
}
