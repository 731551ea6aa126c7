package backup_test

import (
	"context"
	"errors"
	"io"
	"sync"
	"time"

	"github.com/securenotes/securenotes/app/internal/backup/destination"
	"github.com/securenotes/securenotes/app/internal/envelope"
	"github.com/securenotes/securenotes/app/internal/store"
)

// errInterrupted is the error of an interrupted step, after which a run does nothing more, as if
// the process had been killed there.
var errInterrupted = errors.New("interrupted by the test")

// steps counts what a run does to others, and interrupts one step.
type steps struct {
	mu    sync.Mutex
	taken []string
	// at is the number of the step that fails, and err its error. All later steps fail as well.
	at  int
	err error
}

// take is called before a step, and after one whose answer can be lost.
func (s *steps) take(what string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.taken = append(s.taken, what)
	if s.at > 0 && len(s.taken) >= s.at {
		return s.err
	}
	return nil
}

// last returns the step that failed first, and whether one did.
func (s *steps) failed() (string, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.taken) < s.at {
		return "", false
	}
	return s.taken[s.at-1], true
}

// around runs a step that may be interrupted before and after it.
func (s *steps) around(what string, do func() error) error {
	if err := s.take("before: " + what); err != nil {
		return err
	}
	if err := do(); err != nil {
		return err
	}
	return s.take("after: " + what)
}

// idLength is the length of a backup's id, which begins the name of each of its files.
const idLength = 33

// steppedDestination takes a step before and after each call, and with each read.
type steppedDestination struct {
	destination.Destination
	*steps
}

// Create implements destination.Destination. A process that is killed cannot remove what it wrote,
// so an interrupted one leaves it.
func (d steppedDestination) Create(ctx context.Context, name string, content io.Reader) error {
	return d.around("create "+name[idLength:], func() error {
		read := &steppedReader{Reader: content, steps: d.steps, what: "write part of " + name[idLength:]}
		err := d.Destination.Create(ctx, name, read)
		if err == nil && read.err != nil {
			return read.err
		}
		return err
	})
}

// steppedReader ends the content at an interruption, so that a part of it is stored.
type steppedReader struct {
	io.Reader
	*steps
	what string
	err  error
}

func (r *steppedReader) Read(p []byte) (int, error) {
	if r.err = r.take(r.what); r.err != nil {
		return 0, io.EOF
	}
	return r.Reader.Read(p[:min(len(p), 512)])
}

// Open implements destination.Destination.
func (d steppedDestination) Open(ctx context.Context, name string) (content io.ReadCloser, size int64, err error) {
	err = d.around("open "+name[idLength:], func() error {
		content, size, err = d.Destination.Open(ctx, name)
		return err
	})
	if err != nil {
		return nil, 0, err
	}
	return steppedFile{content, d.steps, "read " + name[idLength:]}, size, nil
}

type steppedFile struct {
	io.ReadCloser
	*steps
	what string
}

func (f steppedFile) Read(p []byte) (int, error) {
	if err := f.take(f.what); err != nil {
		return 0, err
	}
	return f.ReadCloser.Read(p)
}

// List implements destination.Destination.
func (d steppedDestination) List(ctx context.Context) (all []destination.Entry, err error) {
	err = d.around("list", func() error {
		all, err = d.Destination.List(ctx)
		return err
	})
	return all, err
}

// Delete implements destination.Destination.
func (d steppedDestination) Delete(ctx context.Context, name string) error {
	return d.around("delete "+name[idLength:], func() error { return d.Destination.Delete(ctx, name) })
}

// Sweep implements destination.Destination.
func (d steppedDestination) Sweep(ctx context.Context, olderThan time.Time) (removed int, err error) {
	err = d.around("sweep", func() error {
		removed, err = d.Destination.Sweep(ctx, olderThan)
		return err
	})
	return removed, err
}

// steppedStore takes a step before and after each call that a run makes.
type steppedStore struct {
	store.Store
	*steps
}

