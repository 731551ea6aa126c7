package notes

import (
	"context"
	"errors"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/securenotes/securenotes/app/internal/envelope"
	"github.com/securenotes/securenotes/app/internal/sessions"
)

// tally is a store that only counts notes and knows whether the session is live.
type tally struct {
	Store
	stored, counts atomic.Int64
	ended          atomic.Bool
	// counting, if it is not nil, is called during a count.
	counting func()
}

func (s *tally) Usage(context.Context, sessions.Identity, time.Time) (Usage, error) {
	s.counts.Add(1)
	if s.ended.Load() {
		return Usage{}, sessions.ErrInvalid
	}
	stored := s.stored.Load()
	if s.counting != nil {
		s.counting()
	}
	return Usage{Notes: stored, Bytes: 10 * stored}, nil
}

func (s *tally) ActiveKey(context.Context, sessions.Identity, time.Time) (envelope.StoredKey, error) {
	if s.ended.Load() {
		return envelope.StoredKey{}, sessions.ErrInvalid
	}
	return envelope.StoredKey{}, nil
}

var (
	alice = sessions.Identity{Owner: "alice", Session: "s"}
	one   = Usage{Notes: 1, Bytes: 10}
)

// create writes one note if the quota allows it.
func create(t *testing.T, q *quota, s *tally) error {
	t.Helper()
	reserved, err := q.reserve(t.Context(), alice, one)
	if err == nil {
		s.stored.Add(1)
		reserved.release()
	}
	return err
}

func isExceeded(err error) bool {
	_, ok := errors.AsType[*QuotaError](err)
	return ok
}

// TestQuotaIsCountedOnceAMinute: writes of a user below the quota need only one count a minute.
func TestQuotaIsCountedOnceAMinute(t *testing.T) {
	s := &tally{}
	q := newQuota(s, Usage{Notes: 1000, Bytes: 1 << 20})
	clock := time.Now()
	q.now = func() time.Time { return clock }
	for minute := range int64(3) {
		for range 100 {
			if err := create(t, q, s); err != nil {
				t.Fatal(err)
			}
		}
		if got, want := s.counts.Load(), minute+1; got != want {
			t.Errorf("%d counts after minute %d, want %d", got, minute, want)
		}
		clock = clock.Add(countTTL)
	}
}

// TestQuotaHoldsForConcurrentWrites: of parallel writes, as many succeed as the quota allows, also
// while counts are slow, and while writes fail and release what they had reserved.
func TestQuotaHoldsForConcurrentWrites(t *testing.T) {
	t.Parallel()
	for name, limit := range map[string]Usage{"notes": {Notes: 10, Bytes: 1 << 20}, "bytes": {Notes: 1000, Bytes: 105}} {
		t.Run(name, func(t *testing.T) {
			s := &tally{}
			s.stored.Store(3)
			q := newQuota(s, limit)
			var refused atomic.Int64
			var writes sync.WaitGroup
			for i := range 40 {
				writes.Go(func() {
					reserved, err := q.reserve(t.Context(), alice, one)
					switch {
					case isExceeded(err):
						refused.Add(1)
					case err != nil:
						t.Error(err)
					case i%4 == 0: // it fails
						reserved.unused()
						reserved.release()
					default:
						if stored := s.stored.Add(1); stored > 10 {
							t.Errorf("%d notes are stored", stored)
						}
						reserved.release()
					}
				})
			}
			writes.Wait()
			for create(t, q, s) == nil {
				if s.stored.Load() > 10 {
					break
				}
			}
			if stored := s.stored.Load(); stored != 10 || refused.Load() == 0 {
				t.Errorf("%d notes are stored and %d refused, want 10 and some", stored, refused.Load())
			}
		})
	}
}

