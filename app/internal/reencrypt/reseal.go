package reencrypt

import (
	"context"
	"fmt"
	"slices"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/securenotes/securenotes/app/internal/batch"
	"github.com/securenotes/securenotes/app/internal/envelope"
	"github.com/securenotes/securenotes/app/internal/store"
)

// maxWorkers is how many owners one process moves at a time: enough that Vault, the processor and the database's
// disk all have something to do, few enough that their batches fit in a Job's memory.
const maxWorkers = 8

const (
	// keysAhead is how many owner keys are made in one call of the key provider.
	keysAhead = 50
	// unwrapTimeout bounds a call that unwraps the keys of several owners.
	unwrapTimeout = 30 * time.Second
)

// task is an owner with stale keys, and a key that was made for the owner in case the active one is stale, too.
type task struct {
	owner string
	fresh envelope.StoredKey
}

// reencryptOwners gives every owner with a stale key fresh ones, several owners at a time.
func (j *Job) reencryptOwners(ctx context.Context) error {
	group, ctx := errgroup.WithContext(ctx)
	tasks := make(chan task)
	group.Go(func() error {
		defer close(tasks)
		return j.staleOwners(ctx, tasks)
	})
	unwraps := batch.New(batch.Options{Most: maxWorkers, Parallel: 1, Timeout: unwrapTimeout}, nil, j.unwrap)
	for range min(maxWorkers, j.Store.Writers()) {
		group.Go(func() error {
			w := worker{Job: j, stride: j.pace.stride(), unwraps: unwraps}
			for t := range tasks {
				if err := j.passOver("owner "+t.owner, w.reencrypt(ctx, t)); err != nil {
					return fmt.Errorf("owner %s: %w", t.owner, err)
				}
				if err := w.stride.pause(ctx, 0); err != nil { // the owner's keys are work, too
					return err
				}
			}
			return nil
		})
	}
	return group.Wait()
}

// staleOwners sends the owners with at least one stale key, in order.
func (j *Job) staleOwners(ctx context.Context, to chan<- task) error {
	after := ""
	for {
		owners, err := j.Store.StaleOwners(ctx, j.Range, j.Strategy.age(), j.To, after, ownerPage)
		if err != nil || len(owners) == 0 {
			return err
		}
		for some := range slices.Chunk(owners, keysAhead) {
			fresh, err := j.Keys.GenerateAll(ctx, some)
			if err != nil {
				return err
			}
			for i, owner := range some {
				select {
				case to <- task{owner, fresh[i]}:
				case <-ctx.Done():
					return ctx.Err()
				}
			}
		}
		after = owners[len(owners)-1]
	}
}

// worker moves one owner after another.
type worker struct {
	*Job
	stride *stride
	// unwraps joins what the workers want unwrapped at the same moment into one call of the key provider.
	unwraps *batch.Group[[]envelope.StoredKey, []envelope.UnwrappedKey]
}

// unwrap unwraps the keys of several workers.
func (j *Job) unwrap(ctx context.Context, wanted [][]envelope.StoredKey) []batch.Result[[]envelope.UnwrappedKey] {
	results := make([]batch.Result[[]envelope.UnwrappedKey], len(wanted))
	keys, err := j.Keys.UnwrapAll(ctx, slices.Concat(wanted...))
	for i, of := range wanted {
		if err != nil {
			results[i].Err = err
			continue
		}
		results[i].Value, keys = keys[:len(of)], keys[len(of):]
	}
	return results
}

