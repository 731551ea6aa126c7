package archive

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"sync"

	"filippo.io/age"
)

// Source opens the files of a backup by name. It returns their size, or -1 if that is not known,
// and an error that wraps fs.ErrNotExist for a file that is not there.
type Source interface {
	Open(ctx context.Context, name string) (io.ReadCloser, int64, error)
}

// Check says which backup to verify, and how.
type Check struct {
	// Manifest is from [Envelope.Verify].
	Manifest *Manifest
	Files    Source
	// Identities open the archive and the escrow file. Without them, only digests are compared.
	Identities []age.Identity
	// NeedEscrow refuses a backup whose escrow file is missing, or is not opened by Identities.
	// Otherwise that file is only compared with its digest.
	NeedEscrow bool
	// Rekeyed selects the copies for other recipients. Their digests cannot be compared without
	// Identities.
	Rekeyed bool
	// Row, if set, is called for each row of the archive. The values are valid until it returns.
	// key is what the escrow file holds for a row of owner_keys; nil if the file was not opened.
	Row func(table Table, values []any, key []byte) error
	// Progress, if set, is called with the number of bytes that were read since the last call. The
	// calls do not overlap, but are from several goroutines.
	Progress func(n int)
}

// Report is what [Verify] found.
type Report struct {
	// Opened reports whether the archive was decrypted, and EscrowOpened whether the escrow file
	// was. Contents and the fields below it have what is in them.
	Opened, EscrowOpened bool
	// EscrowMissing reports whether there is no copy of the escrow file for other recipients,
	// although there is one of the archive.
	EscrowMissing bool
	Contents      Contents
	CanaryKey     []byte
	CurrentPepper string
	Peppers       []Pepper
}

// Verify checks the files of one backup against its manifest: [Digests], then, with identities,
// [Read].
func Verify(ctx context.Context, c Check) (*Report, error) {
	if err := Digests(ctx, c); err != nil {
		return nil, err
	}
	if len(c.Identities) == 0 {
		return &Report{}, nil
	}
	return Read(ctx, c)
}

