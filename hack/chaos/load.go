package chaos

import (
	"context"
	"fmt"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"time"

	"github.com/securenotes/securenotes/hack/notesclient"
)

// Options of a load. Every number is a bound.
type Options struct {
	// Replicas are written to and read from in turns.
	Replicas []*notesclient.Client
	// Seed decides what the users do; not when, because that is the service's answer.
	Seed uint64
	// Users have a writer and a reader each, and Notes notes at a time.
	Users, Notes int
	// Newcomers are how many register, write a note and read it, again and again, up to MaxAccounts.
	Newcomers, MaxAccounts int
	// Pause between two requests of a writer or reader.
	Pause time.Duration
	// SessionsEnd says that sessions may end during the load: then users sign in again.
	SessionsEnd bool
}

// maxViolations are kept; more are only counted.
const maxViolations = 20

// Load is users at work.
type Load struct {
	options Options
	users   []*user
	stop    chan struct{}
	done    sync.WaitGroup

	mu         sync.Mutex
	newcomers  []*user
	violations []string
	violated   int

	writes, unknowns, reads, unanswered, signIns atomic.Int64
}

// Start signs the users in and has them begin. Error: one of them cannot sign in.
func Start(ctx context.Context, o Options) (*Load, error) {
	l := &Load{options: o, stop: make(chan struct{})}
	for i := range o.Users {
		u := newUser(l, o.Seed, i)
		if err := u.register(ctx); err != nil {
			return nil, err
		}
		if err := u.signIn(ctx); err != nil {
			return nil, err
		}
		l.users = append(l.users, u)
	}
	for i, u := range l.users {
		l.repeat(u.random, u.write)
		reading := rand.New(rand.NewPCG(o.Seed, uint64(1_000_000+i)))
		l.repeat(reading, u.read)
	}
	for i := range o.Newcomers {
		random := rand.New(rand.NewPCG(o.Seed, uint64(2_000_000+i)))
		l.repeat(random, func(ctx context.Context, random *rand.Rand) { l.newcomer(ctx, random) })
	}
	return l, nil
}

// repeat does something in a goroutine of its own until the load ends.
func (l *Load) repeat(random *rand.Rand, do func(context.Context, *rand.Rand)) {
	l.done.Go(func() {
		for {
			select {
			case <-l.stop:
				return
			case <-time.After(l.options.Pause):
			}
			do(context.Background(), random)
		}
	})
}

// End stops the users and waits for what they have begun. It can be called twice.
func (l *Load) End() {
	l.mu.Lock()
	select {
	case <-l.stop:
	default:
		close(l.stop)
	}
	l.mu.Unlock()
	l.done.Wait()
}

// Check ends the load and reads every note from every replica, which must all be up. Error: a request was
// not answered in time. What cannot be true is among the Violations.
func (l *Load) Check(ctx context.Context) error {
	l.End()
	for _, u := range append(l.users, l.newcomers...) {
		if err := u.check(ctx); err != nil {
			return err
		}
	}
	return nil
}

// Violations are what cannot be if no write is ever lost or undone; at most 20 of them, and how many there are.
func (l *Load) Violations() (kept []string, all int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return append([]string(nil), l.violations...), l.violated
}

// Unanswered is how many requests had no telling answer so far, writes and reads.
func (l *Load) Unanswered() int64 { return l.unknowns.Load() + l.unanswered.Load() }

// String says how much was done.
func (l *Load) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return fmt.Sprintf("%d writes, %d of them without a telling answer; %d reads, %d unanswered; %d accounts; %d sessions",
		l.writes.Load(), l.unknowns.Load(), l.reads.Load(), l.unanswered.Load(), len(l.users)+len(l.newcomers), l.signIns.Load())
}

func (l *Load) violation(format string, args ...any) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.violated++
	if len(l.violations) < maxViolations {
		l.violations = append(l.violations, time.Now().UTC().Format("15:04:05.000 ")+fmt.Sprintf(format, args...))
	}
}

func (l *Load) replica(random *rand.Rand) *notesclient.Client {
	return l.options.Replicas[random.IntN(len(l.options.Replicas))]
}

// newcomer is an account from its registration to its first note.
func (l *Load) newcomer(ctx context.Context, random *rand.Rand) {
	l.mu.Lock()
	full := len(l.newcomers) >= l.options.MaxAccounts
	l.mu.Unlock()
	if full {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	u := &user{load: l, random: random, name: accountName(random), password: password(random)}
	if u.register(ctx) != nil || u.signIn(ctx) != nil {
		return
	}
	l.mu.Lock()
	l.newcomers = append(l.newcomers, u)
	l.mu.Unlock()
	u.begin(random)
	u.create(ctx, random)
	if len(u.notes) > 0 {
		u.readNote(ctx, random, u.notes[0])
	}
}
