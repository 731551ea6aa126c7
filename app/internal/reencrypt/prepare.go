package reencrypt

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/securenotes/securenotes/app/internal/envelope"
	"github.com/securenotes/securenotes/app/internal/store"
)

// ownersAhead is how many owners are prepared at a time, with one call of the key provider each for the new keys and
// for all that they have, and how many wait for a worker at the most.
const ownersAhead = 50

// task is an owner with a fresh active key, and the stale keys from which everything is to be moved to it.
type task struct {
	owner string
	to    *envelope.OwnerKey
	from  []retiring
}

// retiring is a stale key, and says of each table whether rows needed it when it began to retire.
type retiring struct {
	stored envelope.StoredKey
	key    *envelope.OwnerKey
	needed []bool
}

// prepare gives the owners with at least one stale key, in order, fresh active keys, and hands them to the workers. It
// asks the key provider out of turn: one call for the hundreds of notes that keep the workers in turns for a while.
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
			fresh, err := j.generate(ctx, some)
			if err != nil {
				return err
			}
			if err := throttle.begin(ctx); err != nil {
				return err
			}
			keys, err := j.activate(ctx, fresh, some)
			if err != nil {
				return err
			}
			if err := throttle.pause(ctx, 0); err != nil {
				return err
			}
			tasks, err := j.open(ctx, keys)
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

// generate has the key provider make a key for each of the owners.
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

// activate makes sure that the owners' active keys are fresh, and returns all of their keys.
func (j *Job) activate(ctx context.Context, fresh []envelope.StoredKey, owners []string) ([]store.RotationKey, error) {
	if err := j.Store.ReplaceActiveKeys(ctx, j.To, fresh, time.Now()); err != nil {
		return nil, fmt.Errorf("activate new owner keys: %w", err)
	}
	// Read back: another process may have been first, and only a committed key may seal.
	return j.Store.OwnersKeys(ctx, owners, j.tables)
}

// open has the key provider open the keys.
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

// tasks sorts the keys, which are in the order of their owners. What does not open is passed over.
func (j *Job) tasks(keys []store.RotationKey, opened []envelope.UnwrappedKey) ([]task, error) {
	var tasks []task
	for i, key := range keys {
		if i == 0 || keys[i-1].Owner != key.Owner {
			tasks = append(tasks, task{owner: key.Owner})
		}
		t := &tasks[len(tasks)-1]
		stale := key.CreatedVersion < j.To
		if !key.Active && !stale {
			continue // of this rotation, and replaced since
		}
		if err := opened[i].Err; err != nil {
			if err := j.skipDamaged("owner "+key.Owner, err); err != nil {
				return nil, err
			}
			continue
		}
		if stale {
			t.from = append(t.from, retiring{stored: key.StoredKey, key: opened[i].Key, needed: key.Needed})
		} else {
			t.to = opened[i].Key
		}
	}
	return slices.DeleteFunc(tasks, func(t task) bool { return t.to == nil }), nil
}
