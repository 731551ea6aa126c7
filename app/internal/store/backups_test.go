package store_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/uuid"

	"github.com/securenotes/securenotes/app/internal/accounts"
	"github.com/securenotes/securenotes/app/internal/envelope"
	"github.com/securenotes/securenotes/app/internal/notes"
	"github.com/securenotes/securenotes/app/internal/store"
	"github.com/securenotes/securenotes/app/internal/storetest"
)

// backup is what a snapshot returns.
type backup struct {
	Tables []store.Table
	Rows   map[string][][]any
}

// differences returns how two backups differ.
func differences(want, got backup) string { return cmp.Diff(want, got, cmp.Comparer(bytes.Equal)) }

// counts returns the number of rows of each table.
func (b backup) counts() map[string]int64 {
	counts := map[string]int64{}
	for name, rows := range b.Rows {
		counts[name] = int64(len(rows))
	}
	return counts
}

// snapshot begins a snapshot that ends with the test.
func snapshot(t testing.TB, db store.Store) store.Snapshot {
	t.Helper()
	s, err := db.Snapshot(ctx)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() })
	return s
}

// read returns everything in a snapshot.
func read(t testing.TB, s store.Snapshot) backup {
	t.Helper()
	b := backup{Rows: map[string][][]any{}}
	var err error
	if b.Tables, err = s.Tables(ctx); err != nil {
		t.Fatal(err)
	}
	for _, table := range b.Tables {
		b.Rows[table.Name] = readTable(t, s, table)
	}
	return b
}

