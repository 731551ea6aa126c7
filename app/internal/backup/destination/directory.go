package destination

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"iter"
	"os"
	"path/filepath"
	"slices"
	"syscall"
	"time"

	"github.com/securenotes/securenotes/app/config"
)

// directory is a directory of a mounted volume. Its files are regular files: it follows no symbolic
// link that is in the directory, and opens no device, pipe or socket.
type directory struct {
	path string
	// link gives a file another name. It is [os.Root.Link], except in tests.
	link func(root *os.Root, from, to string) error
}

// namesAtOnce is how many names of a directory are read at once.
const namesAtOnce = 1000

func newDirectory(c config.Directory) *directory {
	return &directory{path: c.Path, link: (*os.Root).Link}
}

// String names the directory.
func (d *directory) String() string { return "directory " + d.path }

// prepare creates the directory. It does not create the one above, which is that of the volume.
func (d *directory) prepare() error {
	err := os.Mkdir(d.path, 0o700)
	if errors.Is(err, fs.ErrExist) {
		return nil
	}
	if err == nil {
		err = syncDirectory(filepath.Dir(d.path))
	}
	if errors.Is(err, fs.ErrNotExist) {
		return d.missing("create", "", err)
	}
	if err != nil {
		return d.failure("create", "", err)
	}
	return nil
}

// syncDirectory makes the names in a directory durable.
func syncDirectory(path string) error {
	root, err := os.OpenRoot(path)
	if err != nil {
		return err
	}
	defer root.Close()
	return syncNames(root)
}

// missing is the error for a directory that is not there.
func (d *directory) missing(verb, name string, err error) error {
	return &failure{action(verb, name, d), ErrNotFound, err, "create the directory, or check that its volume is mounted there"}
}

// open opens the directory.
func (d *directory) open(verb, name string) (*os.Root, error) {
	root, err := os.OpenRoot(d.path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, d.missing(verb, name, err)
	}
	if err != nil {
		return nil, d.failure(verb, name, err)
	}
	return root, nil
}

// Create writes a file that only its owner can read.
func (d *directory) Create(ctx context.Context, name string, content io.Reader) error {
	if err := checkName(name); err != nil {
		return err
	}
	root, err := d.open("write", name)
	if err != nil {
		return err
	}
	defer root.Close()
	create := store
	if isManifest(name) {
		create = d.storeWhole
	}
	read := &source{ctx: ctx, content: content}
	switch err := create(root, name, read); {
	case err == nil:
		return nil
	case read.err != nil:
		return fmt.Errorf("%s: %w", action("write", name, d), err)
	default:
		return d.failure("write", name, err)
	}
}

// store writes a file under its final name, and removes it after an error.
func store(root *os.Root, name string, content io.Reader) error {
	if err := write(root, name, content); err != nil {
		return err
	}
	if err := syncNames(root); err != nil {
		return errors.Join(err, root.Remove(name))
	}
	return nil
}

// write writes a new file and makes its content durable. It removes the file after an error.
func write(root *os.Root, name string, content io.Reader) error {
	f, err := root.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	_, err = io.Copy(f, content)
	if err == nil {
		err = f.Sync()
	}
	if err := errors.Join(err, f.Close()); err != nil {
		return errors.Join(err, root.Remove(name))
	}
	return nil
}

// storeWhole writes a file that has its final name only with its whole content, also if the process
// is killed. It links a temporary file, because a rename would overwrite a file.
func (d *directory) storeWhole(root *os.Root, name string, content io.Reader) error {
	temporary := temporaryName(name)
	if err := write(root, temporary, content); err != nil {
		return err
	}
	// Sweep removes what is not removed here.
	defer func() { _ = root.Remove(temporary) }()
	switch err := d.link(root, temporary, name); {
	case err == nil, errors.Is(err, fs.ErrExist) && sameFile(root, temporary, name):
		// NFS may repeat a request whose answer was lost, and find its own link.
	case hasNoLinks(err):
		return copyFile(root, temporary, name)
	default:
		return err
	}
	if err := syncNames(root); err != nil {
		return errors.Join(err, root.Remove(name))
	}
	return nil
}

// hasNoLinks reports whether a file system cannot give a file another name.
func hasNoLinks(err error) bool {
	return errors.Is(err, syscall.EPERM) || errors.Is(err, syscall.ENOTSUP) || errors.Is(err, syscall.ENOSYS)
}

func sameFile(root *os.Root, one, other string) bool {
	a, err := root.Lstat(one)
	if err != nil {
		return false
	}
	b, err := root.Lstat(other)
	return err == nil && os.SameFile(a, b)
}

// copyFile stores the content of a file under another name.
func copyFile(root *os.Root, from, to string) error {
	content, _, err := openRegular(root, from)
	if err != nil {
		return err
	}
	defer content.Close()
	return store(root, to, content)
}

// syncNames makes the names in a directory durable.
func syncNames(root *os.Root) error {
	names, err := root.Open(".")
	if err != nil {
		return err
	}
	return errors.Join(names.Sync(), names.Close())
}

// Open opens a regular file.
func (d *directory) Open(_ context.Context, name string) (io.ReadCloser, int64, error) {
	if err := checkName(name); err != nil {
		return nil, 0, err
	}
	root, err := d.open("read", name)
	if err != nil {
		return nil, 0, err
	}
	defer root.Close()
	f, size, err := openRegular(root, name)
	if err != nil {
		return nil, 0, d.failure("read", name, err)
	}
	return f, size, nil
}

