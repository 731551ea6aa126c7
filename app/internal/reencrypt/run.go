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
	// Reencrypt creates new owner keys and seals every value again.
	Reencrypt Strategy = "Reencrypt"
	// Rewrap keeps the owner keys and the values, and wraps the keys again.
	Rewrap Strategy = "Rewrap"
)

// ParseStrategy parses the name of a strategy.
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
	// ownerPage and keyPage are how many owners and keys one statement reads.
	ownerPage, keyPage = 500, 100
	// maxPasses bounds how often an owner's rows are moved again because new ones appeared under a
	// replaced key. A writer that still uses the old key is told so at its next write.
	maxPasses = 100
)

// ErrWrongVersion means that the key provider wraps under an older version than the rotation's.
var ErrWrongVersion = errors.New("the key provider wraps under an older version than the rotation's")

// Job is one shard's part of one rotation.
type Job struct {
	Store JobStore
	// Keys are guarded; see deployment.GuardedKeyring.
	Keys     *envelope.Keyring
	Strategy Strategy
	// To is the master key version that everything moves to.
	To int
	// Range is the owners of the shard.
	Range store.OwnerRange
	// EndSessions, if it is not zero, ends the sessions that began at that time or before: after a
	// compromise, a stolen session must not continue.
	EndSessions time.Time
	// MaxPerSecond is how many rows this shard may write per second; 0 is no limit.
	MaxPerSecond float64
	// Urgent makes the Job yield to nobody.
	Urgent bool
	// Progress is called with the number of rows that are done and the total. It must not block.
	Progress func(done, total int64)
	// Conflicts, if it is set, is called with the number of rows and keys so far that the Job left
	// alone because they had changed since it read them: by a user, whose write wins, or by another
	// process of the rotation.
	Conflicts func(total int64)
	Log       *slog.Logger

	pace   *pace
	tables []store.SealedTable

	// mu guards the fields below.
	mu          sync.Mutex
	done, total int64
	conflicts   int64
	// damaged are the failures that the Job skipped. They are its error at the end.
	damaged []error
}

// maxDamaged bounds how many failures the Job's error names.
const maxDamaged = 10

// skipDamaged records a failure that concerns one owner, a value that does not open or a key that
// does not unwrap, and returns nil so that the Job continues: one damaged row must not keep all
// other notes under a compromised version. It returns every other error.
func (j *Job) skipDamaged(what string, err error) error {
	if !isDamage(err) {
		return err
	}
	err = fmt.Errorf("%s: %w", what, err)
	j.Log.Error("skipped damaged data", "error", err.Error())
	j.mu.Lock()
	defer j.mu.Unlock()
	if len(j.damaged) < maxDamaged {
		j.damaged = append(j.damaged, err)
	}
	return nil
}

// Run does what is left of the shard's work. It skips what is damaged and returns that as its error
// at the end. Errors: store.ErrSuperseded if a newer rotation has begun. Every other error can be
// retried.
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

// count counts the rows to move, for the progress.
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

// addDone adds to the rows that are done and reports the progress.
func (j *Job) addDone(more int64) {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.done += more
	// Users may have written more rows under stale keys since the rows were counted.
	j.total = max(j.total, j.done)
	j.Progress(j.done, j.total)
}

// addConflicts records that rows or keys had changed since they were read.
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

// renewCanary replaces the canary before the Job wraps any key, in every shard. Only a canary under
// the new version shows whether the version that keys are wrapped under is still the one that this
// rotation created.
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

// checkVersion rejects a wrapping that the fence would reject, with a better message.
func (j *Job) checkVersion(w envelope.Wrapped) error {
	version, err := w.Version()
	if err == nil && version < j.To {
		err = fmt.Errorf("%w: %d, not %d", ErrWrongVersion, version, j.To)
	}
	return err
}

// rewrapKeys wraps the stale keys again, in order. It takes fewer at a time while users are at
// work, who compete with Vault for the processors. A key that another process has replaced is no
// longer stale.
func (j *Job) rewrapKeys(ctx context.Context) error {
	throttle := j.pace.throttle()
	var after envelope.StoredKey
	for {
		page, err := j.Store.StaleKeys(ctx, j.Range, j.Strategy.staleness(), j.To, after, j.pace.keyPageSize())
		if err != nil || len(page) == 0 {
			return err
		}
		moved, err := j.rewrap(ctx, page)
		if err != nil {
			return err
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
		after = page[len(page)-1].StoredKey
	}
}

// rewrap makes the key provider wrap the keys again. It skips keys that do not unwrap.
func (j *Job) rewrap(ctx context.Context, page []store.RotationKey) ([]store.Rewrapped, error) {
	stored := make([]envelope.StoredKey, len(page))
	for i, key := range page {
		stored[i] = key.StoredKey
	}
	results, err := j.Keys.Rewrap(ctx, stored)
	if err != nil {
		return nil, err
	}
	moved := make([]store.Rewrapped, 0, len(page))
	for i, result := range results {
		if result.Err != nil {
			if err := j.skipDamaged(fmt.Sprintf("rewrap owner key %s of owner %s", stored[i].ID, stored[i].Owner), result.Err); err != nil {
				return nil, err
			}
			continue
		}
		if err := j.checkVersion(result.Wrapped); err != nil {
			return nil, err
		}
		moved = append(moved, store.Rewrapped{StoredKey: stored[i], New: result.Wrapped})
	}
	return moved, nil
}

// countRows counts the rows that the rewrapped keys protect, for the progress.
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
