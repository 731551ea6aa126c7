package backup

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"strings"

	"github.com/securenotes/securenotes/app/config"
	"github.com/securenotes/securenotes/app/internal/backup/archive"
	"github.com/securenotes/securenotes/app/internal/vault"
)

// choose returns the signed manifest of the backup to restore.
func (r *Restore) choose(ctx context.Context) (*archive.Manifest, error) {
	keys, err := TrustedKeys(ctx, r.PublicKeys, r.Living, r.FromEscrow, r.Log)
	if err != nil {
		return nil, err
	}
	file, err := readManifest(ctx, r.Source, r.ID)
	if err != nil {
		return nil, err
	}
	m, err := file.Verify(keys, r.EndedSHA256)
	if err != nil {
		return nil, err
	}
	if r.Older {
		return m, nil
	}
	all, err := List(ctx, r.Source, keys)
	if err != nil {
		return nil, err
	}
	if last := newest(all, m.Deployment); last != nil && last.ID != m.ID && isNewer(last, m, file, keys) {
		return nil, refuse(ErrOlder, "backup "+m.ID,
			fmt.Sprintf("%s is newer: its sequence is %d, not %d, it is of %s, and it has %s; the older one has %s", last.ID,
				last.Sequence, m.Sequence, last.CompletedAt.Format("2006-01-02 15:04 MST"), rowsText(last), rowsText(m)),
			"restore that one, or accept what is missing with --older")
	}
	for _, found := range all {
		if mayBeNewer(found, m) {
			return nil, &archive.Refusal{
				Reason: ErrOlder, Object: "backup " + m.ID, Err: found.Err,
				Cause: archive.ManifestName(found.ID) + " may be of a newer backup, and it cannot be verified",
				Next:  "put that right and try again, or accept with --older that what was written since may be missing",
			}
		}
	}
	return m, nil
}

// isNewer reports whether last, which the version of the key that is in use signed, is newer than
// m. A version that a Compromise ended signed all of its backups before.
func isNewer(last, m *archive.Manifest, file *manifestFile, keys *config.BackupKeys) bool {
	_, err := file.Verify(keys, "")
	return errors.Is(err, archive.ErrEndedVersion) || isLater(last, m)
}

// mayBeNewer reports whether a manifest that is not valid may be of a newer backup than m. The id
// has the time, but anyone can rename a file, so a signed one of a newer format counts always.
func mayBeNewer(found Found, m *archive.Manifest) bool {
	switch {
	case found.Err == nil, found.ID == m.ID, found.ofOther:
		return false
	case errors.Is(found.Err, archive.ErrNewerFormat):
		return true
	}
	return startOf(found.ID) >= startOf(m.ID)
}

// startOf returns the time in an id, which sorts as the times do.
func startOf(id string) string {
	start, _, _ := strings.Cut(id, "-")
	return start
}

// rowsText returns how many rows of each table a backup has.
func rowsText(m *archive.Manifest) string {
	texts := make([]string, 0, len(m.Rows))
	for _, table := range slices.Sorted(maps.Keys(m.Rows)) {
		texts = append(texts, fmt.Sprintf("%d %s", m.Rows[table], table))
	}
	return strings.Join(texts, ", ")
}

// TrustedKeys returns the public keys to verify manifests with: those that were kept elsewhere, or
// those of Vault. If both are of one key, the later ones decide, because a Compromise may have
// ended a version since the others were kept. If Vault fails to answer, keptAlone decides whether
// the others are trusted without it; that it has no such key is an answer.
func TrustedKeys(ctx context.Context, kept *config.BackupKeys, living KeyReader, keptAlone bool, log *slog.Logger) (*config.BackupKeys, error) {
	var current *config.BackupKeys
	var err error
	if living != nil {
		current, err = living.BackupKeys(ctx)
	}
	switch {
	case kept == nil && current == nil:
		return nil, noPublicKeys(err)
	case kept == nil:
		return current, nil
	case err != nil && !keptAlone && !errors.Is(err, vault.ErrNotFound):
		return nil, fmt.Errorf("read the public keys in Vault, because a Compromise may have ended a version since the file of --public-keys was saved: %w", err)
	case err != nil:
		log.Warn("Vault does not give the public keys, so a version that a Compromise has ended since the file of public keys was saved is still trusted", "error", err.Error())
	case current != nil && continues(current, kept):
		return merged(current, kept), nil
	}
	return kept, nil
}

// continues reports whether current are the same key as kept, with a later version.
func continues(current, kept *config.BackupKeys) bool {
	if current.Key != kept.Key || len(current.Versions) == 0 || len(kept.Versions) == 0 {
		return false
	}
	for _, version := range kept.Versions {
		if found, ok := current.Find(version.Version); ok && !bytes.Equal(found.PublicKey, version.PublicKey) {
			return false
		}
	}
	return current.Versions[len(current.Versions)-1].Version > kept.Versions[len(kept.Versions)-1].Version
}

// merged returns current, and the versions of kept that Vault no longer lists: it lists none below
// min_decryption_version. These have ended.
func merged(current, kept *config.BackupKeys) *config.BackupKeys {
	all := &config.BackupKeys{Key: current.Key, Versions: slices.Clone(current.Versions)}
	for _, version := range kept.Versions {
		if _, listed := current.Find(version.Version); !listed {
			if version.Until == nil {
				version.Until = &current.Versions[0].Since
			}
			all.Versions = append(all.Versions, version)
		}
	}
	slices.SortFunc(all.Versions, func(a, b config.BackupKey) int { return a.Version - b.Version })
	return all
}

func noPublicKeys(err error) error {
	refusal := &archive.Refusal{
		Reason: archive.ErrNoPublicKeys, Object: "signature", Cause: "there are no public keys to verify it with", Err: err,
		Next: "give the file that `securenotes backup public-keys` printed with --public-keys, or make the key in Vault readable",
	}
	if err != nil {
		refusal.Cause = "there are no public keys to verify it with, and Vault has none"
	}
	return fmt.Errorf("verify the manifest: %w", refusal)
}

// checkOrigin refuses a backup that Vault cannot open here. Vault's policies and the contexts of
// the owner keys contain the names and ids, so only an escrow leads elsewhere.
func (r *Restore) checkOrigin(m *archive.Manifest) error {
	object := "backup " + m.ID
	if r.FromEscrow {
		if m.Escrow == nil {
			return refuse(ErrNoEscrow, object, "it has no escrow file", "restore it without --escrow-identity, with the Vault that has its master key")
		}
		return nil
	}
	const next = "restore from the escrow with --escrow-identity, or under the same cluster id, namespace and name"
	switch {
	case m.MasterKey.Name != r.MasterKey:
		return refuse(ErrOtherDeployment, object, fmt.Sprintf("its master key is %s, and this deployment's is %s", m.MasterKey.Name, r.MasterKey), next)
	case m.Deployment.ID != r.Deployment.ID:
		return refuse(ErrOtherDeployment, object, fmt.Sprintf("it is of deployment %s, and this is deployment %s", m.Deployment.ID, r.Deployment.ID), next)
	}
	return nil
}
