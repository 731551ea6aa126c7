package backup

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"hash"
	"slices"

	"github.com/securenotes/securenotes/app/config"
	"github.com/securenotes/securenotes/app/internal/backup/archive"
	"github.com/securenotes/securenotes/app/internal/envelope"
)

// repeated returns what an earlier run did that restored the same backup completely, such as one
// whose end was lost: then the database has exactly the rows of the backup. Otherwise it returns
// notEmpty, which is why the target is refused.
func (r *Restore) repeated(ctx context.Context, m *archive.Manifest, notEmpty error) (*Restored, error) {
	meta, err := r.Target.Meta(ctx)
	if err != nil {
		return nil, errors.Join(notEmpty, err)
	}
	if meta.Epoch == "" || meta.DeploymentID != m.Deployment.ID {
		return nil, notEmpty
	}
	there, err := r.digestTarget(ctx)
	if err != nil {
		return nil, errors.Join(notEmpty, err)
	}
	var backedUp rowDigests
	found, err := r.examine(ctx, m, func() rowVisitor {
		backedUp = rowDigests{}
		return backedUp.add
	})
	if err != nil {
		return nil, errors.Join(notEmpty, err)
	}
	defer clearSecrets(found.Report)
	if !backedUp.equal(there) {
		return nil, notEmpty
	}
	restored := &Restored{Manifest: m, Rows: totalRows(m), FromEscrow: r.FromEscrow, PepperDigest: meta.PepperDigest, Before: true}
	// The digests leave out how the owner keys are wrapped.
	verified, err := r.verify(ctx, m, envelope.NewKeyring(m.Deployment.ID, r.Provider), found.damaged)
	if err != nil {
		return nil, fmt.Errorf("verify what an earlier run restored: %w", err)
	}
	restored.Verified, restored.Damaged = verified.Report, verified.damaged
	if restored.Fence, err = r.Target.Fence(ctx); err != nil || !r.FromEscrow {
		return restored, err
	}
	// The name of the earlier run's entry is not recorded here. The same peppers under another name
	// have the same digest.
	pepper := found.pepper()
	if digest, err := pepper.Digest(); err != nil || digest != meta.PepperDigest {
		return nil, errors.Join(notEmpty, err)
	}
	restored.PepperEntry = config.NewPepperEntry()
	return restored, r.NewPeppers.CreatePepper(ctx, restored.PepperEntry, pepper)
}

// digestTarget returns the digests of the rows in the target.
func (r *Restore) digestTarget(ctx context.Context) (rowDigests, error) {
	snapshot, err := r.Target.Snapshot(ctx)
	if err != nil {
		return nil, err
	}
	defer snapshot.Close()
	tables, err := snapshot.Tables(ctx)
	if err != nil {
		return nil, err
	}
	digests := rowDigests{}
	for i, described := range archiveTables(tables) {
		if err := snapshot.Rows(ctx, tables[i], func(values []any) error { return digests.add(described, values) }); err != nil {
			return nil, err
		}
	}
	return digests, nil
}

// rowDigests are digests of the rows of each table, without how owner keys are wrapped, which a
// restore from an escrow changes.
type rowDigests map[string]hash.Hash

// add adds a row.
func (d rowDigests) add(table archive.Table, values []any) error {
	sum := d[table.Name]
	if sum == nil {
		sum = sha256.New()
		d[table.Name] = sum
	}
	var encoded []byte
	for i, column := range table.Columns {
		if table.Name == archive.TableOwnerKeys && slices.Contains([]string{columnWrapped, columnVersion, columnBornVersion}, column.Name) {
			continue
		}
		var err error
		if encoded, err = appendValue(encoded, values[i]); err != nil {
			return fmt.Errorf("table %s, column %s: %w", table.Name, column.Name, err)
		}
	}
	_, err := sum.Write(encoded)
	return err
}

// appendValue appends a value so that different rows never encode alike.
func appendValue(to []byte, value any) ([]byte, error) {
	switch value := value.(type) {
	case nil:
		return append(to, 0), nil
	case int64:
		return binary.BigEndian.AppendUint64(append(to, 1), uint64(value)), nil //nolint:gosec // only compared
	case string:
		return append(binary.BigEndian.AppendUint64(append(to, 2), uint64(len(value))), value...), nil
	case []byte:
		return append(binary.BigEndian.AppendUint64(append(to, 3), uint64(len(value))), value...), nil
	}
	return nil, fmt.Errorf("it has a value of type %T", value)
}

// equal reports whether the rows are the same.
func (d rowDigests) equal(other rowDigests) bool {
	for name, sum := range d {
		if o := other[name]; o == nil || !slices.Equal(sum.Sum(nil), o.Sum(nil)) {
			return false
		}
	}
	return len(d) == len(other)
}