// Snapshot implements backup.Source.
func (s steppedStore) Snapshot(ctx context.Context) (snapshot store.Snapshot, err error) {
	if err := s.take("snapshot"); err != nil {
		return nil, err
	}
	snapshot, err = s.Store.Snapshot(ctx)
	return steppedSnapshot{snapshot, s.steps}, err
}

// CountRows implements backup.Source.
func (s steppedStore) CountRows(ctx context.Context, t store.Table) (rows int64, err error) {
	if err := s.take("count " + t.Name); err != nil {
		return 0, err
	}
	return s.Store.CountRows(ctx, t)
}

// DeploymentID implements backup.Target.
func (s steppedStore) DeploymentID(ctx context.Context) (id string, err error) {
	if err := s.take("deployment id"); err != nil {
		return "", err
	}
	return s.Store.DeploymentID(ctx)
}

// CountUsers implements backup.Target.
func (s steppedStore) CountUsers(ctx context.Context) (int64, error) {
	if err := s.take("count users"); err != nil {
		return 0, err
	}
	return s.Store.CountUsers(ctx)
}

// Migrate implements backup.Target.
func (s steppedStore) Migrate(ctx context.Context) (applied int, err error) {
	err = s.around("migrate", func() error {
		applied, err = s.Store.Migrate(ctx)
		return err
	})
	return applied, err
}

// StartRestore implements backup.Target.
func (s steppedStore) StartRestore(ctx context.Context, run string, m store.Meta, existing store.Existing) error {
	return s.around("start", func() error { return s.Store.StartRestore(ctx, run, m, existing) })
}

// Load implements backup.Target.
func (s steppedStore) Load(ctx context.Context, run string, t store.Table, rows [][]any) error {
	return s.around("load "+t.Name, func() error { return s.Store.Load(ctx, run, t, rows) })
}

// AllKeys implements backup.Target, for the verification.
func (s steppedStore) AllKeys(ctx context.Context, after envelope.StoredKey, limit int) ([]store.RotationKey, error) {
	if err := s.take("verify"); err != nil {
		return nil, err
	}
	return s.Store.AllKeys(ctx, after, limit)
}

// FinishRestore implements backup.Target.
func (s steppedStore) FinishRestore(ctx context.Context, run string, m store.Meta, fence int, want map[string]int64) error {
	return s.around("finish", func() error { return s.Store.FinishRestore(ctx, run, m, fence, want) })
}

// steppedSnapshot takes a step before each call and each row.
type steppedSnapshot struct {
	store.Snapshot
	*steps
}

// Meta implements store.Snapshot.
func (s steppedSnapshot) Meta(ctx context.Context) (store.Meta, error) {
	if err := s.take("read meta"); err != nil {
		return store.Meta{}, err
	}
	return s.Snapshot.Meta(ctx)
}

// Rows implements store.Snapshot.
func (s steppedSnapshot) Rows(ctx context.Context, t store.Table, visit func([]any) error) error {
	return s.Snapshot.Rows(ctx, t, func(values []any) error {
		if err := s.take("row of " + t.Name); err != nil {
			return err
		}
		return visit(values)
	})
}

// steppedProvider takes a step before each call.
type steppedProvider struct {
	envelope.KeyProvider
	*steps
}

// Wrap implements envelope.KeyProvider.
func (p steppedProvider) Wrap(ctx context.Context, items []envelope.RawItem) ([]envelope.WrapResult, error) {
	if err := p.take("wrap"); err != nil {
		return nil, err
	}
	return p.KeyProvider.Wrap(ctx, items)
}

// Unwrap implements envelope.KeyProvider.
func (p steppedProvider) Unwrap(ctx context.Context, items []envelope.WrappedItem) ([]envelope.UnwrapResult, error) {
	if err := p.take("unwrap"); err != nil {
		return nil, err
	}
	return p.KeyProvider.Unwrap(ctx, items)
}
