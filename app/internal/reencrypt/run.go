package reencrypt

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"time"

	"github.com/securenotes/securenotes/app/internal/deployment"
	"github.com/securenotes/securenotes/app/internal/envelope"
	"github.com/securenotes/securenotes/app/internal/store"
)

// Strategy is what a rotation renews.
type Strategy string

// The strategies.
const (
	// Reencrypt makes new owner keys and seals every value again.
	Reencrypt Strategy = "Reencrypt"
	// Rewrap keeps owner keys and values, and wraps the keys again.
	Rewrap Strategy = "Rewrap"
)

// ParseStrategy reads a strategy's name.
func ParseStrategy(name string) (Strategy, error) {
	switch s := Strategy(name); s {
	case Reencrypt, Rewrap:
		return s, nil
	}
	return "", fmt.Errorf("strategy %q: must be %s or %s", name, Reencrypt, Rewrap)
}

// staleness returns what makes an owner key stale for the strategy.
func (s Strategy) staleness() store.Staleness {
	if s == Rewrap {
		return store.StaleByWrapping
	}
	return store.StaleByCreation
}

const (
	// ownerPage and keyPage are how many owners and keys are read at once.
	ownerPage, keyPage = 500, 100
	// maxPasses bounds how often an owner's rows are walked because new ones turned up under a key
	// that is retiring. A writer that still has the old key finds out with its next write.
	maxPasses = 100
)

// ErrWrongVersion means that the key provider wraps under a version other than the rotation's.
var ErrWrongVersion = errors.New("the key provider wraps under an older version than the rotation's")

// Job is one shard's part of one rotation.
type Job struct {
	Store JobStore
	// Keys are guarded: see deployment.GuardedKeyring.
	Keys     *envelope.Keyring
	Strategy Strategy
	// To is the master key version that everything is moved to.
	To int
	// Range is the shard's owners.
	Range store.OwnerRange
	// EndSessions, when it is not zero, ends the sessions that began then or before: after a compromise whoever
	// stole one must not go on with it.
	EndSessions time.Time
	// MaxPerSecond is how many rows this shard may write in a second; 0: any number.
	MaxPerSecond float64
	// Urgent has the Job make way for nobody.
	Urgent bool
	// Progress is told how many of how many rows are done; it must not block.
	Progress func(done, total int64)
	// Conflicts, when it is set, is told how many rows or keys were left alone so far because they had changed
	// since they were read: by a user, whose write counts, or by another process of the rotation.
	Conflicts func(total int64)
	Log       *slog.Logger

	pace   *pace
	tables []store.SealedTable

	// mu guards what follows.
	mu          sync.Mutex
	done, total int64
	conflicts   int64
	// damaged are what could not be moved, for the Job's error at the end.
	damaged []error
}

// maxDamaged bounds how many failures the Job's error names.
const maxDamaged = 10

// skipDamaged notes a failure that is one owner's alone, a value that does not open or a key that does
// not unwrap, and lets the Job go on: damage in one row must not keep everybody else's notes under a
// version that was compromised. It returns the errors that are everybody's.
func (j *Job) skipDamaged(what string, err error) error {
	if err == nil || !errors.Is(err, envelope.ErrNotAuthentic) && !errors.Is(err, envelope.ErrRefused) {
		return err
	}
	err = fmt.Errorf("%s: %w", what, err)
	j.Log.Error("passed over", "error", err.Error())
	j.mu.Lock()
	defer j.mu.Unlock()
	if len(j.damaged) < maxDamaged {
		j.damaged = append(j.damaged, err)
	}
	return nil
}

// Run does what is left of the shard's work. What is damaged is passed over and is the error at the
// end. Errors: store.ErrSuperseded when a newer rotation has begun; everything else can be tried again.
func (j *Job) Run(ctx context.Context) error {
	if err := j.Store.RaiseFence(ctx, j.To); err != nil {
		return fmt.Errorf("raise the fence to version %d: %w", j.To, err)
	}
	if !j.EndSessions.IsZero() {
		ended, err := j.Store.EndSessions(ctx, j.To, j.EndSessions)
		if err != nil {
			return fmt.Errorf("end the sessions: %w", err)
		}
		j.Log.Info("sessions ended", "sessions", ended, "begun", j.EndSessions)
	}
	var err error
	if j.tables, _, err = j.Store.SealedColumns(ctx); err != nil {
		return err
	}
	j.pace = newPace(j.MaxPerSecond, usersAtWork(j.Store, j.Urgent))
	if err := j.count(ctx); err != nil {
		return err
	}
	if err := j.renewCanary(ctx); err != nil {
		return fmt.Errorf("canary: %w", err)
	}
	work := j.reencryptOwners
	if j.Strategy == Rewrap {
		work = j.rewrapKeys
	}
	if err := work(ctx); err != nil {
		return err
	}
	return errors.Join(j.damaged...)
}

