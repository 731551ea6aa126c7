package store

import (
	"context"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/securenotes/securenotes/app/internal/envelope"
)

// inRotation carries out one statement that is a transaction, as Store.inRotation does a transaction of many: most
// of a rotation's time would go by between these. The statement is written as common table expressions, of which the
// last, done, has a row for each row that counts; $1 is the rotation's version. Each that writes joins standing, the
// fence, which is locked before its first row is written, and writes nothing unless that stands at $1.
func (postgres) inRotation(ctx context.Context, s *Store, to int, ends commit, statement string, args ...any) (done int64, err error) {
	err = s.again(ctx, func() error {
		var least int
		if err := s.row(ctx, underFence(ends, statement), append([]any{to}, args...), &least, &done); err != nil {
			return err
		}
		return standsAt(least, to)
	})
	return done, err
}

// queueForFence locks the table, because who wants to share the row's lock passes those who wait to write it: an older
// rotation with many workers would keep a Compromise waiting.
func (postgres) queueForFence(ctx context.Context, s *Store, tx queryer) error {
	_, err := s.execIn(ctx, tx, "LOCK TABLE fence IN EXCLUSIVE MODE")
	return err
}

// commit is how a statement's transaction ends.
type commit string

const (
	// awaited is on the disk, and on the standby servers that the database waits for, when the statement is answered.
	awaited commit = ""
	// unawaited is there at the latest when an awaited commit that came after it is, because the log has one order, and
	// is undone by a crash before that. What makes up for it: whatever a rotation moves is needed only once the key that
	// it was moved from is deleted, which is awaited.
	unawaited commit = ", set_config('synchronous_commit', 'off', true)"
)

func underFence(ends commit, statement string) string {
	return `WITH standing AS MATERIALIZED (SELECT min_kek_version AS at` + string(ends) + ` FROM fence WHERE id = 1 FOR SHARE), ` +
		statement + ` SELECT (SELECT at FROM standing), (SELECT count(*) FROM done)`
}

// replaceSealed writes the batch and counts its seals. It does not wait for the disk, which users wait for.
func (p postgres) replaceSealed(ctx context.Context, s *Store, to int, t SealedTable, owner, oldKey, newKey string, batch []SealedRow) (int64, error) {
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
	return p.inRotation(ctx, s, to, unawaited, replaceSealedStatement(t), args...)
}

// replaceSealedStatement finds each row by its primary key. Left alone, the planner multiplies how few rows an owner has
// with how few a key has, though one implies the other, expects a single row, and goes through all that are left under
// the old key for each of the batch: with OFFSET it cannot look into the batch, and only equality uses the index of keys.
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

// replaceActiveKeys locks the users' rows, in order; a row is there as long as the account, and note writes do not
// take it.
func (p postgres) replaceActiveKeys(ctx context.Context, s *Store, to int, keys []envelope.StoredKey, versions []int, now time.Time) error {
	owners, ids, wrapped := make([]string, len(keys)), make([]string, len(keys)), make([]string, len(keys))
	for i, key := range keys {
		owners[i], ids[i], wrapped[i] = key.Owner, key.ID, string(key.Wrapped)
	}
	_, err := p.inRotation(ctx, s, to, awaited, replaceActiveKeysStatement, owners, ids, versions, wrapped, micros(now))
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

func (p postgres) replaceWrappings(ctx context.Context, s *Store, to int, keys []Rewrapped, versions []int) (int64, error) {
	owners, ids, before, after := make([]string, len(keys)), make([]string, len(keys)), make([]string, len(keys)), make([]string, len(keys))
	for i, key := range keys {
		owners[i], ids[i], before[i], after[i] = key.Owner, key.ID, string(key.Wrapped), string(key.New)
	}
	return p.inRotation(ctx, s, to, awaited, replaceWrappingsStatement, owners, ids, before, after, versions)
}

const replaceWrappingsStatement = `done AS (
		UPDATE owner_keys k SET wrapped = b.new, kek_version = b.version
		FROM unnest($2::uuid[], $3::text[], $4::text[], $5::text[], $6::integer[]) AS b (owner, id, old, new, version), standing
		WHERE standing.at = $1 AND k.owner = b.owner AND k.id = b.id AND k.wrapped = b.old RETURNING 1
	)`

func (p postgres) deleteRetiredKeys(ctx context.Context, s *Store, to int, keys []envelope.StoredKey) error {
	owners, ids := make([]string, len(keys)), make([]string, len(keys))
	for i, key := range keys {
		owners[i], ids[i] = key.Owner, key.ID
	}
	_, err := p.inRotation(ctx, s, to, awaited, deleteRetiredKeysStatement, owners, ids)
	return err
}

const deleteRetiredKeysStatement = `done AS (
		DELETE FROM owner_keys k USING standing, unnest($2::uuid[], $3::text[]) AS b (owner, id)
		WHERE standing.at = $1 AND k.owner = b.owner AND k.id = b.id AND k.state = 'retiring' RETURNING 1
	)`
