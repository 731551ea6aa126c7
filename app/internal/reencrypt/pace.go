package reencrypt

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/time/rate"

	"github.com/securenotes/securenotes/app/internal/store"
)

// How a Job makes way for users. It and they compete for the processors and the disk of the database, so it
// works in short transactions and rests between them, for longer the more there is to make way for. Its own
// statements are no measure of that: under a steady load they have never been faster. `make bench-rotation`
// measures what it does to the users and to the rotation.
const (
	// restPerSession is how long a Job rests, as a multiple of the time that it has worked, for each session
	// of the API that is at work on average; maxRest is the most, so that the work goes on in any case.
	restPerSession, maxRest = 80.0, 19.0
	// rowBatch is how many rows are sealed again in one transaction: few enough that their values, at most 400 KiB
	// each, fit in memory and that row locks are short. politeBatch is as many while users are at work.
	rowBatch, politeBatch = 100, 8
	// keyBatch is how many keys a worker deletes in one transaction.
	keyBatch = 16
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

// pace holds the workers of a Job back between their transactions.
type pace struct {
	// limit is the brake; nil: none.
	limit *rate.Limiter
	// usersAtWork counts the sessions to make way for; nil: the Job makes way for nobody.
	usersAtWork func(context.Context) (int, error)

	// mu is held by who pauses, so that the workers rest one after another: all of them together do no more
	// beside users than one would.
	mu sync.Mutex
	// busy says that users are at work.
	busy atomic.Bool
	// users is its average, and sampled when it was last asked.
	users   float64
	sampled time.Time
}

// newPace makes a pace; perSecond is how many rows may be written; 0: any number. It begins as if many users were at
// work: the first looks show whether they are, and it is too late for those whom a Job has come upon.
func newPace(perSecond float64, usersAtWork func(context.Context) (int, error)) *pace {
	p := &pace{usersAtWork: usersAtWork, users: maxRest / restPerSession}
	p.busy.Store(usersAtWork != nil)
	if perSecond > 0 {
		p.limit = rate.NewLimiter(rate.Limit(perSecond), max(1, int(min(perSecond, rowBatch))))
	}
	return p
}

// usersAtWork is what a pace asks the database, or nothing when the work is urgent.
func usersAtWork(db *store.Store, urgent bool) func(context.Context) (int, error) {
	if urgent {
		return nil
	}
	return db.UsersAtWork
}

// stride is the pace of one worker. One goroutine uses it.
type stride struct {
	*pace
	// resumed is when the last pause ended.
	resumed time.Time
}

// stride begins with work that starts now.
func (p *pace) stride() *stride { return &stride{pace: p, resumed: time.Now()} }

// batch is how many rows are to be written in one transaction.
func (p *pace) batch() int { return p.braked(rowBatch) }

// keyPage is how many keys are to be given to the key provider in one call, and to be written in one transaction.
func (p *pace) keyPage() int { return p.braked(keyPage) }

// braked is n, or what is polite while users are at work, and no more than the brake lets through in a second, so that
// a low limit makes small steps rather than long stops.
func (p *pace) braked(n int) int {
	if p.busy.Load() {
		n = politeBatch
	}
	if p.limit != nil {
		n = min(n, p.limit.Burst())
	}
	return n
}

// owners is how many owners are to be given new keys in one transaction.
func (p *pace) owners() int {
	if p.busy.Load() {
		return politeBatch
	}
	return ownersAhead
}

// keys is how many keys are to be deleted in one transaction.
func (p *pace) keys() int {
	if p.busy.Load() {
		return 1
	}
	return keyBatch
}

// resume says that work begins now: what went by since the last pause was none.
func (s *stride) resume() { s.resumed = time.Now() }

// pause follows a transaction that wrote so many rows. When ctx ends it does, with an error.
func (s *stride) pause(ctx context.Context, rows int) error {
	worked := time.Since(s.resumed)
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.makeWay(ctx, worked); err != nil {
		return err
	}
	if s.limit != nil {
		// In parts, because the limiter lets no more through at once than its burst.
		for left := rows; left > 0; left -= s.limit.Burst() {
			if err := s.limit.WaitN(ctx, min(left, s.limit.Burst())); err != nil {
				return fmt.Errorf("brake: %w", err)
			}
		}
	}
	s.resumed = time.Now()
	return nil
}

// makeWay rests in proportion to the work since the last pause and to how many users are at work.
func (p *pace) makeWay(ctx context.Context, worked time.Duration) error {
	if p.usersAtWork == nil {
		return nil
	}
	now := time.Now()
	if now.Sub(p.sampled) >= sampleInterval {
		users, err := p.usersAtWork(ctx)
		switch {
		case errors.Is(err, errors.ErrUnsupported):
			p.busy.Store(false)
			return rest(ctx, worked, unknownRest)
		case err != nil:
			return fmt.Errorf("look whether users are at work: %w", err)
		}
		p.users += (float64(users) - p.users) * smoothing
		p.sampled = now
		p.busy.Store(p.users > 1e-3)
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
