package reencrypt

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/securenotes/securenotes/app/internal/envelope"
	"github.com/securenotes/securenotes/app/internal/store"
)

// ownersAhead is how many owners are prepared together, with one call of the key provider for their
// new keys and one for their existing keys. It also bounds how many owners wait for a worker.
const ownersAhead = 50

// task is an owner with a new active key, and the stale keys whose rows must move to it.
type task struct {
	owner string
	to    *envelope.OwnerKey
	from  []staleKey
}

// staleKey is an owner key that is replaced. needed reports for each table whether rows were sealed
// with the key when it was replaced.
type staleKey struct {
	stored envelope.StoredKey
	key    *envelope.OwnerKey
	needed []bool
}

// prepare gives each owner with a stale key a new active key, in order, and passes the owners to
// the workers. It calls the key provider without holding the turn: one call is for the hundreds of
// notes that keep the workers busy for a while.
func (j *Job) prepare(ctx context.Context, to chan<- task) error {
	throttle := j.pace.throttle()
	defer throttle.end()
	after := ""
	for {
		if err := throttle.begin(ctx); err != nil {
			return err
		}
		owners, err := j.Store.StaleOwners(ctx, j.Range, j.Strategy.staleness(), j.To, after, ownerPage)
		if err != nil || len(owners) == 0 {
			return err
		}
		after = owners[len(owners)-1]
		if err := throttle.pause(ctx, 0); err != nil {
			return err
		}
		for len(owners) > 0 {
			some := owners[:min(len(owners), j.pace.ownersPerPage(ownersAhead))]
			owners = owners[len(some):]
			tasks, err := j.prepareOwners(ctx, throttle, some)
			if err != nil {
				return err
			}
			for _, t := range tasks {
				select {
				case to <- t:
				case <-ctx.Done():
					return ctx.Err()
				}
			}
		}
	}
}

// prepareOwners gives the owners new active keys and returns their tasks. It holds the turn only
// while it uses the database.
func (j *Job) prepareOwners(ctx context.Context, throttle *throttle, owners []string) ([]task, error) {
	fresh, err := j.generate(ctx, owners)
	if err != nil {
		return nil, err
	}
	if err := throttle.begin(ctx); err != nil {
		return nil, err
	}
	keys, err := j.activate(ctx, fresh, owners)
	if err != nil {
		return nil, err
	}
	if err := throttle.pause(ctx, 0); err != nil {
		return nil, err
	}
	return j.open(ctx, keys)
}

// generate makes the key provider create a key for each owner.
func (j *Job) generate(ctx context.Context, owners []string) ([]envelope.StoredKey, error) {
	fresh, err := j.Keys.GenerateAll(ctx, owners)
	if err != nil {
		return nil, err
	}
	for _, key := range fresh {
		if err := j.checkVersion(key.Wrapped); err != nil {
			return nil, err
		}
	}
	return fresh, nil
}

// activate replaces the owners' stale active keys by the new ones and returns all keys of the
// owners.
func (j *Job) activate(ctx context.Context, fresh []envelope.StoredKey, owners []string) ([]store.RotationKey, error) {
	if err := j.Store.ReplaceActiveKeys(ctx, j.To, fresh, time.Now()); err != nil {
		return nil, fmt.Errorf("activate new owner keys: %w", err)
	}
	// Read the keys back: another process may have been first, and only a committed key may seal.
	return j.Store.OwnersKeys(ctx, owners, j.tables)
}

// open unwraps the keys and sorts them into tasks.
func (j *Job) open(ctx context.Context, keys []store.RotationKey) ([]task, error) {
	stored := make([]envelope.StoredKey, len(keys))
	for i, key := range keys {
		stored[i] = key.StoredKey
	}
	opened, err := j.Keys.UnwrapAll(ctx, stored)
	if err != nil {
		return nil, err
	}
	return j.tasks(keys, opened)
}

// tasks sorts the keys, which are in the order of their owners. It skips keys that do not unwrap.
func (j *Job) tasks(keys []store.RotationKey, opened []envelope.UnwrappedKey) ([]task, error) {
	var tasks []task
	for i, key := range keys {
		if i == 0 || keys[i-1].Owner != key.Owner {
			tasks = append(tasks, task{owner: key.Owner})
		}
		t := &tasks[len(tasks)-1]
		stale := key.CreatedVersion < j.To
		if !key.Active && !stale {
			continue // created by this rotation, and already replaced
		}
		if err := opened[i].Err; err != nil {
			if err := j.skipDamaged("owner "+key.Owner, err); err != nil {
				return nil, err
			}
			continue
		}
		if stale {
			t.from = append(t.from, staleKey{stored: key.StoredKey, key: opened[i].Key, needed: key.Needed})
		} else {
			t.to = opened[i].Key
		}
	}
	return slices.DeleteFunc(tasks, func(t task) bool { return t.to == nil }), nil
}
