package store

import (
	"context"
	"database/sql"
	"errors"
	"time"

	"github.com/securenotes/securenotes/app/internal/notes"
	"github.com/securenotes/securenotes/app/internal/sessions"
)

// Execute runs a statement as it is written.
func (s *Store) Execute(ctx context.Context, statement string, args ...any) error {
	_, err := s.exec(ctx, statement, args...)
	return err
}

// ColumnTypes gives the declared type of each column, by TABLE.COLUMN.
func (s *Store) ColumnTypes(ctx context.Context) (map[string]string, error) {
	types := map[string]string{}
	err := s.rows(ctx, s.db, s.dialect.columnTypes(), nil, func(rows *sql.Rows) error {
		var table, column, kind string
		err := rows.Scan(&table, &column, &kind)
		types[table+"."+column] = kind
		return err
	})
	return types, err
}

// Creation is one note for CreateTogether.
type Creation struct {
	Identity sessions.Identity
	Note     notes.Sealed
}

// CreateTogether creates notes as requests do that come at the same moment.
func (s *Store) CreateTogether(ctx context.Context, now time.Time, list []Creation) []error {
	joined := make([]creation, len(list))
	for i, c := range list {
		joined[i] = creation{c.Identity, now, c.Note}
	}
	errs := make([]error, len(list))
	for i, result := range s.createNotes(ctx, joined) {
		if errs[i] = result.Err; errors.Is(result.Err, errAlone) {
			errs[i] = s.createAlone(ctx, joined[i])
		}
	}
	return errs
}

// Reading is one note for ReadTogether.
type Reading struct {
	Identity sessions.Identity
	Note     string
}

// ReadTogether reads notes as requests do that come at the same moment.
func (s *Store) ReadTogether(ctx context.Context, now time.Time, list []Reading) ([]notes.Sealed, []error) {
	joined := make([]reading, len(list))
	for i, r := range list {
		joined[i] = reading{r.Identity, now, r.Note}
	}
	found, errs := make([]notes.Sealed, len(list)), make([]error, len(list))
	for i, result := range s.readNotes(ctx, joined) {
		found[i], errs[i] = result.Value.note, result.Err
	}
	return found, errs
}

// RowsOf counts what the database has of a user, by table: in every table that has a column owner, among the users,
// and among the counters.
func (s *Store) RowsOf(ctx context.Context, owner string) (map[string]int, error) {
	conditions := map[string]string{"users": "id = $1", "limits": "key LIKE '%' || $1 || '%'"}
	err := s.rows(ctx, s.db, s.dialect.columnTypes(), nil, func(rows *sql.Rows) error {
		var table, column, kind string
		err := rows.Scan(&table, &column, &kind)
		if column == "owner" {
			conditions[table] = "owner = $1"
		}
		return err
	})
	if err != nil {
		return nil, err
	}
	counts := map[string]int{}
	for table, condition := range conditions {
		var count int
		if err := s.row(ctx, "SELECT count(*) FROM "+table+" WHERE "+condition, []any{owner}, &count); err != nil {
			return nil, err
		}
		counts[table] = count
	}
	return counts, nil
}

// Setting gives a setting of PostgreSQL.
func (s *Store) Setting(ctx context.Context, name string) (value string, err error) {
	err = s.row(ctx, "SELECT current_setting($1)", []any{name}, &value)
	return value, err
}

// The statements that a rotation sends to PostgreSQL most often.
var (
	ReplaceActiveKeysStatement = underFence(awaited, replaceActiveKeysStatement)
	DeleteRetiredKeysStatement = underFence(awaited, deleteRetiredKeysStatement)
)

// ReplaceSealedStatement is what ReplaceSealed sends to PostgreSQL.
func ReplaceSealedStatement(t SealedTable) string {
	return underFence(unawaited, replaceSealedStatement(t))
}

// SealedRowsQuery is what SealedRows asks.
func SealedRowsQuery(t SealedTable) string { return sealedRowsQuery(t) }

// OwnersKeysQuery is what OwnersKeys asks PostgreSQL.
func OwnersKeysQuery(tables []SealedTable) string {
	where, _ := postgres{}.oneOf("k.owner", nil)
	return rotationKeysQuery(tables, where+ownersKeysOrder)
}

// Pooled reports whether a connection was found to lead to a pooler.
func (s *Store) Pooled(ctx context.Context) (pooled bool, err error) {
	conn, err := s.db.Conn(ctx)
	if err != nil {
		return false, err
	}
	defer conn.Close()
	err = conn.Raw(func(driverConn any) error {
		_, pooled = driverConn.(*pooledConn)
		return nil
	})
	return pooled, err
}

// Returning runs a statement that returns a row with one number.
func (s *Store) Returning(ctx context.Context, statement string) error {
	var n int
	return s.row(ctx, statement, nil, &n)
}
