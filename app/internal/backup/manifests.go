package backup

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"slices"
	"strings"
	"sync"

	"golang.org/x/sync/errgroup"

	"github.com/securenotes/securenotes/app/config"
	"github.com/securenotes/securenotes/app/internal/backup/archive"
	"github.com/securenotes/securenotes/app/internal/backup/destination"
)

// maxManifest bounds what is read of a manifest file, in bytes: more than one can have.
const maxManifest = 128 << 10

// manifestReaders is how many manifests are read at the same time.
const manifestReaders = 8

// Found is a manifest file in a destination.
type Found struct {
	ID string
	// Manifest is nil if Err says why the file is not a valid manifest.
	Manifest *archive.Manifest
	// SHA256 is that of the manifest file, in hexadecimal.
	SHA256 string
	Err    error
	// Incomplete says which file of a valid manifest is missing or has another size.
	Incomplete error
	// ended is the manifest if only a Compromise, which ended the version of the key, makes it not
	// valid.
	ended *archive.Manifest
	// whole reports whether the files of Manifest or ended, and not only copies of them, are there
	// with the sizes that it says.
	whole bool
	// ofOther reports whether the file names another key, as those of another SecureNotes in the
	// same destination do.
	ofOther bool
}

// List returns what a destination has, newest first, with the manifests verified. A file that is
// not valid, or that cannot be read although others can, is in the list with its error. Other
// errors mean that the destination cannot be read.
func List(ctx context.Context, from destination.Destination, keys *config.BackupKeys) ([]Found, error) {
	var all []Found
	if err := scan(ctx, from, keys, func(found Found) { all = append(all, found) }); err != nil {
		return nil, err
	}
	slices.SortFunc(all, func(a, b Found) int { return strings.Compare(b.ID, a.ID) })
	return all, nil
}

// scan is List, and calls visit with each manifest, in no order and never twice at the same time.
// So a caller need not keep them all in memory.
func scan(ctx context.Context, from destination.Destination, keys *config.BackupKeys, visit func(Found)) error {
	entries, err := from.List(ctx)
	if err != nil {
		return fmt.Errorf("list the backups: %w", err)
	}
	var ids []string
	sizes := make(map[string]int64, len(entries))
	for _, entry := range entries {
		sizes[entry.Name] = entry.Size
		if id, isManifest, ok := archive.SplitName(entry.Name); ok && isManifest {
			ids = append(ids, id)
		}
	}
	var one sync.Mutex
	group, reading := errgroup.WithContext(ctx)
	group.SetLimit(manifestReaders)
	for _, id := range ids {
		group.Go(func() error {
			found := Found{ID: id}
			file, err := readManifest(reading, from, id)
			switch {
			case errors.Is(err, destination.ErrUnavailable), reading.Err() != nil:
				return err
			case err != nil:
				found.Err = err
			default:
				found.verify(file, keys, sizes)
			}
			one.Lock()
			defer one.Unlock()
			visit(found)
			return nil
		})
	}
	return group.Wait()
}

// verify verifies a manifest file, and compares it with the sizes of the files in the destination.
func (f *Found) verify(file *manifestFile, keys *config.BackupKeys, sizes map[string]int64) {
	f.SHA256 = file.SHA256()
	f.ofOther = file.Key() != "" && file.Key() != keys.Key
	f.Manifest, f.Err = file.Verify(keys, "")
	f.Incomplete = incomplete(f.Manifest, sizes)
	if errors.Is(f.Err, archive.ErrEndedVersion) {
		// Its own SHA-256 accepts it. Whatever else is wrong is still an error.
		f.ended, _ = file.Verify(keys, f.SHA256)
	}
	f.whole = isWhole(cmp.Or(f.Manifest, f.ended), sizes)
}

// isWhole reports whether the files of a manifest are there with the sizes that it says.
func isWhole(m *archive.Manifest, sizes map[string]int64) bool {
	if m == nil {
		return false
	}
	for _, kind := range []archive.Kind{archive.KindArchive, archive.KindEscrow} {
		if want, has := m.File(kind); has && sizes[archive.Name(m.ID, kind, false)] != want.Size {
			return false
		}
	}
	return true
}

// incomplete says which file of a backup is missing or has another size than the manifest says.
func incomplete(m *archive.Manifest, sizes map[string]int64) error {
	if m == nil {
		return nil
	}
	for _, kind := range []archive.Kind{archive.KindArchive, archive.KindEscrow} {
		want, has := m.File(kind)
		if !has {
			continue
		}
		name := archive.Name(m.ID, kind, false)
		size, there := sizes[name]
		_, copied := sizes[archive.Name(m.ID, kind, true)]
		switch {
		case !there && !copied:
			return refuse(archive.ErrMissing, name, "there is no such file beside the manifest", "put the file there, or use another backup")
		case there && size != want.Size:
			return refuse(archive.ErrDamaged, name, fmt.Sprintf("it has %d bytes, and the signed manifest says %d", size, want.Size), "use another copy of the backup, or another backup")
		}
	}
	return nil
}

// newest returns the valid backup of the deployment, or of the SecureNotes, that is newer than all
// others, or nil. An object that adopts a deployment has another UID, and a restore from an escrow
// brings another deployment. Only the version of the backup key that is in use signs valid ones:
// the holder of an older version could sign any number.
func newest(all []Found, of archive.Deployment) *archive.Manifest {
	var last *archive.Manifest
	for _, found := range all {
		m := found.Manifest
		if m == nil || m.Deployment.ID != of.ID && m.Deployment.SecureNotesUID != of.SecureNotesUID {
			continue
		}
		if last == nil || isLater(m, last) {
			last = m
		}
	}
	return last
}

// isLater reports whether a is newer than b. Two backups that ran at the same time can have the
// same sequence.
func isLater(a, b *archive.Manifest) bool {
	return a.Sequence > b.Sequence || a.Sequence == b.Sequence && a.CompletedAt.After(b.CompletedAt)
}

// manifestFile is a manifest file as it was read.
type manifestFile struct {
	*archive.Envelope
	raw []byte
}

// readManifest reads a manifest file. Errors: a Refusal if there is none or if it has not the form
// of one, and those of the destination.
func readManifest(ctx context.Context, from destination.Destination, id string) (*manifestFile, error) {
	name := archive.ManifestName(id)
	content, _, err := from.Open(ctx, name)
	if errors.Is(err, destination.ErrNotFound) {
		return nil, refuse(ErrUnknown, name, "not found in "+from.String(), "list the backups with `securenotes backup list`, or correct the destination")
	}
	if err != nil {
		return nil, fmt.Errorf("read the manifest: %w", err)
	}
	defer content.Close()
	raw, err := io.ReadAll(io.LimitReader(content, maxManifest))
	if err != nil {
		return nil, fmt.Errorf("read the manifest: %w", err)
	}
	envelope, err := archive.ParseEnvelope(name, raw)
	return &manifestFile{envelope, raw}, err
}

// files opens files as package archive wants them.
type files struct{ destination.Destination }

// Open implements archive.Source.
func (f files) Open(ctx context.Context, name string) (io.ReadCloser, int64, error) {
	content, size, err := f.Destination.Open(ctx, name)
	if errors.Is(err, destination.ErrNotFound) {
		err = fmt.Errorf("%w: %w", fs.ErrNotExist, err)
	}
	return content, size, err
}