// reencrypt makes sure that the owner's active key is fresh, and moves everything to it.
func (w *worker) reencrypt(ctx context.Context, t task) error {
	keys, err := w.Store.OwnerKeys(ctx, t.owner)
	if err != nil {
		return err
	}
	if current, found := active(keys); found && current.BornVersion < w.To {
		if err := w.checkVersion(t.fresh.Wrapped); err != nil {
			return err
		}
		if err := w.Store.ReplaceActiveKey(ctx, w.To, t.fresh, time.Now()); err != nil {
			return fmt.Errorf("activate a new owner key: %w", err)
		}
		// Read back: another process may have been first, and only a committed key may seal.
		if keys, err = w.Store.OwnerKeys(ctx, t.owner); err != nil {
			return err
		}
	}
	current, found := active(keys)
	if !found {
		return nil // the account was deleted meanwhile
	}
	stored := []envelope.StoredKey{current.StoredKey}
	for _, key := range keys {
		if key.BornVersion < w.To {
			stored = append(stored, key.StoredKey)
		}
	}
	if len(stored) == 1 {
		return nil
	}
	opened, err := w.unwraps.Do(ctx, stored)
	if err != nil {
		return err
	}
	for i, key := range opened {
		if key.Err != nil {
			return key.Err
		}
		if i == 0 {
			continue
		}
		if err := w.moveRows(ctx, stored[i], key.Key, opened[0].Key); err != nil {
			return err
		}
	}
	return nil
}

func active(keys []store.RotationKey) (store.RotationKey, bool) {
	for _, key := range keys {
		if key.Active {
			return key, true
		}
	}
	return store.RotationKey{}, false
}

// moveRows seals again all that is sealed with the old key, and then deletes the old key.
func (w *worker) moveRows(ctx context.Context, old envelope.StoredKey, from, to *envelope.OwnerKey) error {
	for range maxPasses {
		sound := true
		for _, table := range w.tables {
			all, err := w.walk(ctx, table, old.Owner, from, to)
			if err != nil {
				return fmt.Errorf("table %s: %w", table.Name, err)
			}
			sound = sound && all
		}
		deleted, err := w.Store.DeleteRetiredKey(ctx, w.To, old)
		if err != nil || deleted || !sound {
			return err // a damaged row keeps its key
		}
		w.Log.Debug("rows turned up under a retiring key: walking again", "owner", old.Owner, "key", old.ID)
	}
	return fmt.Errorf("owner key %s is still in use after %d passes", old.ID, maxPasses)
}

// walk seals one table's rows again in batches, in the order of their ids. It says whether all of them opened.
func (w *worker) walk(ctx context.Context, table store.SealedTable, owner string, from, to *envelope.OwnerKey) (all bool, err error) {
	after := ""
	all = true
	for {
		rows, more, err := w.Store.SealedRows(ctx, table, owner, from.ID(), after, w.stride.batch())
		if err != nil || len(rows) == 0 {
			return all, err
		}
		after = rows[len(rows)-1].ID
		sound := rows[:0]
		for _, row := range rows {
			err := reseal(table, row, from, to)
			if err == nil {
				sound = append(sound, row)
				continue
			}
			all = false
			if err := w.passOver(fmt.Sprintf("owner %s, table %s", owner, table.Name), err); err != nil {
				return false, err
			}
		}
		written, err := w.Store.ReplaceSealed(ctx, w.To, table, owner, from.ID(), to.ID(), sound)
		if err != nil {
			return false, err
		}
		w.report(written)
		w.conflict(int64(len(sound)) - written)
		if err := w.stride.pause(ctx, len(sound)); err != nil {
			return false, err
		}
		if !more {
			return all, nil
		}
	}
}

// reseal replaces the row's values by the same ones under the other key.
func reseal(table store.SealedTable, row store.SealedRow, from, to *envelope.OwnerKey) error {
	for i, column := range table.Columns {
		if row.Values[i] == nil {
			continue
		}
		place := envelope.Place{Kind: table.Name, Row: row.ID, Field: column, Revision: row.Revision}
		content, err := from.Open(place, row.Values[i])
		if err != nil {
			return fmt.Errorf("%s of row %s: %w", column, row.ID, err)
		}
		row.Values[i] = to.Seal(place, content)
		clear(content)
	}
	return nil
}