func readTable(t testing.TB, s store.Snapshot, table store.Table) [][]any {
	t.Helper()
	rows := [][]any{}
	err := s.Rows(ctx, table, func(values []any) error {
		row := slices.Clone(values)
		for i, value := range row {
			if raw, ok := value.([]byte); ok {
				row[i] = bytes.Clone(raw)
			}
		}
		rows = append(rows, row)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return rows
}

// backUp reads the whole database.
func backUp(t testing.TB, db store.Store) backup {
	t.Helper()
	s := snapshot(t, db)
	b := read(t, s)
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	return b
}

// fill writes rows of every table, with NULLs, the least and the greatest numbers, and bytes and
// letters of every kind.
func fill(t testing.TB, db store.Store) {
	t.Helper()
	execute := func(statement string, args ...any) {
		t.Helper()
		if err := store.Internals(db).Execute(ctx, statement, args...); err != nil {
			t.Fatal(err)
		}
	}
	for i, name := range []string{"alice", "Zoë \\N\\.\t\"'{}\u2028 😀", strings.Repeat("x", 256)} {
		user := newUser(t, db, name, i+1)
		for range 3 {
			note := user.sealedNote()
			note.Content = make([]byte, 400_000)
			for j := range note.Content {
				note.Content[j] = byte(j)
			}
			note.Content[0], note.Tags = 1, sealedBytes(0)
			if err := db.CreateNote(ctx, user.id, now, note); err != nil {
				t.Fatal(err)
			}
		}
		if _, err := db.CountSeals(ctx, envelope.StoredKey{Owner: user.id.Owner, ID: user.key.ID}, int64(i)); err != nil {
			t.Fatal(err)
		}
		if err := db.SucceedKey(ctx, user.key, envelope.StoredKey{Owner: user.id.Owner, ID: envelope.NewID(), Wrapped: wrappedAt(7)}, now); err != nil {
			t.Fatal(err)
		}
		execute("UPDATE notes SET title = NULL, tags = NULL, revision = $2, created_at = $3, updated_at = $2 WHERE owner = $1", user.id.Owner, int64(math.MaxInt64), int64(math.MinInt64))
		execute("INSERT INTO limits (key, count, expires_at) VALUES ($1, 1, 1)", user.id.Owner)
		execute("INSERT INTO idempotency_keys (owner, key, note, created_at, expires_at) VALUES ($1, $2, $1, 1, 1)", user.id.Owner, strings.Repeat("d", 64))
	}
	user := newUser(t, db, "factor", 1)
	factor := accounts.SecondFactor{ID: uuid.NewString(), KeyID: user.key.ID, Seed: sealedBytes(255), CreatedAt: now}
	if done, err := db.ProposeSecondFactor(ctx, user.id, now, factor); !done || err != nil {
		t.Fatalf("propose: %t, %v", done, err)
	}
	if err := db.ConfirmSecondFactor(ctx, user.id, now, factor.ID, accounts.Proof{Step: 1}, []string{"one", "two"}); err != nil {
		t.Fatal(err)
	}
	if err := db.CreateNote(ctx, user.id, now, notes.Sealed{ID: uuid.NewString(), KeyID: user.key.ID, Revision: 1, Content: sealedBytes(1), CreatedAt: now, UpdatedAt: now}); err != nil {
		t.Fatal(err)
	}
}

// target is the Meta of a restored database.
var target = store.Meta{
	DeploymentID: "d1", BelongsTo: "ns/notes", Canary: envelope.StoredKey{ID: "canary", Wrapped: wrappedAt(1)}, Sealed: sealedBytes('k'),
	PepperDigest: strings.Repeat("a", 64),
}

// restoreFence is the fence of a restored database.
const restoreFence = 7

// restore restores a backup in a run.
func restore(ctx context.Context, db store.Store, run string, b backup) error {
	if err := db.StartRestore(ctx, run, target, store.RefuseExisting); err != nil {
		return err
	}
	if err := load(ctx, db, run, b); err != nil {
		return err
	}
	return db.FinishRestore(ctx, run, target, restoreFence, b.counts())
}

// load loads the rows of a backup, three in each call of Load.
func load(ctx context.Context, db store.Store, run string, b backup) error {
	for _, table := range b.Tables {
		for rows := range slices.Chunk(b.Rows[table.Name], 3) {
			if err := db.Load(ctx, run, table, rows); err != nil {
				return fmt.Errorf("%s: %w", table.Name, err)
			}
		}
	}
	return nil
}

// mustBeRestored checks that the database is what a restore of the backup makes of it.
func mustBeRestored(t testing.TB, db store.Store, b backup) {
	t.Helper()
	if diff := differences(b, backUp(t, db)); diff != "" {
		t.Errorf("the restored database differs from the backup:\n%s", diff)
	}
	meta, err := db.Meta(ctx)
	if len(meta.Epoch) < 16 {
		t.Errorf("epoch %q, want at least 16 characters", meta.Epoch)
	}
	meta.Epoch = ""
	if err != nil || !cmp.Equal(meta, target) {
		t.Errorf("%v\n%s", err, cmp.Diff(target, meta))
	}
	if fence, err := db.Fence(ctx); fence != restoreFence || err != nil {
		t.Errorf("fence %d, %v; want %d", fence, err, restoreFence)
	}
	_, emptied := store.NeverArchived()
	for _, table := range emptied {
		if n, err := store.Internals(db).Count(ctx, "SELECT count(*) FROM "+table); n != 0 || err != nil {
			t.Errorf("table %s: %d rows, %v; want none", table, n, err)
		}
	}
}

// TestEveryTableHasItsPlaceInBackups checks that each table of the schema is in one of the two
// lists, that the order of the lists agrees with the foreign keys, and that the primary keys are
// right.
func TestEveryTableHasItsPlaceInBackups(t *testing.T) {
	storetest.Each(t, func(t *testing.T, open storetest.Open) {
		db := store.Internals(open(t))
		types, err := db.ColumnTypes(ctx)
		if err != nil {
			t.Fatal(err)
		}
		archived, keys := store.ArchivedTables()
		never, emptied := store.NeverArchived()
		count := map[string]int{}
		for _, name := range slices.Concat(archived, never) {
			count[name]++
		}
		for column := range types {
			table, _, _ := strings.Cut(column, ".")
			if count[table] != 1 {
				t.Errorf("table %s is in %d of the lists of archived and of never archived tables; want 1", table, count[table])
			}
		}
		references, err := db.References(ctx)
		if err != nil || len(references) < 5 {
			t.Fatalf("%d tables have foreign keys, %v", len(references), err)
		}
		if wrong := wrongOrder(archived, references); len(wrong) > 0 {
			t.Errorf("tables before those that they refer to: %v", wrong)
		}
		if wrong := wrongOrder(slices.Concat(archived, emptied), references); len(wrong) > 0 {
			t.Errorf("with the emptied tables: tables before those that they refer to: %v", wrong)
		}
		reversed := slices.Clone(archived)
		slices.Reverse(reversed)
		if len(wrongOrder(reversed, references)) == 0 {
			t.Error("the reverse order agrees with the foreign keys, too: the check finds nothing")
		}
		primary, err := db.PrimaryKeys(ctx)
		if err != nil {
			t.Fatal(err)
		}
		for _, table := range archived {
			if !slices.Equal(keys[table], primary[table]) {
				t.Errorf("table %s: primary key %v, want %v", table, keys[table], primary[table])
			}
		}
	})
}

// wrongOrder returns the tables that refer to another one of the list that does not come before.
func wrongOrder(tables []string, references map[string][]string) (wrong []string) {
	for i, table := range tables {
		for _, other := range references[table] {
			if !slices.Contains(tables[:i], other) {
				wrong = append(wrong, table)
			}
		}
	}
	return wrong
}

// TestSnapshotRefusesTheSchema checks that there is no backup of a schema that this program does
// not know in full.
func TestSnapshotRefusesTheSchema(t *testing.T) {
	for name, tc := range map[string]struct{ statement, want string }{
		"another table":            {statement: "CREATE TABLE drawings (id text PRIMARY KEY)", want: "a table drawings"},
		"a column of another type": {statement: "ALTER TABLE notes ADD COLUMN weight real", want: "notes.weight of type real"},
		"a newer schema":           {statement: "INSERT INTO goose_db_version (version_id, is_applied) VALUES (9999, true)", want: "its last migration is 9999"},
		"pending migrations":       {statement: "DELETE FROM goose_db_version WHERE version_id = (SELECT max(version_id) FROM goose_db_version)", want: "migrations are pending"},
	} {
		t.Run(name, func(t *testing.T) {
			storetest.Each(t, func(t *testing.T, open storetest.Open) {
				db := open(t)
				if err := store.Internals(db).Execute(ctx, tc.statement); err != nil {
					t.Fatal(err)
				}
				s, err := db.Snapshot(ctx)
				if err == nil {
					_ = s.Close()
				}
				if !errors.Is(err, store.ErrSchema) || !strings.Contains(err.Error(), tc.want) {
					t.Errorf("%v, want ErrSchema with %q", err, tc.want)
				}
			})
		})
	}
}

// TestSnapshotIsOneInstant reads a snapshot while users write and keys are rotated between any two
// pages. In one transaction each, the writers give an owner's row and notes the same number.
func TestSnapshotIsOneInstant(t *testing.T) {
	storetest.Each(t, func(t *testing.T, open storetest.Open) {
		db, writing := open(t), open(t)
		const owners, notesEach = 3, 12
		users := make([]fixture, owners)
		for i := range users {
			users[i] = newUser(t, writing, fmt.Sprintf("user%d", i), 1)
			for range notesEach {
				note := users[i].sealedNote()
				note.Content = append(note.Content, make([]byte, 100_000)...)
				if err := writing.CreateNote(ctx, users[i].id, now, note); err != nil {
					t.Fatal(err)
				}
			}
		}
		set := func(user fixture, n int64) error {
			return store.Internals(writing).Transact(ctx, []any{user.id.Owner, n},
				"UPDATE users SET created_at = $2 WHERE id = $1", "UPDATE notes SET updated_at = $2 WHERE owner = $1")
		}
		for _, user := range users {
			if err := set(user, 0); err != nil {
				t.Fatal(err)
			}
		}
		if err := writing.ClaimMeta(ctx, target); err != nil {
			t.Fatal(err)
		}

		s := snapshot(t, db)
		stop, wrote, rotated := make(chan struct{}), make(chan struct{}), make(chan struct{})
		failed := make(chan error, owners+1)
		var work sync.WaitGroup
		defer work.Wait()
		defer close(stop)
		repeat := func(done chan<- struct{}, step func(n int) error) {
			work.Go(func() {
				for n := 1; ; n++ {
					if err := step(n); err != nil {
						failed <- err
						return
					}
					select {
					case done <- struct{}{}:
					case <-stop:
						return
					}
				}
			})
		}
		for _, user := range users {
			repeat(wrote, func(n int) error { return set(user, int64(n)) })
		}
		repeat(rotated, func(n int) error { return rotateOnce(writing, users, n+1) })
		// between waits until every writer and the rotation have committed something.
		between := func() {
			for _, done := range append(slices.Repeat([]chan struct{}{wrote}, owners), rotated) {
				select {
				case <-done:
				case err := <-failed:
					t.Fatal(err)
				}
			}
		}

		between()
		b := backup{Rows: map[string][][]any{}}
		var err error
		if b.Tables, err = s.Tables(ctx); err != nil {
			t.Fatal(err)
		}
		for _, table := range b.Tables {
			between()
			err := s.Rows(ctx, table, func(values []any) error {
				if len(b.Rows[table.Name])%10 == 9 {
					between()
				}
				b.Rows[table.Name] = append(b.Rows[table.Name], slices.Clone(values))
				return nil
			})
			if err != nil {
				t.Fatal(err)
			}
		}
		number, active := map[any]any{}, map[any]any{}
		for _, row := range b.records("users") {
			number[row["id"]] = row["created_at"]
		}
		for _, key := range b.records("owner_keys") {
			if active[key["owner"]] != nil {
				t.Errorf("owner %v has two keys", key["owner"])
			}
			active[key["owner"]] = key["id"]
		}
		count := map[any]int{}
		for _, note := range b.records("notes") {
			owner := note["owner"]
			count[owner]++
			if note["updated_at"] != number[owner] || number[owner] != int64(0) {
				t.Errorf("a note of owner %v has number %v, and the owner %v; want 0", owner, note["updated_at"], number[owner])
			}
			if note["key_id"] != active[owner] {
				t.Errorf("a note of owner %v is sealed with key %v, and the owner has %v", owner, note["key_id"], active[owner])
			}
		}
		for _, user := range users {
			if count[user.id.Owner] != notesEach {
				t.Errorf("%d notes of owner %s, want %d", count[user.id.Owner], user.id.Owner, notesEach)
			}
		}
		fence, err := s.Fence(ctx)
		oldest, errOldest := s.OldestVersion(ctx)
		if fence != 0 || oldest != 1 || err != nil || errOldest != nil {
			t.Errorf("fence %d, oldest version %d, %v, %v; want those before the rotations, 0 and 1", fence, oldest, err, errOldest)
		}
		if live, err := db.Fence(ctx); live < 2 || err != nil {
			t.Errorf("no rotation has happened: fence %d, %v", live, err)
		}
	})
}

// records returns the rows of a table by column.
func (b backup) records(table string) (records []map[string]any) {
	i := slices.IndexFunc(b.Tables, func(t store.Table) bool { return t.Name == table })
	for _, row := range b.Rows[table] {
		record := map[string]any{}
		for j, column := range b.Tables[i].Columns {
			record[column.Name] = row[j]
		}
		records = append(records, record)
	}
	return records
}

// only returns the part of the backup that is about one user.
func (b backup) only(username string) backup {
	part := backup{Tables: b.Tables, Rows: map[string][][]any{}}
	var owner any
	for _, user := range b.records("users") {
		if user["username"] == username {
			owner = user["id"]
		}
	}
	for _, table := range b.Tables {
		part.Rows[table.Name] = [][]any{}
		for _, row := range b.Rows[table.Name] {
			if row[0] == owner { // the first column is the owner
				part.Rows[table.Name] = append(part.Rows[table.Name], row)
			}
		}
	}
	return part
}

// rotateOnce rotates the users' keys to a version, as Reencrypt does.
func rotateOnce(db store.Store, users []fixture, to int) error {
	if err := db.RaiseFence(ctx, to); err != nil {
		return err
	}
	tables, _, err := db.SealedColumns(ctx)
	if err != nil {
		return err
	}
	for _, user := range users {
		fresh := envelope.StoredKey{Owner: user.id.Owner, ID: envelope.NewID(), Wrapped: wrappedAt(to)}
		if err := db.ReplaceActiveKeys(ctx, to, []envelope.StoredKey{fresh}, now); err != nil {
			return err
		}
		keys, err := db.OwnersKeys(ctx, []string{user.id.Owner}, nil)
		if err != nil {
			return err
		}
		for _, old := range keys {
			if old.Active {
				continue
			}
			for _, table := range tables {
				for more := true; more; {
					var rows []store.SealedRow
					if rows, more, err = db.SealedRows(ctx, table, user.id.Owner, old.ID, "", 100); err != nil {
						return err
					}
					if _, err := db.ReplaceSealed(ctx, to, table, user.id.Owner, old.ID, fresh.ID, rows); err != nil {
						return err
					}
				}
			}
			if done, err := db.DeleteReplacedKeys(ctx, to, []envelope.StoredKey{old.StoredKey}); err != nil || !done {
				return fmt.Errorf("delete the old key: %t, %w", done, err)
			}
		}
	}
	return nil
}

// TestSnapshotIsOrderedByPrimaryKey checks that rows come in the order of the primary key, each
// once, over several pages.
func TestSnapshotIsOrderedByPrimaryKey(t *testing.T) {
	storetest.Each(t, func(t *testing.T, open storetest.Open) {
		db := open(t)
		var want []string
		for i := range 250 {
			want = append(want, newUser(t, db, fmt.Sprintf("user%d", i), 1).id.Owner)
		}
		slices.Sort(want)
		var got []string
		for _, user := range backUp(t, db).records("users") {
			got = append(got, user["id"].(string))
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Error(diff)
		}
	})
}

// TestSnapshotOfLaterColumns checks that a snapshot contains columns that a later migration adds,
// and that the oldest version includes their wrapped keys.
func TestSnapshotOfLaterColumns(t *testing.T) {
	storetest.Each(t, func(t *testing.T, open storetest.Open) {
		db := open(t)
		newUser(t, db, "alice", 5)
		meta := target
		meta.Canary.Wrapped = wrappedAt(6)
		if err := db.ClaimMeta(ctx, meta); err != nil {
			t.Fatal(err)
		}
		for _, want := range []int{5, 3} {
			s := snapshot(t, db)
			if oldest, err := s.OldestVersion(ctx); oldest != want || err != nil {
				t.Errorf("oldest version %d, %v; want %d", oldest, err, want)
			}
			if err := s.Close(); err != nil {
				t.Fatal(err)
			}
			if want == 5 {
				execute := store.Internals(db).Execute
				if err := errors.Join(execute(ctx, "ALTER TABLE users ADD COLUMN device_key wrapped_text"), execute(ctx, "UPDATE users SET device_key = $1", string(wrappedAt(3)))); err != nil {
					t.Fatal(err)
				}
			}
		}
		if got := backUp(t, db).records("users")[0]["device_key"]; got != string(wrappedAt(3)) {
			t.Errorf("the later column is %v", got)
		}
	})
}

// TestSnapshotEnds checks that an error of the visitor ends the reading, and that a snapshot can be
// closed twice, and returns errors afterwards.
func TestSnapshotEnds(t *testing.T) {
	storetest.Each(t, func(t *testing.T, open storetest.Open) {
		db := open(t)
		newUser(t, db, "alice", 1)
		s := snapshot(t, db)
		tables, err := s.Tables(ctx)
		if err != nil {
			t.Fatal(err)
		}
		full := errors.New("the bucket is full")
		if err := s.Rows(ctx, tables[0], func([]any) error { return full }); !errors.Is(err, full) {
			t.Errorf("%v, want the visitor's error", err)
		}
		if err := s.Rows(ctx, store.Table{Name: "sessions"}, nil); !errors.Is(err, store.ErrSchema) {
			t.Errorf("a table that no backup contains: %v, want ErrSchema", err)
		}
		for range 2 {
			if err := s.Close(); err != nil {
				t.Errorf("close: %v", err)
			}
		}
		if err := s.Rows(ctx, tables[0], func([]any) error { return nil }); err == nil {
			t.Error("a closed snapshot was read")
		}
		// Nothing of it blocks a change of the schema.
		if err := store.Internals(db).Execute(ctx, "ALTER TABLE users ADD COLUMN later text"); err != nil {
			t.Error(err)
		}
	})
}
