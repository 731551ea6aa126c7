package reencrypt

import (
	"context"
	"errors"
	"fmt"

	"github.com/securenotes/securenotes/app/internal/deployment"
	"github.com/securenotes/securenotes/app/internal/envelope"
	"github.com/securenotes/securenotes/app/internal/store"
)

// ErrStaleRows means that data is still under an older version of the master key.
var ErrStaleRows = errors.New("data is still under an older master key version")

// Verification checks that a rotation is complete, using only the database and the key provider. It
// must run in a process of its own, whose key cache is empty.
type Verification struct {
	Store    VerificationStore
	Keys     *envelope.Keyring
	Strategy Strategy
	// To is the lowest version that anything may be under.
	To int
	// All opens every value. Without it one value of each table is opened under each owner key.
	All bool
	// Urgent makes the Verification yield to nobody.
	Urgent bool
	// Damaged, if it is set, is called with each owner key that does not unwrap and each value that
	// does not open, and the Verification continues. Without it the first one is the error.
	Damaged func(Damage)
	// Progress is called with the number of verified owner keys and the total. It must not block.
	Progress func(done, total int64)

	tables   []store.SealedTable
	throttle *throttle
	// keys is the number of owner keys.
	keys int64
}

// Report is what a Verification checked.
type Report struct {
	// Keys and Values are how many keys were unwrapped and values opened.
	Keys, Values int64
}

// Damage is an owner key that does not unwrap, or a value that does not open. It is the error of a
// Verification without Damaged. Its text has names and ids, and no value.
type Damage struct {
	// Table and Column say what it is, and Row is the id of its row.
	Table, Column, Row string
	Owner              string
	// Err is envelope.ErrRefused or envelope.ErrNotAuthentic.
	Err error
}

// Place returns where it is.
func (d Damage) Place() string {
	return fmt.Sprintf("%s.%s of row %s of owner %s", d.Table, d.Column, d.Row, d.Owner)
}

// Error says where it is and why.
func (d Damage) Error() string { return d.Place() + ": " + d.Err.Error() }

// Unwrap returns Err.
func (d Damage) Unwrap() error { return d.Err }

// isDamage reports whether an error concerns one owner key or one value, and not the key provider.
func isDamage(err error) bool {
	return errors.Is(err, envelope.ErrNotAuthentic) || errors.Is(err, envelope.ErrRefused)
}

// damaged reports damage, or returns it.
func (v *Verification) damaged(d Damage) error {
	if v.Damaged == nil || !isDamage(d.Err) {
		return d
	}
	v.Damaged(d)
	return nil
}

// Run verifies. The errors ErrStaleRows, envelope.ErrNotAuthentic and envelope.ErrRefused mean that
// the older version must not be retired. Any other error means that the verification could not be
// completed.
func (v *Verification) Run(ctx context.Context) (Report, error) {
	var report Report
	tables, wrapped, err := v.Store.SealedColumns(ctx)
	if err != nil {
		return report, err
	}
	v.tables, v.throttle = tables, newPace(0, usersAtWork(v.Store, v.Urgent)).throttle()
	if err := v.checkFence(ctx); err != nil {
		return report, err
	}
	if v.keys, err = v.Store.CountStaleKeys(ctx, store.StaleByWrapping, maxVersion); err != nil {
		return report, err
	}
	for _, column := range wrapped {
		if err := v.checkWrapped(ctx, column); err != nil {
			return report, err
		}
	}
	if err := v.checkStaleKeys(ctx); err != nil {
		return report, err
	}
	if err := v.checkRowsWithoutKey(ctx); err != nil {
		return report, err
	}
	meta, err := v.Store.Meta(ctx)
	if err != nil {
		return report, err
	}
	if err := deployment.OpenCanary(ctx, v.Keys, meta); err != nil {
		return report, err
	}
	if err := v.checkKeys(ctx, &report); err != nil {
		return report, err
	}
	// Data that is visible but not yet durable must not justify retiring an old version.
	if err := v.Store.Flush(ctx); err != nil {
		return report, fmt.Errorf("make the verified data durable: %w", err)
	}
	return report, nil
}

// checkFence returns ErrStaleRows if older keys can still be written.
func (v *Verification) checkFence(ctx context.Context) error {
	fence, err := v.Store.Fence(ctx)
	if err == nil && fence < v.To {
		err = fmt.Errorf("%w: the fence is at version %d, below %d, so older keys can still be written", ErrStaleRows, fence, v.To)
	}
	return err
}

// checkStaleKeys returns ErrStaleRows if the rotation has left a stale owner key.
func (v *Verification) checkStaleKeys(ctx context.Context) error {
	stale, err := v.Store.CountStaleKeys(ctx, v.Strategy.staleness(), v.To)
	if err == nil && stale > 0 {
		err = fmt.Errorf("%w: %d owner keys are below version %d", ErrStaleRows, stale, v.To)
	}
	return err
}

