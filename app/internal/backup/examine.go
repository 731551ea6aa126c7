package backup

import (
	"context"
	"errors"
	"fmt"

	"github.com/securenotes/securenotes/app/internal/backup/archive"
	"github.com/securenotes/securenotes/app/internal/store"
)

// examination is a reading of a backup, and what its rows need.
type examination struct {
	*reading
	*census
}

// examine reads all files of the backup, first their digests, then all that is in them, and writes
// nothing. It prefers the original files to copies for other recipients. begin returns the visitor
// of one reading.
func (r *Restore) examine(ctx context.Context, m *archive.Manifest, begin func() rowVisitor) (*examination, error) {
	if err := checkSchema(m); err != nil {
		return nil, err
	}
	if len(r.Identities) == 0 {
		return nil, refuse(archive.ErrNoIdentity, "backup "+m.ID, "no identity was given", "give the file with the age identity of one of its recipients with --identity")
	}
	found := &examination{}
	var err error
	found.reading, err = readFiles(ctx, r.check(m), r.Phase, func() rowVisitor {
		found.census = newCensus()
		visit := begin()
		return func(table archive.Table, values []any) error {
			return errors.Join(found.add(table, values), visit(table, values))
		}
	})
	return found, err
}

// check returns the reading of the files that the restore needs.
func (r *Restore) check(m *archive.Manifest) archive.Check {
	if !r.FromEscrow {
		unescrowed := *m
		unescrowed.Escrow = nil // neither needed nor readable
		m = &unescrowed
	}
	return archive.Check{Manifest: m, Files: files{r.Source}, Identities: r.Identities, NeedEscrow: r.FromEscrow}
}

// clearSecrets overwrites what a report has from the escrow.
func clearSecrets(report *archive.Report) {
	clear(report.CanaryKey)
	for _, pepper := range report.Peppers {
		clear(pepper.Value)
	}
}

// checkSchema refuses rows that this program does not know.
func checkSchema(m *archive.Manifest) error {
	latest, err := store.LatestSchema()
	if err != nil {
		return err
	}
	if m.Schema > latest {
		return refuse(ErrNewerSchema, "backup "+m.ID, fmt.Sprintf("its schema is %d, and this release knows %d", m.Schema, latest), "restore with release "+m.Program+" or later")
	}
	return nil
}