// Digests compares the digests of all files of one backup with its manifest, and interprets none of
// their content. Of copies for other recipients, it compares what age decrypts.
func Digests(ctx context.Context, c Check) error {
	for _, kind := range []Kind{KindArchive, KindEscrow} {
		want, ok := c.Manifest.File(kind)
		if !ok {
			continue
		}
		err := c.digest(ctx, kind, want)
		if kind == KindEscrow && c.Rekeyed && c.optional(err) {
			continue
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// optional reports whether err means that the escrow file was not opened, although it may be whole.
func (c *Check) optional(err error) bool {
	return !c.NeedEscrow && (errors.Is(err, ErrWrongIdentity) || c.Rekeyed && errors.Is(err, ErrMissing))
}

func (c *Check) digest(ctx context.Context, kind Kind, want File) error {
	in, err := c.open(ctx, kind, want)
	if err != nil {
		return err
	}
	defer in.Close()
	name := Name(c.Manifest.ID, kind, c.Rekeyed)
	if c.Rekeyed {
		content, err := openAge(in, c.Identities, want, name, true)
		if err != nil {
			return err
		}
		return content.drain()
	}
	got := newMeter()
	if _, err := io.Copy(meteredWriter{got, io.Discard}, io.LimitReader(in, want.Size+1)); err != nil {
		return unreadable(name, err)
	}
	if got, want := got.digest(), (Digest{want.SHA256, want.Size}); got != want {
		switch {
		case got.Size < want.Size:
			return damaged(name, fmt.Sprintf("it has %d of the %d bytes of the signed manifest, so it is truncated", got.Size, want.Size))
		case got.Size > want.Size:
			return damaged(name, fmt.Sprintf("it has more than the %d bytes of the signed manifest, so it is extended", want.Size))
		}
		return differs(name, "it", got, want)
	}
	return nil
}

// open opens a file, and compares its size.
func (c *Check) open(ctx context.Context, kind Kind, want File) (io.ReadCloser, error) {
	name := Name(c.Manifest.ID, kind, c.Rekeyed)
	in, size, err := c.Files.Open(ctx, name)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, &Refusal{Reason: ErrMissing, Object: name, Cause: "there is no such file beside the manifest", Next: "put the file there, or use another backup"}
	}
	if err != nil {
		return nil, unreadable(name, err)
	}
	if !c.Rekeyed && size >= 0 && size != want.Size {
		in.Close()
		return nil, damaged(name, fmt.Sprintf("it has %d bytes, and the signed manifest says %d, so it is truncated, extended or of another backup", size, want.Size))
	}
	return &watchedFile{ctx, in, c.Progress}, nil
}

// watchedFile ends reads when ctx ends, and reports progress.
type watchedFile struct {
	ctx      context.Context
	in       io.ReadCloser
	progress func(int)
}

func (f *watchedFile) Read(p []byte) (int, error) {
	if err := f.ctx.Err(); err != nil {
		return 0, err
	}
	n, err := f.in.Read(p)
	if f.progress != nil {
		f.progress(n)
	}
	return n, err
}

// Close closes the file.
func (f *watchedFile) Close() error { return f.in.Close() }

// Read decrypts and parses all files of one backup, and compares them with each other and with the
// manifest, their digests included. The rows that it reports are proved only when it returns no
// error, unless [Digests] has succeeded and the files cannot change.
func Read(ctx context.Context, c Check) (*Report, error) {
	if report := c.Progress; report != nil {
		var both sync.Mutex // the readers of archive and escrow read ahead
		c.Progress = func(n int) {
			both.Lock()
			defer both.Unlock()
			report(n)
		}
	}
	in, err := c.open(ctx, KindArchive, c.Manifest.Archive)
	if err != nil {
		return nil, err
	}
	defer in.Close()
	r, err := Open(in, c.Identities, c.Manifest.Archive, KindArchive, c.Manifest.ID, c.Rekeyed)
	if err != nil {
		return nil, err
	}
	defer r.Close()
	p := &pass{Check: c, archive: r, report: &Report{Opened: true, Contents: r.Contents()}, rows: map[string]int64{}}
	defer p.close()
	if err := p.run(ctx); err != nil {
		return nil, err
	}
	return p.report, nil
}

// pass reads the files of a backup once.
type pass struct {
	Check
	archive *Reader
	report  *Report
	rows    map[string]int64
	// ownerKeys is the index of the table owner_keys, or -1. escrow is open while its rows are
	// read.
	ownerKeys  int
	escrow     *Escrow
	escrowFile io.Closer
}

func (p *pass) run(ctx context.Context) error {
	if err := p.compare(); err != nil {
		return err
	}
	escrowRead := false
	for {
		table, values, err := p.archive.Next()
		ended := errors.Is(err, io.EOF)
		if err != nil && !ended {
			return err
		}
		if !escrowRead && (ended || table >= p.ownerKeys) {
			if err := p.openEscrow(ctx); err != nil {
				return err
			}
			escrowRead = true
		}
		if p.escrow != nil && (ended || table > p.ownerKeys) {
			if err := p.closeEscrow(); err != nil {
				return err
			}
		}
		if ended {
			return p.compareRows()
		}
		if err := p.row(table, values); err != nil {
			return err
		}
	}
}

// compare compares the first member of the archive with the manifest.
func (p *pass) compare() error {
	c := p.report.Contents
	if c.DeploymentID != p.Manifest.Deployment.ID || c.Schema != p.Manifest.Schema {
		return damaged(p.archive.name, fmt.Sprintf("%s names the deployment %s and schema %d, and the signed manifest %s and %d",
			contentsMember, c.DeploymentID, c.Schema, p.Manifest.Deployment.ID, p.Manifest.Schema))
	}
	p.ownerKeys = -1
	for i, table := range c.Tables {
		p.rows[table.Name] = 0
		if table.Name == TableOwnerKeys {
			p.ownerKeys = i
		}
	}
	return nil
}

func (p *pass) row(table int, values []any) error {
	t := p.report.Contents.Tables[table]
	p.rows[t.Name]++
	var key []byte
	if p.escrow != nil && table == p.ownerKeys {
		owner, id, err := ownerAndID(t, values)
		if err != nil {
			return damaged(p.archive.name, fmt.Sprintf("%s", err))
		}
		if key, err = p.escrow.Key(owner, id); err != nil {
			return err
		}
	}
	if p.Row == nil {
		return nil
	}
	return p.Row(t, values, key)
}

// ownerAndID returns these columns of a row of owner_keys.
func ownerAndID(t Table, values []any) (owner, id string, err error) {
	for i, column := range t.Columns {
		switch column.Name {
		case "owner":
			owner, _ = values[i].(string)
		case "id":
			id, _ = values[i].(string)
		}
	}
	if owner == "" || id == "" {
		return "", "", fmt.Errorf("a row of %s has no owner or no id", t.Name)
	}
	return owner, id, nil
}

// compareRows compares the numbers of rows with the manifest.
func (p *pass) compareRows() error {
	if maps.Equal(p.rows, p.Manifest.Rows) {
		return nil
	}
	return damaged(p.archive.name, fmt.Sprintf("it has the rows %v, and the signed manifest says %v", p.rows, p.Manifest.Rows))
}

// openEscrow opens the escrow file, if there is one that is to be read.
func (p *pass) openEscrow(ctx context.Context) error {
	name := Name(p.Manifest.ID, KindEscrow, p.Rekeyed)
	want, ok := p.Manifest.File(KindEscrow)
	if !ok {
		if p.NeedEscrow {
			return &Refusal{Reason: ErrMissing, Object: name, Cause: "the backup was made without an escrow file",
				Next: "restore it under the same cluster id, namespace and name with Vault, or use a backup with an escrow file"}
		}
		return nil
	}
	in, err := p.open(ctx, KindEscrow, want)
	if p.optional(err) {
		p.report.EscrowMissing = true
		return nil
	}
	if err != nil {
		return err
	}
	r, err := Open(in, p.Identities, want, KindEscrow, p.Manifest.ID, p.Rekeyed)
	if err != nil {
		in.Close()
		if p.optional(err) {
			return nil
		}
		return err
	}
	p.escrowFile = in
	if p.escrow, err = NewEscrow(r, p.report.Contents); err != nil {
		r.Close()
		return err
	}
	p.report.EscrowOpened, p.report.CanaryKey, p.report.CurrentPepper = true, p.escrow.CanaryKey(), p.escrow.CurrentPepper()
	return nil
}

// closeEscrow reads the rest of the escrow file.
func (p *pass) closeEscrow() error {
	var err error
	p.report.Peppers, err = p.escrow.Finish(p.Manifest)
	p.close()
	return err
}

func (p *pass) close() {
	if p.escrow != nil {
		p.escrow.r.Close()
		p.escrow = nil
	}
	if p.escrowFile != nil {
		p.escrowFile.Close()
		p.escrowFile = nil
	}
}
