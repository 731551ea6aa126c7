package reencrypt

import (
	"context"
	"errors"
	"fmt"
	"time"

	"golang.org/x/time/rate"
)

// How a Job makes way for users. It and they compete for the processors and the disk of the database, so it
// works in short transactions and rests between them, for longer the more there is to make way for. Its own
// statements are no measure of that: under a steady load they have never been faster. Measured with everything
// on two processors, and 8 clients with 1,700 requests a second between them: at full speed a Job raised the
// users' 99th percentile from 10 to 14 ms, and with these settings to 10.5 ms, at a fifth of its speed. Batches
// of 25 rows instead of 100 changed nothing but that speed.
const (
	// restPerSession is how long a Job rests, as a multiple of the time that it has worked, for each session
	// of the API that is at work on average; maxRest is the most, so that the work goes on in any case.
	restPerSession, maxRest = 10.0, 9.0
	// longestRest bounds one rest: work that took longer was mostly waiting, for Vault or for a lock.
	longestRest = 5 * time.Second
	// unknownRest is the rest where nobody can say whether users are at work.
	unknownRest = 1.0
	// sampleInterval is how often a Job looks whether users are at work: often enough to make way within a fraction of a
	// second, seldom enough to cost next to nothing.
	sampleInterval = 25 * time.Millisecond
	// smoothing is the weight of one look in the average.
	smoothing = 0.125
)

// pace holds a Job back between its transactions. One goroutine uses it.
type pace struct {
	// limit is the brake; nil: none.
	limit *rate.Limiter
	// usersAtWork counts the sessions to make way for; nil: the Job makes way for nobody.
	usersAtWork func(context.Context) (int, error)

	// users is its average, and sampled when it was last asked.
	users   float64
	sampled time.Time
	// resumed is when the last pause ended.
	resumed time.Time
}

// newPace begins with work that starts now. perSecond is how many rows may be written; 0: any number.
func newPace(perSecond float64, usersAtWork func(context.Context) (int, error)) *pace {
	p := &pace{usersAtWork: usersAtWork, resumed: time.Now()}
	if perSecond > 0 {
		p.limit = rate.NewLimiter(rate.Limit(perSecond), max(1, int(min(perSecond, rowBatch))))
	}
	return p
}

// batch is how many of the rows that are wanted are to be written in one transaction: no more than the brake
// lets through in a second, so that a low limit makes small steps rather than long stops.
func (p *pace) batch(wanted int) int {
	if p.limit == nil {
		return wanted
	}
	return min(wanted, p.limit.Burst())
}

// pause follows a transaction that wrote so many rows. When ctx ends it does, with an error.
func (p *pace) pause(ctx context.Context, rows int) error {
	if err := p.makeWay(ctx); err != nil {
		return err
	}
	if p.limit != nil {
		// In parts, because the limiter lets no more through at once than its burst.
		for left := rows; left > 0; left -= p.limit.Burst() {
			if err := p.limit.WaitN(ctx, min(left, p.limit.Burst())); err != nil {
				return fmt.Errorf("brake: %w", err)
			}
		}
	}
	p.resumed = time.Now()
	return nil
}

// makeWay rests in proportion to the work since the last pause and to how many users are at work.
func (p *pace) makeWay(ctx context.Context) error {
	if p.usersAtWork == nil {
		return nil
	}
	now := time.Now()
	worked := now.Sub(p.resumed)
	if now.Sub(p.sampled) >= sampleInterval {
		users, err := p.usersAtWork(ctx)
		switch {
		case errors.Is(err, errors.ErrUnsupported):
			return rest(ctx, worked, unknownRest)
		case err != nil:
			return fmt.Errorf("look whether users are at work: %w", err)
		}
		p.users += (float64(users) - p.users) * smoothing
		p.sampled = now
	}
	return rest(ctx, worked, min(p.users*restPerSession, maxRest))
}

func rest(ctx context.Context, worked time.Duration, multiple float64) error {
	return sleep(ctx, min(time.Duration(float64(worked)*multiple), longestRest))
}

func sleep(ctx context.Context, d time.Duration) error {
	if d <= 0 {
		return ctx.Err()
	}
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-timer.C:
		return nil
	}
}
