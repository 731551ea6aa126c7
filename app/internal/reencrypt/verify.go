package reencrypt

import (
	"context"
	"errors"
	"fmt"

	"github.com/securenotes/securenotes/app/internal/deployment"
	"github.com/securenotes/securenotes/app/internal/envelope"
	"github.com/securenotes/securenotes/app/internal/store"
)

// ErrStaleRows means that something is still under an older version of the master key.
var ErrStaleRows = errors.New("something is still under an older master key version")

// Verification shows that a rotation is complete, from the database and the key provider alone: it
// must run in a process of its own, whose cache is cold.
type Verification struct {
	Store    VerificationStore
	Keys     *envelope.Keyring
	Strategy Strategy
	// To is the version that nothing may be below.
	To int
	// All opens every value; otherwise one value under each owner key.
	All bool
	// Urgent has the Verification make way for nobody.
	Urgent bool
	// Progress is told how many owner keys of how many are verified; it must not block.
	Progress func(done, total int64)

	tables []store.SealedTable
	throttle *throttle
	// keys is how many owner keys there are.
	keys int64
}

// Report is what a Verification saw.
type Report struct {
	// Keys and Values are how many unwrapped and opened.
	Keys, Values int64
}

// Run verifies. Errors: ErrStaleRows, envelope.ErrNotAuthentic and envelope.ErrRefused mean that
// the older version must not be retired; others that the verification could not be done.
func (v *Verification) Run(ctx context.Context) (Report, error) {
	var report Report
	tables, wrapped, err := v.Store.SealedColumns(ctx)
	if err != nil {
		return report, err
	}
	v.tables, v.throttle = tables, newPace(0, usersAtWork(v.Store, v.Urgent)).throttle()
	fence, err := v.Store.Fence(ctx)
	if err != nil {
		return report, err
	}
	if fence < v.To {
		return report, fmt.Errorf("%w: the fence stands at version %d, below %d, so older keys can still be written", ErrStaleRows, fence, v.To)
	}
	if v.keys, err = v.Store.CountStaleKeys(ctx, store.StaleByWrapping, maxVersion); err != nil {
		return report, err
	}
	for _, column := range wrapped {
		if err := v.checkWrapped(ctx, column); err != nil {
			return report, err
		}
	}
	stale, err := v.Store.CountStaleKeys(ctx, v.Strategy.staleness(), v.To)
	if err != nil {
		return report, err
	}
	if stale > 0 {
		return report, fmt.Errorf("%w: %d owner keys are below version %d", ErrStaleRows, stale, v.To)
	}
	// Every key there is is fresh: what is sealed with none of them is under whatever there was before.
	for _, table := range tables {
		rows, err := v.countRowsWithoutKey(ctx, table)
		if err != nil {
			return report, err
		}
		if rows > 0 {
			return report, fmt.Errorf("%w: %d rows of %s are sealed with owner keys that are not there", ErrStaleRows, rows, table.Name)
		}
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
	// What is seen and not there yet must not decide that an old version can go.
	if err := v.Store.Flush(ctx); err != nil {
		return report, fmt.Errorf("have the database keep what was verified: %w", err)
	}
	return report, nil
}

// minParts and maxParts are in how many parts the rows of a table are counted, and keysPerPart how many owner keys make
// another part worth its while.
const minParts, maxParts, keysPerPart = 2, 64, 100

// countingParts cover whatever a row has for its owner: the first has no beginning, the last no end.
func countingParts(keys int64) []store.OwnerRange {
	parts := make([]store.OwnerRange, min(maxParts, minParts+keys/keysPerPart))
	for i := 1; i < len(parts); i++ {
		parts[i].From = boundary(i, len(parts))
		parts[i-1].To = parts[i].From
	}
	return parts
}

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

// checkKeys unwraps every owner key and opens what is under it.
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
				return fmt.Errorf("owner %s: %w", stored[i].Owner, key.Err)
			}
			opened, err := v.openValues(ctx, stored[i], key.Key)
			if err != nil {
				return fmt.Errorf("owner %s, owner key %s: %w", stored[i].Owner, stored[i].ID, err)
			}
			report.Keys++
			report.Values += opened
			v.Progress(report.Keys, max(v.keys, report.Keys))
		}
		after = stored[len(stored)-1]
	}
}

// maxVersion is above any version: counting what is below it counts all.
const maxVersion = 1<<31 - 1

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
						return opened, fmt.Errorf("%s of row %s in %s: %w", column, row.ID, table.Name, err)
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