// checkRowsWithoutKey returns ErrStaleRows if the key of a row does not exist. All existing keys
// are fresh, but such a row may be under any older version.
func (v *Verification) checkRowsWithoutKey(ctx context.Context) error {
	for _, table := range v.tables {
		rows, err := v.countRowsWithoutKey(ctx, table)
		if err != nil {
			return err
		}
		if rows > 0 {
			return fmt.Errorf("%w: %d rows of %s are sealed with owner keys that do not exist", ErrStaleRows, rows, table.Name)
		}
	}
	return nil
}

// minParts and maxParts bound in how many parts the rows of a table are counted. keysPerPart owner
// keys justify one more part.
const minParts, maxParts, keysPerPart = 2, 64, 100

// countingParts returns ranges that cover every row, whatever its owner: the first has no
// beginning, the last no end.
func countingParts(keys int64) []store.OwnerRange {
	parts := make([]store.OwnerRange, min(maxParts, minParts+keys/keysPerPart))
	for i := 1; i < len(parts); i++ {
		parts[i].From = boundary(i, len(parts))
		parts[i-1].To = parts[i].From
	}
	return parts
}

// countRowsWithoutKey counts the rows of a table whose key does not exist.
func (v *Verification) countRowsWithoutKey(ctx context.Context, table store.SealedTable) (int64, error) {
	var total int64
	for _, part := range countingParts(v.keys) {
		rows, err := v.Store.CountRowsWithoutKey(ctx, table, part)
		if err != nil {
			return 0, err
		}
		total += rows
		if err := v.throttle.pause(ctx, 0); err != nil {
			return 0, err
		}
	}
	return total, nil
}

// checkWrapped returns ErrStaleRows if a key in the column is wrapped under an older version.
func (v *Verification) checkWrapped(ctx context.Context, column store.WrappedColumn) error {
	return v.Store.WrappedValues(ctx, column, func(value string) error {
		version, err := envelope.Wrapped(value).Version()
		if err != nil {
			return fmt.Errorf("%s.%s: %w", column.Table, column.Column, err)
		}
		if version < v.To {
			return fmt.Errorf("%w: %s.%s has a key under version %d, below %d", ErrStaleRows, column.Table, column.Column, version, v.To)
		}
		return nil
	})
}

// checkKeys unwraps every owner key and opens values under it.
func (v *Verification) checkKeys(ctx context.Context, report *Report) error {
	var after envelope.StoredKey
	for {
		page, err := v.Store.AllKeys(ctx, after, v.throttle.keyPageSize())
		if err != nil || len(page) == 0 {
			return err
		}
		stored := make([]envelope.StoredKey, len(page))
		for i, key := range page {
			stored[i] = key.StoredKey
		}
		keys, err := v.Keys.UnwrapAll(ctx, stored)
		if err != nil {
			return err
		}
		for i, key := range keys {
			if key.Err != nil {
				damage := Damage{Table: "owner_keys", Column: "wrapped", Row: stored[i].ID, Owner: stored[i].Owner, Err: key.Err}
				if err := v.damaged(damage); err != nil {
					return err
				}
				continue
			}
			opened, err := v.openValues(ctx, stored[i], key.Key)
			if err != nil {
				return fmt.Errorf("owner key %s: %w", stored[i].ID, err)
			}
			report.Keys++
			report.Values += opened
			v.Progress(report.Keys, max(v.keys, report.Keys))
		}
		after = stored[len(stored)-1]
	}
}

// maxVersion is above every version: counting the keys below it counts all keys.
const maxVersion = 1<<31 - 1

// openValues opens the values that are sealed with the key and returns how many it opened.
func (v *Verification) openValues(ctx context.Context, stored envelope.StoredKey, key *envelope.OwnerKey) (int64, error) {
	var opened int64
	limit := 1
	if v.All {
		limit = rowBatch
	}
	for _, table := range v.tables {
		after := ""
		for {
			rows, more, err := v.Store.SealedRows(ctx, table, stored.Owner, stored.ID, after, limit)
			if err != nil {
				return opened, err
			}
			for _, row := range rows {
				for i, column := range table.Columns {
					if row.Values[i] == nil {
						continue
					}
					place := envelope.Place{Kind: table.Name, Row: row.ID, Field: column, Revision: row.Revision}
					content, err := key.Open(place, row.Values[i])
					if err != nil {
						damage := Damage{Table: table.Name, Column: column, Row: row.ID, Owner: stored.Owner, Err: err}
						if err := v.damaged(damage); err != nil {
							return opened, err
						}
						continue
					}
					clear(content)
					opened++
				}
				after = row.ID
			}
			if err := v.throttle.pause(ctx, 0); err != nil {
				return opened, err
			}
			if !v.All || !more {
				break
			}
		}
	}
	return opened, nil
}
