package store

import (
	"context"
	"database/sql"
	"errors"
	"time"

	"github.com/ulule/limiter/v3"
	"github.com/ulule/limiter/v3/drivers/store/common"
)

// Limits is a limiter.Store in the database, so that all replicas share the counters.
type Limits struct {
	core *core
	now  func() time.Time
}

var _ limiter.Store = (*Limits)(nil)

// Limits implements Administration.
func (c *core) Limits() *Limits { return &Limits{core: c, now: time.Now} }

// Get adds one and returns the state.
func (l *Limits) Get(ctx context.Context, key string, rate limiter.Rate) (limiter.Context, error) {
	return l.Increment(ctx, key, 1, rate)
}

// Increment adds count and returns the state. A period begins with the first count after the
// previous period has ended.
func (l *Limits) Increment(ctx context.Context, key string, count int64, rate limiter.Rate) (limiter.Context, error) {
	now := l.now()
	var total, expires int64
	err := l.core.row(ctx, `INSERT INTO limits (key, count, expires_at) VALUES ($1, $2, $3)
		ON CONFLICT (key) DO UPDATE SET
			count = CASE WHEN limits.expires_at <= $4 THEN excluded.count ELSE limits.count + excluded.count END,
			expires_at = CASE WHEN limits.expires_at <= $4 THEN excluded.expires_at ELSE limits.expires_at END
		RETURNING count, expires_at`,
		[]any{key, count, micros(now.Add(rate.Period)), micros(now)}, &total, &expires)
	if err != nil {
		return limiter.Context{}, err
	}
	return common.GetContextFromState(now, rate, fromMicros(expires), total), nil
}

// Peek returns the state without counting.
func (l *Limits) Peek(ctx context.Context, key string, rate limiter.Rate) (limiter.Context, error) {
	now := l.now()
	var total, expires int64
	err := l.core.row(ctx, "SELECT count, expires_at FROM limits WHERE key = $1 AND expires_at > $2",
		[]any{key, micros(now)}, &total, &expires)
	if errors.Is(err, sql.ErrNoRows) {
		return common.GetContextFromState(now, rate, now.Add(rate.Period), 0), nil
	}
	if err != nil {
		return limiter.Context{}, err
	}
	return common.GetContextFromState(now, rate, fromMicros(expires), total), nil
}

// Reset deletes the counter.
func (l *Limits) Reset(ctx context.Context, key string, rate limiter.Rate) (limiter.Context, error) {
	now := l.now()
	if _, err := l.core.exec(ctx, "DELETE FROM limits WHERE key = $1", key); err != nil {
		return limiter.Context{}, err
	}
	return common.GetContextFromState(now, rate, now.Add(rate.Period), 0), nil
}

// DeletePrefix deletes the counters of all keys that begin with the prefix.
func (l *Limits) DeletePrefix(ctx context.Context, prefix string) error {
	_, err := l.core.exec(ctx, "DELETE FROM limits WHERE substr(key, 1, length(CAST($1 AS text))) = $1", prefix)
	return err
}

// DeleteExpired removes up to limit counters whose period has ended, and returns how many.
func (l *Limits) DeleteExpired(ctx context.Context, limit int) (int64, error) {
	return l.core.exec(ctx, `DELETE FROM limits WHERE key IN
		(SELECT key FROM limits WHERE expires_at <= $1 ORDER BY expires_at LIMIT $2)`, micros(l.now()), limit)
}
