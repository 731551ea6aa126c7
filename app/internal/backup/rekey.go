package backup

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"

	"filippo.io/age"

	"github.com/securenotes/securenotes/app/config"
	"github.com/securenotes/securenotes/app/internal/backup/archive"
	"github.com/securenotes/securenotes/app/internal/backup/destination"
)

// Rekeying writes copies of a backup's files for other recipients, and a copy of its manifest. The
// signature covers what is encrypted, so it stays valid.
type Rekeying struct {
	Source     destination.Destination
	ID         string
	PublicKeys *config.BackupKeys
	// EndedSHA256 is that of [Restore].
	EndedSHA256 string
	Identities  []age.Identity
	Recipients  []age.Recipient
	Output      destination.Destination
	Phase       Phase
}

// Rekeyed is what a Rekeying wrote.
type Rekeyed struct {
	// Files are the names of the files.
	Files []string
	// EscrowLeftOut reports whether the backup has an escrow file that no identity opens.
	EscrowLeftOut bool
}

// Run writes the copies. The manifest is the last one.
func (k *Rekeying) Run(ctx context.Context) (*Rekeyed, error) {
	found, manifest, err := find(ctx, k.Source, k.PublicKeys, k.ID, k.EndedSHA256)
	if err != nil {
		return nil, err
	}
	// First, because whether an identity opens a file that was replaced means nothing.
	if _, err := readKind(ctx, archive.Check{Manifest: found.Manifest, Files: files{k.Source}}, k.Phase); err != nil {
		return nil, err
	}
	written := &Rekeyed{}
	want := map[archive.Kind]*archive.File{archive.KindArchive: &found.Manifest.Archive, archive.KindEscrow: found.Manifest.Escrow}
	for _, kind := range []archive.Kind{archive.KindArchive, archive.KindEscrow} {
		if want[kind] == nil {
			continue
		}
		err := k.copy(ctx, kind, *want[kind])
		if kind == archive.KindEscrow && errors.Is(err, archive.ErrWrongIdentity) {
			written.EscrowLeftOut = true // it may have other recipients than the archive
			continue
		}
		if err != nil {
			return nil, err
		}
		written.Files = append(written.Files, archive.Name(k.ID, kind, true))
	}
	if err := k.copyManifest(ctx, manifest); err != nil {
		return nil, err
	}
	written.Files = append(written.Files, archive.ManifestName(k.ID))
	return written, nil
}

// copyManifest writes the manifest, unless the output is the directory that it is from.
func (k *Rekeying) copyManifest(ctx context.Context, manifest []byte) error {
	name := archive.ManifestName(k.ID)
	err := k.Output.Create(ctx, name, bytes.NewReader(manifest))
	if !errors.Is(err, destination.ErrExists) {
		return err
	}
	if there, err := readManifest(ctx, k.Output, k.ID); err == nil && bytes.Equal(there.raw, manifest) {
		return nil
	}
	return k.exists(name)
}

// exists is the refusal to write to an output that has a file of that name.
func (k *Rekeying) exists(name string) error {
	return refuse(destination.ErrExists, name, "there is already such a file in "+k.Output.String(), "give an empty directory with --output")
}

// copy encrypts one file again.
func (k *Rekeying) copy(ctx context.Context, kind archive.Kind, want archive.File) error {
	name := archive.Name(k.ID, kind, false)
	content, _, err := k.Source.Open(ctx, name)
	if err != nil {
		return fmt.Errorf("rekey: %w", err)
	}
	defer content.Close()
	copied := archive.Name(k.ID, kind, true)
	err = k.Phase(ctx, "bytes", func(ctx context.Context, report Report) error {
		counted := &countingReader{from: content, total: want.Size, report: report}
		return createFrom(ctx, k.Output, copied, func(out io.Writer) error {
			return archive.Rekey(out, counted, k.Identities, k.Recipients, want, name, false)
		})
	})
	if errors.Is(err, destination.ErrExists) {
		return k.exists(copied)
	}
	return err
}

// countingReader reports how much was read.
type countingReader struct {
	from        io.Reader
	done, total int64
	report      Report
}

// Read implements io.Reader.
func (c *countingReader) Read(p []byte) (int, error) {
	n, err := c.from.Read(p)
	c.done += int64(n)
	c.report(c.done, max(c.total, c.done))
	return n, err
}
