package backup

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"

	"golang.org/x/sync/errgroup"

	"github.com/securenotes/securenotes/app/internal/backup/archive"
	"github.com/securenotes/securenotes/app/internal/envelope"
	"github.com/securenotes/securenotes/app/internal/store"
)

// One transaction loads up to loadRows rows of up to about loadBytes bytes.
const loadRows, loadBytes = 5000, 4 << 20

// load reads the files once more and loads the rows. The digests are compared again at the end: the
// files may have been replaced since they were verified.
func (r *Restore) load(ctx context.Context, run string, p *plan) error {
	return r.Phase(ctx, "rows", func(ctx context.Context, report Report) error {
		batches := make(chan rowBatch, 1)
		group, ctx := errgroup.WithContext(ctx)
		group.Go(func() error {
			defer close(batches)
			return r.readBatches(ctx, p, batches)
		})
		group.Go(func() error {
			var done int64
			total := totalRows(p.manifest)
			for batch := range batches {
				if err := r.Target.Load(ctx, run, batch.table, batch.rows); err != nil {
					return fmt.Errorf("load %d rows into %s: %w", len(batch.rows), batch.table.Name, err)
				}
				done += int64(len(batch.rows))
				report(done, max(total, done))
			}
			return nil
		})
		return group.Wait()
	})
}

// readBatches reads the archive, and the escrow beside it, and sends the rows.
func (r *Restore) readBatches(ctx context.Context, p *plan, to chan<- rowBatch) error {
	b := &batcher{plan: p, send: func(batch rowBatch) error {
		select {
		case to <- batch:
			return nil
		case <-ctx.Done():
			return ctx.Err()
		}
	}}
	defer b.clear()
	check := r.check(p.manifest)
	check.Rekeyed = p.rekeyed
	check.Row = func(table archive.Table, values []any, key []byte) error { return b.add(ctx, table, values, key) }
	report, err := archive.Read(ctx, check)
	if err != nil {
		return whileLoading(err)
	}
	clearSecrets(report)
	return b.flush(ctx)
}

// whileLoading returns the error of a file that was read while its rows were loaded. It is not a
// Refusal, which would say that nothing has been written and that a repeated run is useless.
func whileLoading(err error) error {
	const next = "the database is marked as one that a restore has not finished: run the restore again"
	refusal, refused := errors.AsType[*archive.Refusal](err)
	switch {
	case !refused:
		return err
	case errors.Is(err, archive.ErrRead):
		return fmt.Errorf("%s: %w: %s", refusal.Object, refusal.Err, next)
	}
	return fmt.Errorf("%w: %s: %s: %s", ErrChanged, refusal.Object, refusal.Cause, next)
}

// rowBatch is rows of one table.
type rowBatch struct {
	table store.Table
	rows  [][]any
}

// batcher collects rows into batches. Owner keys with a key from the escrow are wrapped again.
type batcher struct {
	plan *plan
	send func(rowBatch) error

	table archive.Table
	rows  [][]any
	size  int
	// raw are the escrow's keys for the rows.
	raw []envelope.RawKey
}

// add adds a row, which it copies.
func (b *batcher) add(ctx context.Context, table archive.Table, values []any, key []byte) error {
	if len(b.rows) > 0 && (table.Name != b.table.Name || b.full()) {
		if err := b.flush(ctx); err != nil {
			return err
		}
	}
	b.table = table
	row := slices.Clone(values)
	for i, value := range values {
		switch value := value.(type) {
		case []byte:
			row[i] = bytes.Clone(value)
			b.size += len(value)
		case string:
			b.size += len(value)
		}
	}
	b.rows = append(b.rows, row)
	if key == nil {
		return nil
	}
	stored, err := storedKey(table, row)
	b.raw = append(b.raw, envelope.RawKey{Owner: stored.Owner, ID: stored.ID, Raw: bytes.Clone(key)})
	return err
}

func (b *batcher) full() bool {
	return len(b.rows) >= loadRows || b.size >= loadBytes || len(b.raw) >= keyPage
}

// flush sends the batch.
func (b *batcher) flush(ctx context.Context) error {
	if len(b.rows) == 0 {
		return nil
	}
	if len(b.raw) > 0 {
		err := b.plan.wrapAgain(ctx, b.table, b.rows, b.raw)
		b.clear()
		if err != nil {
			return err
		}
	}
	batch := rowBatch{storeTable(b.table), b.rows}
	b.rows, b.size = nil, 0
	return b.send(batch)
}

// clear overwrites the raw keys.
func (b *batcher) clear() {
	for _, key := range b.raw {
		key.Clear()
	}
	b.raw = b.raw[:0]
}

// wrapAgain replaces the wrappings in rows of owner_keys: the escrow has the raw keys, and the
// target's master key wraps them. Its versions begin at 1, whatever they were in the archive.
func (p *plan) wrapAgain(ctx context.Context, table archive.Table, rows [][]any, raw []envelope.RawKey) error {
	wrapped, err := p.keys.Import(ctx, raw)
	if err != nil {
		return err
	}
	columns := [...]int{columnIndex(table, columnWrapped), columnIndex(table, columnVersion), columnIndex(table, columnBornVersion)}
	if slices.Min(columns[:]) < 0 || len(wrapped) != len(rows) {
		return fmt.Errorf("table %s: it has not the columns of wrapped keys", table.Name)
	}
	for i, key := range wrapped {
		version, err := key.Wrapped.Version()
		if err != nil {
			return err
		}
		// The master key may be rotated meanwhile.
		p.fence = max(p.fence, version)
		rows[i][columns[0]] = string(key.Wrapped)
		rows[i][columns[1]], rows[i][columns[2]] = int64(version), int64(version)
	}
	return nil
}

// storeTable describes the table as package store does.
func storeTable(table archive.Table) store.Table {
	described := store.Table{Name: table.Name}
	for _, column := range table.Columns {
		described.Columns = append(described.Columns, store.Column{Name: column.Name, Kind: store.ColumnKind(column.Type)})
	}
	return described
}
