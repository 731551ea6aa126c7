package store

import (
	"context"
	"errors"
	"fmt"
	"time"
)

// The application_name of the API's sessions, of those over which it works for itself, and of Jobs': the shards of a
// rotation make way for users, not for each other, nor for probes, a vacuum or a backup.
const (
	apiApplication        = "securenotes"
	backgroundApplication = "securenotes-background"
	jobApplication        = "securenotes-job"
)

// applicationName goes by the time that a statement may take: only a Job's may take hours.
func applicationName(statementTimeout time.Duration) string {
	if statementTimeout >= JobTimeout {
		return jobApplication
	}
	return apiApplication
}

// UsersAtWork counts the sessions of the API that are carrying out a statement for a user at this moment, or were so
// recently: who a Job should make way for. PostgreSQL shows this to the role that the sessions have, which is the Job's
// own, and to the members of pg_read_all_stats. Error: errors.ErrUnsupported where it does not show it, and with SQLite,
// which has no sessions.
func (s *Store) UsersAtWork(ctx context.Context, recently time.Duration) (int, error) {
	return s.dialect.usersAtWork(ctx, s, recently)
}

func (postgres) usersAtWork(ctx context.Context, s *Store, recently time.Duration) (int, error) {
	var users, hidden int
	// A session that is hidden has begun at no time; one that begins has no state yet.
	err := s.row(ctx, `SELECT count(*) FILTER (WHERE state = 'active' OR state_change > clock_timestamp() - $2 * interval '1 microsecond'),
			count(*) FILTER (WHERE backend_start IS NULL OR state = 'disabled')
		FROM pg_stat_activity WHERE datname = current_database() AND application_name = $1`,
		[]any{apiApplication, recently.Microseconds()}, &users, &hidden)
	if err == nil && hidden > 0 {
		err = fmt.Errorf("%w: PostgreSQL hides what other logins do", errors.ErrUnsupported)
	}
	return users, err
}

func (*sqliteDialect) usersAtWork(context.Context, *Store, time.Duration) (int, error) {
	return 0, errors.ErrUnsupported
}
