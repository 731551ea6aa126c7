package reencrypt

import (
	"context"
	"fmt"

	"golang.org/x/sync/errgroup"

	"github.com/securenotes/securenotes/app/internal/envelope"
	"github.com/securenotes/securenotes/app/internal/store"
)

// maxWorkers is how many owners one process handles at a time: enough to keep Vault, the processor
// and the database's disk busy, and few enough that their batches fit in a Job's memory.
const maxWorkers = 8

// reencryptOwners replaces the stale keys of all owners, several owners at a time.
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
				if err := w.throttle.pause(ctx, 0); err != nil { // reading the owner's keys is work, too
					return err
				}
			}
			return w.deleteMoved(ctx)
		})
	}
	return group.Wait()
}

// worker handles one owner after another.
type worker struct {
	*Job
	throttle *throttle
	// moved are the keys that no row needs any more and that are to be deleted.
	moved []moved
}

// moved is a stale key whose rows have moved to another key.
type moved struct {
	staleKey
	to *envelope.OwnerKey
}

// move moves all rows of an owner to the active key.
func (w *worker) move(ctx context.Context, t task) error {
	for _, old := range t.from {
		intact, err := w.resealTables(ctx, old, t.to, old.needed)
		if err != nil {
			return fmt.Errorf("owner %s: %w", t.owner, err)
		}
		if intact { // a damaged row still needs its key
			w.moved = append(w.moved, moved{old, t.to})
		}
	}
	if len(w.moved) < w.pace.keysPerDelete() {
		return nil
	}
	return w.deleteMoved(ctx)
}

// deleteMoved deletes the keys in moved. If rows have appeared under one of them, it retries each
// key on its own.
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
	deleted, err := w.Store.DeleteReplacedKeys(ctx, w.To, keys)
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

// retryMove moves the rows of a key until the key can be deleted.
func (w *worker) retryMove(ctx context.Context, old moved) error {
	for range maxPasses {
		intact, err := w.resealTables(ctx, old.staleKey, old.to, nil)
		if err != nil || !intact {
			return err
		}
		if err := w.throttle.begin(ctx); err != nil {
			return err
		}
		deleted, err := w.Store.DeleteReplacedKeys(ctx, w.To, []envelope.StoredKey{old.stored})
		if err != nil || deleted {
			return err
		}
		w.Log.Debug("rows appeared under a replaced key: moving them", "owner", old.stored.Owner, "key", old.stored.ID)
	}
	return fmt.Errorf("owner key %s is still in use after %d passes: run the Job again", old.stored.ID, maxPasses)
}

// resealTables seals again all rows that are sealed with the old key, in the tables that need it.
// If needed is nil it looks in all tables. It reports whether every row opened.
func (w *worker) resealTables(ctx context.Context, old staleKey, to *envelope.OwnerKey, needed []bool) (intact bool, err error) {
	intact = true
	for i, table := range w.tables {
		if needed != nil && !needed[i] {
			continue
		}
		all, err := w.resealTable(ctx, table, old.stored.Owner, old.key, to)
		if err != nil {
			return false, fmt.Errorf("table %s: %w", table.Name, err)
		}
		intact = intact && all
	}
	return intact, nil
}

// resealTable seals one table's rows again in batches, in the order of their ids. It reports
// whether every row opened.
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
		intact := rows[:0]
		for _, row := range rows {
			err := reseal(table, row, from, to)
			if err == nil {
				intact = append(intact, row)
				continue
			}
			all = false
			if err := w.skipDamaged(fmt.Sprintf("owner %s, table %s", owner, table.Name), err); err != nil {
				return false, err
			}
		}
		written, err := w.Store.ReplaceSealed(ctx, w.To, table, owner, from.ID(), to.ID(), intact)
		if err != nil {
			return false, err
		}
		w.addDone(written)
		w.addConflicts(int64(len(intact)) - written)
		if err := w.throttle.pause(ctx, len(intact)); err != nil {
			return false, err
		}
		if !more {
			return all, nil
		}
	}
}

// reseal replaces the row's values by the same values under the other key.
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
