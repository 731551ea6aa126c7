package backup

import (
	"context"
	"fmt"
	"io"

	"filippo.io/age"

	"github.com/securenotes/securenotes/app/internal/backup/archive"
	"github.com/securenotes/securenotes/app/internal/store"
)

// progressRows is after how many rows progress is reported.
const progressRows = 256

// writing is a backup with an open snapshot.
type writing struct {
	*Backup
	snapshot store.Snapshot
	meta     store.Meta
	fence    int
	tables   []store.Table
	census   *census
}

// writeArchive writes the rows, and records in the manifest what they need.
func (w *writing) writeArchive(ctx context.Context, m *archive.Manifest, recipients []age.Recipient) error {
	contents := archive.Contents{
		Kind: archive.KindArchive, ID: m.ID, DeploymentID: m.Deployment.ID, Schema: m.Schema, Fence: w.fence,
		Canary: &archive.Canary{ID: w.meta.Canary.ID, Wrapped: string(w.meta.Canary.Wrapped), Sealed: w.meta.Sealed},
		Tables: archiveTables(w.tables),
	}
	total, err := w.countRows(ctx)
	if err != nil {
		return err
	}
	var written archive.Written
	err = w.Phase(ctx, "rows", func(ctx context.Context, report Report) error {
		written, err = w.upload(ctx, archive.Name(m.ID, archive.KindArchive, false), contents, recipients, func(out *archive.Writer) error {
			return w.writeRows(ctx, out, contents.Tables, counter(total, report))
		})
		return err
	})
	if err != nil {
		return err
	}
	m.Archive, m.Rows, m.Peppers = written.File, written.Rows, w.census.pepperIDs()
	return nil
}

func (w *writing) writeRows(ctx context.Context, out *archive.Writer, tables []archive.Table, count func()) error {
	for i, table := range w.tables {
		if err := w.snapshot.Rows(ctx, table, func(values []any) error {
			count()
			if err := w.census.add(tables[i], values); err != nil {
				return err
			}
			return out.Row(i, values)
		}); err != nil {
			return fmt.Errorf("read the table %s: %w", table.Name, err)
		}
	}
	return nil
}

// countRows counts the rows for the progress. Users write meanwhile, so the snapshot may have
// others.
func (w *writing) countRows(ctx context.Context) (total int64, err error) {
	for _, table := range w.tables {
		rows, err := w.Store.CountRows(ctx, table)
		if err != nil {
			return 0, fmt.Errorf("count the rows of %s: %w", table.Name, err)
		}
		total += rows
	}
	return total, nil
}

// counter returns a function that counts one more, and reports some of the counts.
func counter(total int64, report Report) (count func()) {
	var done int64
	report(0, total)
	return func() {
		done++
		if done%progressRows == 0 || done >= total {
			report(done, max(total, done))
		}
	}
}

// upload writes a file to the destination while write produces its rows.
func (w *writing) upload(ctx context.Context, name string, contents archive.Contents, recipients []age.Recipient, write func(*archive.Writer) error) (written archive.Written, err error) {
	err = createFrom(ctx, w.Destination, name, func(out io.Writer) error {
		writer, err := archive.NewWriter(out, recipients, contents)
		if err != nil {
			return err
		}
		if err := write(writer); err != nil {
			return err
		}
		written, err = writer.Close()
		return err
	})
	return written, err
}

// archiveTables describes the tables as package archive does.
func archiveTables(tables []store.Table) []archive.Table {
	described := make([]archive.Table, len(tables))
	for i, table := range tables {
		described[i].Name = table.Name
		for _, column := range table.Columns {
			described[i].Columns = append(described[i].Columns, archive.Column{Name: column.Name, Type: archive.ColumnType(column.Kind)})
		}
	}
	return described
}