// TestQuotaCountsWhatIsUnderWay: a pending write that a count does not include is not forgotten.
func TestQuotaCountsWhatIsUnderWay(t *testing.T) {
	s := &tally{}
	q := newQuota(s, Usage{Notes: 2, Bytes: 1 << 20})
	clock := time.Now()
	q.now = func() time.Time { return clock }
	reserved, err := q.reserve(t.Context(), alice, one)
	if err != nil {
		t.Fatal(err)
	}
	clock = clock.Add(countTTL)
	if err := create(t, q, s); err != nil {
		t.Fatalf("the second: %v", err)
	}
	if got := s.counts.Load(); got != 2 {
		t.Fatalf("%d counts, want 2", got)
	}
	clock = clock.Add(countTTL)
	if err := create(t, q, s); !isExceeded(err) {
		t.Errorf("a third: %v", err)
	}
	reserved.unused()
	reserved.release()
	clock = clock.Add(countTTL)
	if err := create(t, q, s); err != nil {
		t.Errorf("after the first has failed: %v", err)
	}
}

// TestQuotaIsRefusedOnAFreshCount: a deletion before the call, here or by another replica, frees
// quota immediately.
func TestQuotaIsRefusedOnAFreshCount(t *testing.T) {
	t.Parallel()
	s := &tally{}
	q := newQuota(s, Usage{Notes: 1, Bytes: 1 << 20})
	if err := create(t, q, s); err != nil {
		t.Fatal(err)
	}
	if err := create(t, q, s); !isExceeded(err) || err.Error() != "You have 1 notes, and the limit is 1; delete some first" {
		t.Errorf("a second note: %v", err)
	}
	s.stored.Store(0)
	if err := create(t, q, s); err != nil {
		t.Errorf("right after the deletion: %v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := q.reserve(ctx, alice, one); !errors.Is(err, context.Canceled) {
		t.Errorf("the client is gone: %v", err)
	}
}

// TestQuotaIsCountedSeldom: however often a user writes beyond the quota, counts take at most a
// tenth of the time.
func TestQuotaIsCountedSeldom(t *testing.T) {
	s := &tally{}
	s.stored.Store(1)
	q := newQuota(s, Usage{Notes: 1, Bytes: 1 << 20})
	clock := time.Now()
	q.now = func() time.Time { return clock }
	for takes, want := range map[time.Duration]time.Duration{0: countInterval, 10 * time.Millisecond: countInterval, 10 * time.Second: 100 * time.Second} {
		s.counting = func() { clock = clock.Add(takes) }
		clock = clock.Add(countTTL)
		if _, err := q.reserve(t.Context(), alice, one); !isExceeded(err) {
			t.Errorf("beyond the quota: %v", err)
		}
		if got := q.counts[alice.Owner].interval; got != want {
			t.Errorf("a count of %s: the next one after %s, want %s", takes, got, want)
		}
	}
}

// TestQuotaTellsLiveSessionsOnly: the token of an ended session does not reveal how many notes
// there are.
func TestQuotaTellsLiveSessionsOnly(t *testing.T) {
	t.Parallel()
	s := &tally{}
	q := newQuota(s, Usage{Notes: 1, Bytes: 1 << 20})
	if err := create(t, q, s); err != nil {
		t.Fatal(err)
	}
	s.ended.Store(true)
	clock := time.Now()
	q.now = func() time.Time { return clock }
	for _, since := range []time.Duration{0, countInterval, countTTL} {
		q.counts[alice.Owner].countedAt = clock.Add(-since)
		if _, err := q.reserve(t.Context(), alice, one); !errors.Is(err, sessions.ErrInvalid) {
			t.Errorf("%s after the count: %v", since, err)
		}
	}
}

// TestQuotaForgetsIdleOwners: memory for counts is bounded however many users write, and pending
// writes are not forgotten.
func TestQuotaForgetsIdleOwners(t *testing.T) {
	q := newQuota(&tally{}, Usage{Notes: 1, Bytes: 1 << 20})
	busy, err := q.reserve(t.Context(), alice, one)
	if err != nil {
		t.Fatal(err)
	}
	for i := range maxCounts + 100 {
		reserved, err := q.reserve(t.Context(), sessions.Identity{Owner: strconv.Itoa(i)}, one)
		if err != nil {
			t.Fatal(err)
		}
		reserved.release()
	}
	if n := len(q.counts); n > maxCounts {
		t.Errorf("%d counts are kept, want at most %d", n, maxCounts)
	}
	if _, err := q.reserve(t.Context(), alice, one); !isExceeded(err) {
		t.Errorf("the pending write was forgotten: %v", err)
	}
	busy.release()
}