// errIrregular is the error for what looks like a backup's file, but is not a regular file.
var errIrregular = errors.New("it is not a regular file")

// openRegular opens a regular file. An [os.Root] follows symbolic links, so it looks first, and
// compares what it has opened. It does not block if a pipe takes the name meanwhile.
func openRegular(root *os.Root, name string) (*os.File, int64, error) {
	before, err := root.Lstat(name)
	if err != nil {
		return nil, 0, err
	}
	if !before.Mode().IsRegular() {
		return nil, 0, errIrregular
	}
	f, err := root.OpenFile(name, os.O_RDONLY|syscall.O_NONBLOCK, 0)
	if err != nil {
		return nil, 0, err
	}
	opened, err := f.Stat()
	if err == nil && !os.SameFile(before, opened) {
		err = errIrregular
	}
	if err != nil {
		return nil, 0, errors.Join(err, f.Close())
	}
	return f, opened.Size(), nil
}

// List returns the regular files of backups.
func (d *directory) List(ctx context.Context) ([]Entry, error) {
	root, err := d.open("list", "")
	if err != nil {
		return nil, err
	}
	defer root.Close()
	var found listing
	if err := walk(ctx, root, found.add); err != nil {
		return nil, d.failure("list", "", err)
	}
	return found.sorted(), nil
}

// walk calls visit for the regular files of a directory, until it returns an error.
func walk(ctx context.Context, root *os.Root, visit func(Entry) error) error {
	names, err := root.Open(".")
	if err != nil {
		return err
	}
	defer names.Close()
	for {
		batch, err := names.ReadDir(namesAtOnce)
		for _, e := range batch {
			if !e.Type().IsRegular() {
				continue
			}
			info, err := e.Info()
			if errors.Is(err, fs.ErrNotExist) {
				continue // it was removed meanwhile
			}
			if err != nil {
				return err
			}
			if err := visit(Entry{Name: e.Name(), Size: info.Size(), ModTime: info.ModTime()}); err != nil {
				return err
			}
		}
		switch {
		case errors.Is(err, io.EOF):
			return nil
		case err != nil:
			return err
		case ctx.Err() != nil:
			return context.Cause(ctx)
		}
	}
}

// Delete removes a regular file.
func (d *directory) Delete(_ context.Context, name string) error {
	if err := checkName(name); err != nil {
		return err
	}
	root, err := d.open(verbDelete, name)
	if err != nil {
		return err
	}
	defer root.Close()
	switch err := remove(root, name); {
	case err == nil, errors.Is(err, fs.ErrNotExist):
		return nil
	default:
		return d.failure(verbDelete, name, err)
	}
}

// remove removes a regular file. If something else takes its name meanwhile, then that goes, and
// nothing that it links to.
func remove(root *os.Root, name string) error {
	found, err := root.Lstat(name)
	if err != nil {
		return err
	}
	if !found.Mode().IsRegular() {
		return errIrregular
	}
	if err := root.Remove(name); err != nil {
		return err
	}
	return syncNames(root)
}

// Sweep removes the files of backups without a manifest, and temporary files.
func (d *directory) Sweep(ctx context.Context, olderThan time.Time) (removed int, err error) {
	root, err := d.open("sweep", "")
	if err != nil {
		return 0, err
	}
	defer root.Close()
	found := leftovers{olderThan: olderThan}
	var temporary []string
	err = walk(ctx, root, func(e Entry) error {
		if isTemporary(e.Name) && e.ModTime.Before(olderThan) {
			temporary = append(temporary, e.Name)
		}
		return found.add(e)
	})
	if err != nil {
		return 0, d.failure("sweep", "", err)
	}
	for _, names := range []iter.Seq[string]{slices.Values(temporary), found.names()} {
		for name := range names {
			if err := root.Remove(name); err != nil && !errors.Is(err, fs.ErrNotExist) {
				return removed, d.failure("remove", name, err)
			}
			removed++
		}
	}
	return removed, nil
}

// failure returns the error of an operation on the directory.
func (d *directory) failure(verb, name string, err error) error {
	f := &failure{action: action(verb, name, d), cause: err, next: "correct the cause, and start again"}
	limit, exceeded := errors.AsType[*limitError](err)
	switch {
	case exceeded:
		f.next = limit.next
	case errors.Is(err, fs.ErrNotExist):
		f.class, f.next = ErrNotFound, "`securenotes backup list` shows what is there, if the volume is mounted"
	case errors.Is(err, fs.ErrExist):
		f.class, f.next = ErrExists, nextAfterExists
	case errors.Is(err, fs.ErrPermission), errors.Is(err, syscall.EROFS):
		f.class, f.next = ErrDenied, "check the owner and the mode of the directory, and that the volume is writable"
	case errors.Is(err, syscall.ENOSPC), errors.Is(err, syscall.EDQUOT):
		f.class, f.next = ErrFull, "delete old backups or enlarge the volume, and start a new backup"
	case errors.Is(err, syscall.EIO), errors.Is(err, syscall.ESTALE), errors.Is(err, syscall.ETIMEDOUT):
		f.class, f.next = ErrUnavailable, "check the volume, and try again"
	}
	return f
}
