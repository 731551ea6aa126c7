package backup

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"

	"filippo.io/age"

	"github.com/securenotes/securenotes/app/config"
	"github.com/securenotes/securenotes/app/internal/backup/archive"
	"github.com/securenotes/securenotes/app/internal/deployment"
	"github.com/securenotes/securenotes/app/internal/envelope"
)

// keyPage is how many owner keys one call of the key provider unwraps or wraps.
const keyPage = 250

// Indexes of the escrow's tables.
const escrowKeys, escrowPeppers = 0, 1

// writeEscrow writes the owner keys and the peppers of the archive, so that no Vault is needed to
// restore it.
func (w *writing) writeEscrow(ctx context.Context, m *archive.Manifest, recipients []age.Recipient) error {
	pepper, values, err := w.peppers(ctx)
	if err != nil {
		return err
	}
	contents := archive.Contents{
		Kind: archive.KindEscrow, ID: m.ID, DeploymentID: m.Deployment.ID, Schema: m.Schema,
		CurrentPepper: pepper.CurrentID, Tables: archive.EscrowTables(),
	}
	var written archive.Written
	err = w.Phase(ctx, "owner keys", func(ctx context.Context, report Report) error {
		written, err = w.upload(ctx, archive.Name(m.ID, archive.KindEscrow, false), contents, recipients, func(out *archive.Writer) error {
			if err := w.writeKeys(ctx, m, out, counter(m.Rows[archive.TableOwnerKeys], report)); err != nil {
				return err
			}
			// Recovery codes may need a pepper that no password needs.
			for _, id := range slices.Sorted(maps.Keys(values)) {
				if err := out.Row(escrowPeppers, []any{id, values[id]}); err != nil {
					return err
				}
			}
			return nil
		})
		return err
	})
	m.Escrow = &written.File
	return err
}

// peppers reads the peppers, and checks that they are those of the passwords in the archive: an
// escrow that lacks one does not restore.
func (w *writing) peppers(ctx context.Context) (*config.Pepper, map[string][]byte, error) {
	pepper, err := w.Peppers.Pepper(ctx)
	if err != nil {
		return nil, nil, err
	}
	if err := deployment.CheckPepperDigest(w.meta.PepperDigest, pepper); err != nil {
		return nil, nil, err
	}
	values, err := pepper.Values()
	if err := errors.Join(err, archive.CheckPeppers(len(values))); err != nil {
		return nil, nil, err
	}
	for _, id := range w.census.pepperIDs() {
		if values[id] == nil {
			return nil, nil, refuse(ErrPepperMissing, "escrow",
				fmt.Sprintf("%d passwords need the pepper %s, which is not in Vault", w.census.peppers[id], id),
				"restore the pepper from a backup of Vault, delete these accounts, or back up without escrow")
		}
	}
	return pepper, values, nil
}

// writeKeys writes the canary's key, then every owner key in the order of the archive.
func (w *writing) writeKeys(ctx context.Context, m *archive.Manifest, out *archive.Writer, count func()) error {
	canary := w.meta.Canary
	canary.Owner = archive.CanaryOwner
	page := append(make([]envelope.StoredKey, 0, keyPage), canary)
	flush := func() error {
		if len(page) == 0 {
			return nil
		}
		keys, err := w.Keys.Export(ctx, page)
		if errors.Is(err, envelope.ErrRefused) {
			err = w.explainRefused(ctx, m, page, err)
		}
		page = page[:0]
		if err != nil {
			return err
		}
		for _, key := range keys {
			defer key.Clear()
		}
		for _, key := range keys {
			if err := out.Row(escrowKeys, []any{key.Owner, key.ID, key.Raw}); err != nil {
				return err
			}
		}
		return nil
	}
	for i, table := range w.tables {
		if table.Name != archive.TableOwnerKeys {
			continue
		}
		described := archiveTables(w.tables[i : i+1])[0]
		if err := w.snapshot.Rows(ctx, table, func(values []any) error {
			count()
			key, err := storedKey(described, values)
			if err != nil {
				return err
			}
			if page = append(page, key); len(page) < keyPage {
				return nil
			}
			return flush()
		}); err != nil {
			return fmt.Errorf("read the owner keys: %w", err)
		}
	}
	return flush()
}

// explainRefused returns the refusal because of the first key in page that does not unwrap: its
// version was retired meanwhile, or it is damaged. refused is the error.
func (w *writing) explainRefused(ctx context.Context, m *archive.Manifest, page []envelope.StoredKey, refused error) error {
	if _, err := w.neededVersions(ctx, m); err != nil {
		return err
	}
	keys, err := w.Keys.UnwrapAll(ctx, page)
	if err != nil {
		return err
	}
	for i, key := range keys {
		if key.Err == nil {
			continue
		}
		stored := page[i]
		if stored.Owner == archive.CanaryOwner {
			break
		}
		return &archive.Refusal{
			Reason: ErrDamagedRows, Object: "escrow", Err: key.Err,
			Cause: fmt.Sprintf("the owner key %s of the account %s does not unwrap, so what is sealed under it is unreadable", stored.ID, stored.Owner),
			Next:  "restore the row in owner_keys from a backup of the database, or delete the account, or back up without escrow until then",
		}
	}
	return refused
}