func (j *Job) count(ctx context.Context) error {
	throttle := j.pace.throttle()
	counts, err := stalenessCount{
		store: j.Store, tables: j.tables, owners: j.Range, staleness: j.Strategy.staleness(), to: j.To,
		page:  func() int { return j.pace.ownersPerPage(countPage) },
		pause: func() error { return throttle.pause(ctx, 0) },
	}.run(ctx)
	if err != nil {
		return err
	}
	for _, rows := range counts {
		j.total += rows
	}
	j.addDone(0)
	return nil
}

func (j *Job) addDone(more int64) {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.done += more
	// Users may have written more under keys that were stale when the rows were counted.
	j.total = max(j.total, j.done)
	j.Progress(j.done, j.total)
}

// conflict notes that so many rows or keys had changed since they were read.
func (j *Job) addConflicts(more int64) {
	if more <= 0 {
		return
	}
	j.mu.Lock()
	defer j.mu.Unlock()
	j.conflicts += more
	if j.Conflicts != nil {
		j.Conflicts(j.conflicts)
	}
}

// renewCanary comes before any key is wrapped, in every shard: only a canary that is under the new version tells whether
// the version that keys are wrapped under is still the one that this rotation made.
func (j *Job) renewCanary(ctx context.Context) error {
	old, err := j.Store.Meta(ctx)
	if err != nil {
		return err
	}
	version, err := old.Canary.Wrapped.Version()
	if err != nil || version >= j.To {
		return err
	}
	if err := deployment.OpenCanary(ctx, j.Keys, old); err != nil {
		return err
	}
	renewed, err := deployment.NewCanary(ctx, j.Keys)
	if err != nil {
		return err
	}
	if err := j.checkVersion(renewed.Canary.Wrapped); err != nil {
		return err
	}
	return j.Store.ReplaceCanary(ctx, j.To, old, renewed)
}

// checkVersion refuses a wrapping that the fence would refuse, with a better message.
func (j *Job) checkVersion(w envelope.Wrapped) error {
	version, err := w.Version()
	if err == nil && version < j.To {
		err = fmt.Errorf("%w: %d, not %d", ErrWrongVersion, version, j.To)
	}
	return err
}

// rewrapKeys walks the stale keys in order, fewer at a time while users are at work: they have the processors to share
// with Vault, too. A key that was replaced meanwhile is no longer stale.
func (j *Job) rewrapKeys(ctx context.Context) error {
	throttle := j.pace.throttle()
	var after envelope.StoredKey
	for {
		page, err := j.Store.StaleKeys(ctx, j.Range, j.Strategy.staleness(), j.To, after, j.pace.keyPageSize())
		if err != nil || len(page) == 0 {
			return err
		}
		stored := make([]envelope.StoredKey, len(page))
		for i, key := range page {
			stored[i] = key.StoredKey
		}
		results, err := j.Keys.Rewrap(ctx, stored)
		if err != nil {
			return err
		}
		moved := make([]store.Rewrapped, 0, len(page))
		for i, result := range results {
			if result.Err != nil {
				if err := j.skipDamaged(fmt.Sprintf("rewrap owner key %s of owner %s", page[i].ID, page[i].Owner), result.Err); err != nil {
					return err
				}
				continue
			}
			if err := j.checkVersion(result.Wrapped); err != nil {
				return err
			}
			moved = append(moved, store.Rewrapped{StoredKey: stored[i], New: result.Wrapped})
		}
		replaced, err := j.Store.ReplaceWrappings(ctx, j.To, moved)
		if err != nil {
			return fmt.Errorf("replace the wrappings of %d owner keys: %w", len(moved), err)
		}
		j.addConflicts(int64(len(moved)) - replaced)
		if err := throttle.pause(ctx, len(moved)); err != nil {
			return err
		}
		rows, err := j.countRows(ctx, moved)
		if err != nil {
			return err
		}
		j.addDone(rows)
		if err := throttle.pause(ctx, 0); err != nil {
			return err
		}
		after = stored[len(stored)-1]
	}
}

// countRows counts what the rewrapped keys protect, for the progress.
func (j *Job) countRows(ctx context.Context, keys []store.Rewrapped) (int64, error) {
	owners := make([]string, len(keys))
	for i, key := range keys {
		owners[i] = key.Owner
	}
	owners = slices.Compact(owners)
	var rows int64
	for _, table := range j.tables {
		counts, err := j.Store.CountRowsByKey(ctx, table, owners)
		if err != nil {
			return 0, err
		}
		for _, key := range keys {
			rows += counts[key.ID]
		}
	}
	return rows, nil
}
