package store

import (
	"context"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/securenotes/securenotes/app/internal/envelope"
)

// RaiseFence implements Rotation. It locks the table, because a transaction that shares the row's
// lock overtakes one that waits to write the row: an older rotation with many workers could delay a
// Compromise for long.
func (s *postgresStore) RaiseFence(ctx context.Context, to int) error {
	return s.raiseFence(ctx, to, func(tx queryer) error {
		_, err := s.execIn(ctx, tx, "LOCK TABLE fence IN EXCLUSIVE MODE")
		return err
	})
}

// fenced runs one statement as a transaction that holds the fence, like core.inRotation in one
// round trip. It returns the number of rows of the last of its expressions, done. $1 is the
// rotation's version. An expression that writes must join standing, the locked fence, with
// standing.at = $1.
func (s *postgresStore) fenced(ctx context.Context, to int, commit commitMode, expressions string, args ...any) (done int64, err error) {
	err = s.retry(ctx, func() error {
		var fence int
		if err := s.row(ctx, underFence(commit, expressions), append([]any{to}, args...), &fence, &done); err != nil {
			return err
		}
		return mustBeAt(fence, to)
	})
	return done, err
}

// commitMode is when a statement's commit is durable: a part of the statement that selects it.
type commitMode string

const (
	// syncCommit: when the statement returns, it is on disk and on the standby servers that the
	// database waits for.
	syncCommit commitMode = ""
	// asyncCommit: a crash may undo the statement until a later syncCommit returns, which makes it
	// durable because the log has one order. This is safe for what a rotation moves: it is needed
	// only once the key that it was moved from is deleted, with a syncCommit.
	asyncCommit commitMode = ", set_config('synchronous_commit', 'off', true)"
)

// underFence returns the statement of fenced.
func underFence(commit commitMode, expressions string) string {
	return `WITH standing AS MATERIALIZED (SELECT min_kek_version AS at` + string(commit) + ` FROM fence WHERE id = 1 FOR SHARE), ` +
		expressions + ` SELECT (SELECT at FROM standing), (SELECT count(*) FROM done)`
}

// ReplaceSealed implements Rotation. It does not wait for the disk, which users need.
func (s *postgresStore) ReplaceSealed(ctx context.Context, to int, t SealedTable, owner, oldKey, newKey string, batch []SealedRow) (int64, error) {
	ids, revisions := make([]string, len(batch)), make([]int64, len(batch))
	for i, row := range batch {
		ids[i], revisions[i] = row.ID, row.Revision
	}
	args := []any{owner, oldKey, newKey, ids, revisions}
	for c := range t.Columns {
		values := make([][]byte, len(batch))
		for i, row := range batch {
			values[i] = row.Values[c]
		}
		args = append(args, values)
	}
	return written(s.fenced(ctx, to, asyncCommit, replaceSealedStatement(t), args...))
}

// replaceSealedStatement finds each row by its primary key. The planner would scan all rows of the
// old key for each row of the batch, because it expects a single row. OFFSET hides the batch from
// it, and IS NOT DISTINCT FROM cannot use the index of keys.
func replaceSealedStatement(t SealedTable) string {
	set, arrays := make([]string, len(t.Columns)), make([]string, len(t.Columns))
	for c, column := range t.Columns {
		set[c], arrays[c] = column+" = b."+column, fmt.Sprintf("$%d::bytea[]", c+7)
	}
	columns := strings.Join(t.Columns, ", ")
	return `done AS (
			UPDATE ` + t.Name + ` t SET key_id = $4, ` + strings.Join(set, ", ") + `
			FROM (SELECT $2::uuid AS owner, b.* FROM unnest($5::uuid[], $6::bigint[], ` + strings.Join(arrays, ", ") + `) AS b (id, revision, ` + columns + `) OFFSET 0) AS b, standing
			WHERE standing.at = $1 AND t.owner = b.owner AND t.id = b.id AND t.key_id IS NOT DISTINCT FROM $3 AND t.revision = b.revision RETURNING 1
		), counted AS (
			INSERT INTO owner_key_seals (owner, key_id, seals)
			SELECT $2::uuid, $4, count(*) * ` + strconv.Itoa(len(t.Columns)) + ` FROM done HAVING count(*) > 0
			ON CONFLICT (owner, key_id) DO UPDATE SET seals = owner_key_seals.seals + excluded.seals
		)`
}

