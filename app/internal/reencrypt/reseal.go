package reencrypt

import (
	"context"
	"fmt"

	"golang.org/x/sync/errgroup"

	"github.com/securenotes/securenotes/app/internal/envelope"
	"github.com/securenotes/securenotes/app/internal/store"
)

// maxWorkers is how many owners one process moves at a time: enough that Vault, the processor and the database's
// disk all have something to do, few enough that their batches fit in a Job's memory.
const maxWorkers = 8

// reencryptOwners gives every owner with a stale key fresh ones, several owners at a time.
func (j *Job) reencryptOwners(ctx context.Context) error {
	group, ctx := errgroup.WithContext(ctx)
	tasks := make(chan task, ownersAhead)
	group.Go(func() error {
		defer close(tasks)
		return j.prepare(ctx, tasks)
	})
	for range min(maxWorkers, j.Store.Writers()) {
		group.Go(func() error {
			w := worker{Job: j, throttle: j.pace.throttle()}
			defer w.throttle.end()
			for t := range tasks {
				if err := w.throttle.begin(ctx); err != nil {
					return err
				}
				if err := w.move(ctx, t); err != nil {
					return err
				}
				if err := w.throttle.pause(ctx, 0); err != nil { // the owner's keys are work, too
					return err
				}
			}
			return w.deleteMoved(ctx)
		})
	}
	return group.Wait()
}

// worker moves one owner after another.
type worker struct {
	*Job
	throttle *throttle
	// moved are keys from which everything was moved, and which are to be deleted.
	moved []moved
}

// moved is a stale key from which everything was moved, and the key to which it was.
type moved struct {
	retiring
	to *envelope.OwnerKey
}

// move moves everything of an owner to the active key.
func (w *worker) move(ctx context.Context, t task) error {
	for _, old := range t.from {
		sound, err := w.resealTables(ctx, old, t.to, old.needed)
		if err != nil {
			return fmt.Errorf("owner %s: %w", t.owner, err)
		}
		if sound { // a damaged row keeps its key
			w.moved = append(w.moved, moved{old, t.to})
		}
	}
	if len(w.moved) < w.pace.keysPerDelete() {
		return nil
	}
	return w.deleteMoved(ctx)
}

// deleteMoved deletes the keys from which everything was moved. Where rows have turned up under one of them, all are
// walked again singly.
func (w *worker) deleteMoved(ctx context.Context) error {
	if len(w.moved) == 0 {
		return nil
	}
	if err := w.throttle.begin(ctx); err != nil {
		return err
	}
	keys := make([]envelope.StoredKey, len(w.moved))
	for i, old := range w.moved {
		keys[i] = old.stored
	}
	deleted, err := w.Store.DeleteRetiredKeys(ctx, w.To, keys)
	if err == nil && !deleted {
		for _, old := range w.moved {
			if err = w.retryMove(ctx, old); err != nil {
				break
			}
		}
	}
	w.moved = w.moved[:0]
	return err
}

// retryMove walks a key's tables until it can be deleted.
func (w *worker) retryMove(ctx context.Context, old moved) error {
	for range maxPasses {
		sound, err := w.resealTables(ctx, old.retiring, old.to, nil)
		if err != nil || !sound {
			return err
		}
		if err := w.throttle.begin(ctx); err != nil {
			return err
		}
		deleted, err := w.Store.DeleteRetiredKeys(ctx, w.To, []envelope.StoredKey{old.stored})
		if err != nil || deleted {
			return err
		}
		w.Log.Debug("rows turned up under a retiring key: walking again", "owner", old.stored.Owner, "key", old.stored.ID)
	}
	return fmt.Errorf("owner key %s is still in use after %d passes", old.stored.ID, maxPasses)
}

// resealTables seals everything again that is sealed with the old key, in the tables that need it; nil: in all. It says
// whether all of it opened.
func (w *worker) resealTables(ctx context.Context, old retiring, to *envelope.OwnerKey, needed []bool) (sound bool, err error) {
	sound = true
	for i, table := range w.tables {
		if needed != nil && !needed[i] {
			continue
		}
		all, err := w.resealTable(ctx, table, old.stored.Owner, old.key, to)
		if err != nil {
			return false, fmt.Errorf("table %s: %w", table.Name, err)
		}
		sound = sound && all
	}
	return sound, nil
}

// walk seals one table's rows again in batches, in the order of their ids. It says whether all of them opened.
func (w *worker) resealTable(ctx context.Context, table store.SealedTable, owner string, from, to *envelope.OwnerKey) (all bool, err error) {
	after := ""
	all = true
	for {
		if err := w.throttle.begin(ctx); err != nil {
			return false, err
		}
		rows, more, err := w.Store.SealedRows(ctx, table, owner, from.ID(), after, w.throttle.batchSize())
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
			if err := w.skipDamaged(fmt.Sprintf("owner %s, table %s", owner, table.Name), err); err != nil {
				return false, err
			}
		}
		written, err := w.Store.ReplaceSealed(ctx, w.To, table, owner, from.ID(), to.ID(), sound)
		if err != nil {
			return false, err
		}
		w.addDone(written)
		w.addConflicts(int64(len(sound)) - written)
		if err := w.throttle.pause(ctx, len(sound)); err != nil {
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
