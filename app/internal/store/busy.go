package store

import (
	"context"
	"errors"
	"time"
)

// jobApplication is the application_name of a Job's sessions, so that the shards of a rotation are told from
// the users that they make way for.
const jobApplication = "securenotes-job"

// applicationName goes by the time that a statement may take: only a Job's may take hours.
func applicationName(statementTimeout time.Duration) string {
	if statementTimeout >= JobTimeout {
		return jobApplication
	}
	return "securenotes"
}

// OthersAtWork counts the sessions that are carrying out a statement in the database at this moment, Jobs
// aside: who a Job should make way for. PostgreSQL shows what sessions of the Job's own role do, which are the
// service's. Error: errors.ErrUnsupported with SQLite, which has no sessions.
func (s *Store) OthersAtWork(ctx context.Context) (int, error) {
	return s.dialect.othersAtWork(ctx, s)
}

func (postgres) othersAtWork(ctx context.Context, s *Store) (int, error) {
	var others int
	err := s.row(ctx, `SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND state = 'active'
		AND pid <> pg_backend_pid() AND application_name <> $1`, []any{jobApplication}, &others)
	return others, err
}

func (*sqliteDialect) othersAtWork(context.Context, *Store) (int, error) {
	return 0, errors.ErrUnsupported
}