// ReplaceActiveKeys implements Rotation. It locks the users' rows in order: a user's row exists as
// long as the account, and writes of notes do not lock it.
func (s *postgresStore) ReplaceActiveKeys(ctx context.Context, to int, keys []envelope.StoredKey, now time.Time) error {
	versions, err := keyVersions(keys)
	if err != nil {
		return err
	}
	owners, ids, wrapped := make([]string, len(keys)), make([]string, len(keys)), make([]string, len(keys))
	for i, key := range keys {
		owners[i], ids[i], wrapped[i] = key.Owner, key.ID, string(key.Wrapped)
	}
	_, err = s.fenced(ctx, to, syncCommit, replaceActiveKeysStatement, owners, ids, versions, wrapped, micros(now))
	return err
}

const replaceActiveKeysStatement = `accounts AS MATERIALIZED (
		SELECT u.id FROM users u, standing WHERE u.id = ANY($2::uuid[]) AND standing.at = $1 ORDER BY u.id FOR UPDATE OF u
	), retired AS (
		UPDATE owner_keys k SET state = 'retiring' FROM accounts
		WHERE k.owner = accounts.id AND k.state = 'active' AND k.born_version < $1 RETURNING k.owner
	), done AS (
		INSERT INTO owner_keys (owner, id, kek_version, born_version, wrapped, state, created_at)
		SELECT b.owner, b.id, b.version, b.version, b.wrapped, 'active', $6
		FROM unnest($2::uuid[], $3::text[], $4::integer[], $5::text[]) AS b (owner, id, version, wrapped) JOIN retired ON retired.owner = b.owner
		RETURNING 1
	)`

// ReplaceWrappings implements Rotation.
func (s *postgresStore) ReplaceWrappings(ctx context.Context, to int, keys []Rewrapped) (int64, error) {
	versions, err := newVersions(keys)
	if err != nil {
		return 0, err
	}
	owners, ids, before, after := make([]string, len(keys)), make([]string, len(keys)), make([]string, len(keys)), make([]string, len(keys))
	for i, key := range keys {
		owners[i], ids[i], before[i], after[i] = key.Owner, key.ID, string(key.Wrapped), string(key.New)
	}
	return s.fenced(ctx, to, syncCommit, replaceWrappingsStatement, owners, ids, before, after, versions)
}

const replaceWrappingsStatement = `done AS (
		UPDATE owner_keys k SET wrapped = b.new, kek_version = b.version
		FROM unnest($2::uuid[], $3::text[], $4::text[], $5::text[], $6::integer[]) AS b (owner, id, old, new, version), standing
		WHERE standing.at = $1 AND k.owner = b.owner AND k.id = b.id AND k.wrapped = b.old RETURNING 1
	)`

// DeleteReplacedKeys implements Rotation.
func (s *postgresStore) DeleteReplacedKeys(ctx context.Context, to int, keys []envelope.StoredKey) (bool, error) {
	owners, ids := make([]string, len(keys)), make([]string, len(keys))
	for i, key := range keys {
		owners[i], ids[i] = key.Owner, key.ID
	}
	_, err := s.fenced(ctx, to, syncCommit, deleteReplacedKeysStatement, owners, ids)
	return deleted(err)
}

const deleteReplacedKeysStatement = `done AS (
		DELETE FROM owner_keys k USING standing, unnest($2::uuid[], $3::text[]) AS b (owner, id)
		WHERE standing.at = $1 AND k.owner = b.owner AND k.id = b.id AND k.state = 'retiring' RETURNING 1
	)`
