package reencrypt

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	"golang.org/x/time/rate"
)

// How a Job makes way for users. It and they compete for the processors and the disk of the database, so it
// works in short transactions and rests between them, for longer the more there is to make way for. Its own
// statements are no measure of that: under a steady load they have never been faster. `make bench-rotation`
// measures what it does to the users and to the rotation.
const (
	// restPerSession is how long a Job rests, as a multiple of the time that it has worked, for each session
	// of the API that is at work; maxRest is the most, so that the work goes on in any case.
	restPerSession, maxRest = 13.0, 39.0
	// rowBatch is how many rows are sealed again in one transaction: few enough that their values, at most 400 KiB
	// each, fit in memory and that row locks are short. busyBatch is as many while users are at work: few enough
	// that who comes upon them hardly waits, and more than a few, because each transaction has its price.
	rowBatch, busyBatch = 100, 16
	// busyKeys is how many owners, or keys of theirs, have their turn at once while users are at work.
	busyKeys = 8
	// keyBatch is how many keys a worker deletes in one transaction.
	keyBatch = 16
	// longestRest bounds one rest: work that took longer was mostly waiting, for Vault or for a lock.
	longestRest = 3 * time.Second
	// unknownRest is the rest where nobody can say whether users are at work.
	unknownRest = 1.0
	// sampleInterval is how often a Job looks whether users are at work: often enough to make way within a fraction of a
	// second, seldom enough to cost next to nothing.
	sampleInterval = 100 * time.Millisecond
	// recently is for how long a session counts after its last statement: users are in the database for a small part of
	// their time only, and most looks at a single instant would find nobody.
	recently = 250 * time.Millisecond
)

// pace hasTurn the workers of a Job back between their transactions.
type pace struct {
	// limit is the brake; nil: none.
	limit *rate.Limiter
	// usersAtWork counts the sessions to make way for; nil: the Job makes way for nobody.
	usersAtWork func(context.Context) (int, error)

	// turn is taken by who pauses, and beside users by who works, so that all workers together do no more beside users
	// than one would. It guards rest and sampled.
	turn chan struct{}
	// busy says that users are at work, or that nobody can say.
	busy atomic.Bool
	// rest is the multiple of its work that a Job rests for, and sampled when the users were last counted for it.
	rest    float64
	sampled time.Time
}

// newPace makes a pace; perSecond is how many rows may be written; 0: any number. It begins as if users were at work:
// the first look shows whether they are, and comes too late for those whom a Job has come upon.
func newPace(perSecond float64, usersAtWork func(context.Context) (int, error)) *pace {
	p := &pace{usersAtWork: usersAtWork, turn: make(chan struct{}, 1)}
	p.busy.Store(usersAtWork != nil)
	if perSecond > 0 {
		p.limit = rate.NewLimiter(rate.Limit(perSecond), max(1, int(min(perSecond, rowBatch))))
	}
	return p
}

// usersAtWork is what a pace asks the database, or nothing when the work is urgent.
func usersAtWork(db userCounter, urgent bool) func(context.Context) (int, error) {
	if urgent {
		return nil
	}
	return func(ctx context.Context) (int, error) { return db.UsersAtWork(ctx, recently) }
}

// throttle is the pace of one worker. One goroutine uses it.
type throttle struct {
	*pace
	// resumed is when the work began that the next pause is for, and begun says that begin has set it.
	resumed time.Time
	begun   bool
	// hasTurn says that the worker has the turn.
	hasTurn bool
}

// throttle begins with work that starts now.
func (p *pace) throttle() *throttle { return &throttle{pace: p, resumed: time.Now()} }

// batch is how many rows are to be written in one transaction.
func (p *pace) batchSize() int { return p.limited(rowBatch, busyBatch) }

// keyPage is how many keys are to be given to the key provider in one call, and to be written in one transaction.
func (p *pace) keyPageSize() int { return p.limited(keyPage, busyKeys) }

// limited is n, or what is polite while users are at work, and no more than the brake lets through in a second, so that
// a low limit makes small steps rather than long stops.
func (p *pace) limited(n, polite int) int {
	if p.busy.Load() {
		n = polite
	}
	if p.limit != nil {
		n = min(n, p.limit.Burst())
	}
	return n
}

// owners is how many of n owners are to have their turn at once.
func (p *pace) ownersPerPage(n int) int {
	if p.busy.Load() {
		return busyKeys
	}
	return n
}

// keys is how many keys are to be deleted in one transaction.
func (p *pace) keysPerDelete() int {
	if p.busy.Load() {
		return 1
	}
	return keyBatch
}

// begin says that work begins now: what went by since the last pause was waiting. Beside users the worker first waits for
// its turn; it must not wait for another worker before it pauses or ends. Until then, to begin again does nothing. Error:
// that of ctx.
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

// end gives the turn to the next worker.
func (s *throttle) end() {
	s.begun = false
	if s.hasTurn {
		<-s.turn
		s.hasTurn = false
	}
}

// pause follows a transaction that wrote so many rows. Error: that of ctx, or of the look whether users are at work.
func (s *throttle) pause(ctx context.Context, rows int) error {
	worked := time.Since(s.resumed)
	if err := s.takeTurn(ctx); err != nil {
		return err
	}
	defer s.end()
	// Who had to wait for others, most of which was their rest, has rested with them: all have come upon users at once.
	if err := s.yield(ctx, worked, time.Since(s.resumed)-worked); err != nil {
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

// yield rests in proportion to the work and to how many users are at work, less what was rested already.
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
			return fmt.Errorf("look whether users are at work: %w", err)
		default:
			p.rest = min(float64(users)*restPerSession, maxRest)
		}
		p.sampled = now
		p.busy.Store(users > 0)
	}
	return sleep(ctx, min(time.Duration(float64(worked)*p.rest), longestRest)-rested)
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
