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

// Options are the options of a load. Every number is a limit.
type Options struct {
	// Replicas are the replicas that the users call.
	Replicas []*notesclient.Client
	// Seed decides what the users do, but not when, because that depends on the service's answers.
	Seed uint64
	// Users is the number of users, each with a writer, a reader, and up to Notes notes at a time.
	Users, Notes int
	// Newcomers is how many clients repeatedly register, write a note and read it, until there are
	// MaxAccounts accounts.
	Newcomers, MaxAccounts int
	// Pause is the time between two requests of a writer or reader.
	Pause time.Duration
	// SessionsEnd allows sessions to end during the load: then users sign in again.
	SessionsEnd bool
}

// maxViolations is how many violations are kept; further ones are only counted.
const maxViolations = 20

// Load is a number of users who write and read notes.
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

// Start signs in the users and starts them. It returns an error if one of them cannot sign in.
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

// repeat calls do in a new goroutine until the load ends.
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

// End stops the users and waits until their requests have ended. It can be called twice.
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

// Check ends the load and reads every note from every replica, which must all run. It returns an
// error if a request was not answered in time. Impossible results are added to the Violations.
func (l *Load) Check(ctx context.Context) error {
	l.End()
	for _, u := range append(l.users, l.newcomers...) {
		if err := u.check(ctx); err != nil {
			return err
		}
	}
	return nil
}

// Violations returns the results that are impossible if no write was lost or undone: at most 20 of
// them, and their total number.
func (l *Load) Violations() (kept []string, all int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return append([]string(nil), l.violations...), l.violated
}

// Unanswered returns how many writes and reads had no conclusive answer so far.
func (l *Load) Unanswered() int64 { return l.unknowns.Load() + l.unanswered.Load() }

// String summarizes the load.
func (l *Load) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return fmt.Sprintf("%d writes, %d of them without a conclusive answer; %d reads, %d unanswered; %d accounts; %d sessions",
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

// newcomer registers an account and writes its first note.
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
