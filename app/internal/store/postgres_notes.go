package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"

	"github.com/securenotes/securenotes/app/internal/accounts"
	"github.com/securenotes/securenotes/app/internal/batch"
	"github.com/securenotes/securenotes/app/internal/envelope"
	"github.com/securenotes/securenotes/app/internal/sessions"
)

// CreateUser stores a user and the user's first owner key, or neither. It is one statement, so that
// no process that stalls between two statements holds the fence, which the key's trigger locks, and
// so blocks a rotation. A restore that begins meanwhile waits for it, and then finds the user.
// Errors: accounts.ErrUsernameTaken, accounts.ErrFenced, ErrRestored.
func (s *postgresStore) CreateUser(ctx context.Context, user accounts.User, key envelope.StoredKey) error {
	version, err := key.Wrapped.Version()
	if err != nil {
		return err
	}
	asExpected, args := s.asExpected(9, s.dialect.lockShared())
	args = append([]any{
		user.ID, user.Username, user.PasswordHash, user.PepperID, micros(user.CreatedAt), key.ID, version, string(key.Wrapped),
	}, args...)
	created := s.exists(ctx, userExists, user.ID)
	return s.untilKnown(ctx, created, func() error {
		stored, err := s.execIn(ctx, s.db, `WITH account AS (
			INSERT INTO users (id, username, password_hash, pepper_id, created_at)
			SELECT $1, $2, $3, $4, $5 WHERE `+asExpected+` RETURNING id, created_at
		) INSERT INTO owner_keys (owner, id, kek_version, born_version, wrapped, state, created_at)
		SELECT id, $6, $7, $7, $8, 'active', created_at FROM account`, args...)
		if err == nil && stored == 0 {
			err = ErrRestored
		}
		return err
	})
}

// createNotes creates the notes of concurrent requests in one transaction.
func (s *postgresStore) createNotes(ctx context.Context, list []creation) []batch.Result[struct{}] {
	stored, err := s.insertNotes(ctx, list)
	return creationResults(list, stored, err)
}

// insertNotes returns the ids of the notes that it stored. It uses one statement for all notes, and
// the cheaper plain statement for a single note. Owners are sorted, so that two such statements do
// not deadlock on the foreign keys.
func (s *postgresStore) insertNotes(ctx context.Context, list []creation) (map[string]bool, error) {
	n := len(list)
	if n == 1 {
		err := s.createNoteIn(ctx, s.createPool, list[0].id, list[0].now, list[0].note)
		if errors.Is(err, envelope.ErrKeyNotActive) {
			return nil, nil
		}
		return map[string]bool{list[0].note.ID: true}, err
	}
	owners, sessionIDs, ids, keys := make([]string, n), make([]string, n), make([]string, n), make([]string, n)
	contents, titles, tags := make([][]byte, n), make([][]byte, n), make([][]byte, n)
	created, now := make([]int64, n), make([]int64, n)
	for i, c := range list {
		owners[i], sessionIDs[i], ids[i], keys[i] = c.id.Owner, c.id.Session, c.note.ID, c.note.KeyID
		contents[i], titles[i], tags[i] = c.note.Content, c.note.Title, c.note.Tags
		created[i], now[i] = micros(c.note.CreatedAt), micros(c.now)
	}
	rows, err := s.createPool.QueryContext(ctx, `INSERT INTO notes (owner, id, key_id, revision, content, title, tags, created_at, updated_at)
		SELECT k.owner, b.id, k.id, 1, b.content, b.title, b.tags, b.created_at, b.created_at
		FROM unnest($1::uuid[], $2::uuid[], $3::uuid[], $4::text[], $5::bytea[], $6::bytea[], $7::bytea[], $8::bigint[], $9::bigint[])
			AS b (owner, session, id, key_id, content, title, tags, created_at, now)
		JOIN sessions s ON s.owner = b.owner AND s.id = b.session AND s.expires_at > b.now
		JOIN owner_keys k ON k.owner = b.owner AND k.id = b.key_id AND k.state = 'active'
		ORDER BY b.owner, b.id RETURNING id`, owners, sessionIDs, ids, keys, contents, titles, tags, created, now)
	if err != nil {
		return nil, s.dialect.classify(err)
	}
	defer rows.Close()
	stored := make(map[string]bool, n)
	for rows.Next() {
		var id string
		if err := rows.Scan(&id); err != nil {
			return nil, s.dialect.classify(err)
		}
		stored[id] = true
	}
	return stored, s.dialect.classify(rows.Err())
}

// readNotes reads the notes of concurrent requests with one statement. After an error each note is
// read on its own, so that one bad row harms no other request.
func (s *postgresStore) readNotes(ctx context.Context, list []reading) []batch.Result[readNote] {
	if len(list) == 1 {
		return []batch.Result[readNote]{s.selectNote(ctx, list[0])}
	}
	results, err := s.selectNotes(ctx, list)
	if err != nil {
		if !errors.Is(err, ErrUnavailable) {
			err = fmt.Errorf("%w: %w", errRunAlone, err)
		}
		for i := range results {
			results[i] = batch.Result[readNote]{Err: err}
		}
	}
	return results
}

// selectNotes returns the results in the order of list. An error applies to all of them.
func (s *postgresStore) selectNotes(ctx context.Context, list []reading) ([]batch.Result[readNote], error) {
	n := len(list)
	owners, sessionIDs, ids, now := make([]string, n), make([]string, n), make([]string, n), make([]int64, n)
	results := make([]batch.Result[readNote], n)
	for i, r := range list {
		owners[i], sessionIDs[i], ids[i], now[i] = r.id.Owner, r.id.Session, r.note, micros(r.now)
		results[i].Err = sessions.ErrInvalid // a session that has ended has no row
	}
	err := s.rows(ctx, `SELECT r.place, `+noteColumns+`
		FROM unnest($1::uuid[], $2::uuid[], $3::uuid[], $4::bigint[]) WITH ORDINALITY AS r (owner, session, note, now, place)
		JOIN sessions s ON s.owner = r.owner AND s.id = r.session AND s.expires_at > r.now
		LEFT JOIN notes n ON n.owner = s.owner AND n.id = r.note
		LEFT JOIN owner_keys k ON k.owner = n.owner AND k.id = n.key_id`,
		[]any{owners, sessionIDs, ids, now}, func(rows *sql.Rows) error {
			var place int
			var row noteRow
			if err := rows.Scan(append([]any{&place}, row.into()...)...); err != nil {
				return err
			}
			results[place-1] = row.result(list[place-1])
			return nil
		})
	return results, err
}
