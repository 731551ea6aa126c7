package reencrypt

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	"golang.org/x/time/rate"
)

// How a Job yields to users, who share the database's processors and disk: it works in short
// transactions and rests between them, longer with more users. `make bench-rotation` measures the
// effect on users and on the rotation.
const (
	// restPerSession is how long a Job rests for each API session that is at work, as a multiple of
	// the time that the Job has worked. maxRest bounds that multiple, so that the Job makes
	// progress in any case.
	restPerSession, maxRest = 13.0, 39.0
	// rowBatch is how many rows one transaction seals again: few enough that their values, of up to
	// 400 KiB each, fit in memory. busyBatch is the same while users are at work: few enough that a
	// user hardly waits for a row lock, and enough to spread the cost of a transaction.
	rowBatch, busyBatch = 100, 16
	// busyKeys is how many owners, or owner keys, one step handles while users are at work.
	busyKeys = 8
	// keyBatch is how many keys a worker deletes in one transaction.
	keyBatch = 16
	// longestRest bounds one rest. Work that took longer was mostly waiting, for Vault or for a
	// lock.
	longestRest = 3 * time.Second
	// unknownRest is the multiple if the database cannot tell whether users are at work.
	unknownRest = 1.0
	// sampleInterval is how often a Job counts the users at work: often enough to yield within a
	// fraction of a second, and rarely enough to cost almost nothing.
	sampleInterval = 100 * time.Millisecond
	// recently is how long a session counts after its last statement. Users spend little of their
	// time in the database, so a count of a single instant would mostly find nobody.
	recently = 250 * time.Millisecond
)

// pace makes the workers of a Job pause between their transactions.
type pace struct {
	// limit bounds the rows per second. It is nil if there is no limit.
	limit *rate.Limiter
	// usersAtWork counts the sessions to yield to. It is nil if the Job yields to nobody.
	usersAtWork func(context.Context) (int, error)

	// turn is held while pausing, and also while working if users are active. So all workers
	// together load the database no more than one would. It guards rest and sampled.
	turn chan struct{}
	// busy is true while users are at work, or if that is unknown.
	busy atomic.Bool
	// rest is the current multiple of the work that a Job rests for. sampled is when users were
	// last counted.
	rest    float64
	sampled time.Time
}

// newPace returns a pace that lets at most perSecond rows through each second; 0 means no limit.
// Until users are counted for the first time, it assumes that some are at work. Otherwise the Job
// could delay users before the first count finds them.
func newPace(perSecond float64, usersAtWork func(context.Context) (int, error)) *pace {
	p := &pace{usersAtWork: usersAtWork, turn: make(chan struct{}, 1)}
	p.busy.Store(usersAtWork != nil)
	if perSecond > 0 {
		p.limit = rate.NewLimiter(rate.Limit(perSecond), max(1, int(min(perSecond, rowBatch))))
	}
	return p
}

// usersAtWork returns how a pace counts users, or nil if the work is urgent.
func usersAtWork(db userCounter, urgent bool) func(context.Context) (int, error) {
	if urgent {
		return nil
	}
	return func(ctx context.Context) (int, error) { return db.UsersAtWork(ctx, recently) }
}

// throttle is the pace of one worker. Only one goroutine may use it.
type throttle struct {
	*pace
	// resumed is when the work began that the next pause is for. begun is true once begin has set
	// it.
	resumed time.Time
	begun   bool
	// hasTurn is true while the worker holds the turn.
	hasTurn bool
}

// throttle returns the throttle of a worker whose work starts now.
func (p *pace) throttle() *throttle { return &throttle{pace: p, resumed: time.Now()} }

// batchSize returns how many rows to write in one transaction.
func (p *pace) batchSize() int { return p.limited(rowBatch, busyBatch) }

// keyPageSize returns how many keys to send to the key provider in one call and to write in one
// transaction.
func (p *pace) keyPageSize() int { return p.limited(keyPage, busyKeys) }

// limited returns n, or busy while users are at work, but not more than the limit lets through in a
// second. So a low limit leads to small steps instead of long stops.
func (p *pace) limited(n, busy int) int {
	if p.busy.Load() {
		n = busy
	}
	if p.limit != nil {
		n = min(n, p.limit.Burst())
	}
	return n
}

// ownersPerPage returns how many of n owners to handle in one step.
func (p *pace) ownersPerPage(n int) int {
	if p.busy.Load() {
		return busyKeys
	}
	return n
}

// keysPerDelete returns how many keys to delete in one transaction.
func (p *pace) keysPerDelete() int {
	if p.busy.Load() {
		return 1
	}
	return keyBatch
}

// begin marks the start of work: the time since the last pause was waiting. While users are at work
// it first waits for the turn, so the worker must not wait for another worker until it pauses or
// ends. A second call before that does nothing. It returns the error of ctx.
func (s *throttle) begin(ctx context.Context) error {
	if s.begun {
		return nil
	}
	if s.busy.Load() {
		if err := s.takeTurn(ctx); err != nil {
			return err
		}
	}
	s.resumed, s.begun = time.Now(), true
	return nil
}

// takeTurn waits for the turn, unless the worker holds it. It returns the error of ctx.
func (s *throttle) takeTurn(ctx context.Context) error {
	if s.hasTurn {
		return nil
	}
	select {
	case s.turn <- struct{}{}:
		s.hasTurn = true
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// end releases the turn.
func (s *throttle) end() {
	s.begun = false
	if s.hasTurn {
		<-s.turn
		s.hasTurn = false
	}
}

// pause follows a transaction that wrote the given number of rows. It returns the error of ctx, or
// that of counting the users.
func (s *throttle) pause(ctx context.Context, rows int) error {
	worked := time.Since(s.resumed)
	if err := s.takeTurn(ctx); err != nil {
		return err
	}
	defer s.end()
	// Time spent waiting for other workers, most of which was their rest, counts as rest: all of
	// them found users at the same time.
	if err := s.yield(ctx, worked, time.Since(s.resumed)-worked); err != nil {
		return err
	}
	if s.limit != nil {
		// In parts, because the limiter never lets more through than its burst.
		for left := rows; left > 0; left -= s.limit.Burst() {
			if err := s.limit.WaitN(ctx, min(left, s.limit.Burst())); err != nil {
				return fmt.Errorf("limit the rows per second: %w", err)
			}
		}
	}
	s.resumed = time.Now()
	return nil
}

// yield rests in proportion to the work and to the number of users at work. It subtracts what the
// worker has already rested.
func (p *pace) yield(ctx context.Context, worked, rested time.Duration) error {
	if p.usersAtWork == nil {
		return nil
	}
	now := time.Now()
	if now.Sub(p.sampled) >= sampleInterval {
		users, err := p.usersAtWork(ctx)
		switch {
		case errors.Is(err, errors.ErrUnsupported):
			users, p.rest = 1, unknownRest
		case err != nil:
			return fmt.Errorf("count the users at work: %w", err)
		default:
			p.rest = min(float64(users)*restPerSession, maxRest)
		}
		p.sampled = now
		p.busy.Store(users > 0)
	}
	return sleep(ctx, min(time.Duration(float64(worked)*p.rest), longestRest)-rested)
}

// sleep waits for d. It returns the error of ctx.
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
