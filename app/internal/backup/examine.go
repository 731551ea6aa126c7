package backup

import (
	"context"
	"errors"
	"fmt"

	"github.com/securenotes/securenotes/app/internal/backup/archive"
	"github.com/securenotes/securenotes/app/internal/store"
)

// examination is what a complete reading of a backup has found.
type examination struct {
	*archive.Report
	*census
	// rekeyed reports whether the copies for other recipients are used.
	rekeyed bool
}

// rowVisitor is called with each row of an archive.
type rowVisitor func(table archive.Table, values []any) error

// ignoreRow is a rowVisitor that does nothing.
func ignoreRow(archive.Table, []any) error { return nil }

// examine reads all files of the backup, first their digests, then all that is in them, and writes
// nothing. It prefers the original files to copies for other recipients.
func (r *Restore) examine(ctx context.Context, m *archive.Manifest, visit rowVisitor) (*examination, error) {
	if err := checkSchema(m); err != nil {
		return nil, err
	}
	if len(r.Identities) == 0 {
		return nil, refuse(archive.ErrNoIdentity, "backup "+m.ID, "no identity was given", "give the file with the age identity of one of its recipients with --identity")
	}
	check := r.check(m)
	found := &examination{census: newCensus()}
	check.Row = func(table archive.Table, values []any, _ []byte) error {
		return errors.Join(found.add(table, values), visit(table, values))
	}
	report, rekeyed, err := readFiles(ctx, check, r.Phase)
	found.Report, found.rekeyed = report, rekeyed
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
