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

// tally is a store that knows only how much is stored, and whether the session lives.
type tally struct {
	Store
	stored, counts atomic.Int64
	ended          atomic.Bool
	// counting, when it is not nil, is called while a count is under way.
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

// create is a write of one note that succeeds, if there is room.
func create(t *testing.T, q *quota, s *tally) error {
	t.Helper()
	reserved, err := q.reserve(t.Context(), alice, one)
	if err == nil {
		s.stored.Add(1)
		reserved.release()
	}
	return err
}

// TestQuotaIsCountedOnceAMinute: writes of a user who has room need no count, but once in a minute.
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

// TestQuotaHoldsForConcurrentWrites: of many at once as many are let through as there is room for,
// also while counts are slow, and while writes fail and give back what they had reserved.
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
					var full *QuotaError
					switch {
					case errors.As(err, &full):
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

// TestQuotaCountsWhatIsUnderWay: a write that a count does not see, because it is committed later,
// is not forgotten.
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
	var full *QuotaError
	clock = clock.Add(countTTL)
	if err := create(t, q, s); !errors.As(err, &full) {
		t.Errorf("a third: %v", err)
	}
	reserved.unused()
	reserved.release()
	clock = clock.Add(countTTL)
	if err := create(t, q, s); err != nil {
		t.Errorf("after the first has failed: %v", err)
	}
}

// TestQuotaIsRefusedOnAFreshCount: what was deleted, here or by another replica, before the call
// makes room at once.
func TestQuotaIsRefusedOnAFreshCount(t *testing.T) {
	t.Parallel()
	s := &tally{}
	q := newQuota(s, Usage{Notes: 1, Bytes: 1 << 20})
	var full *QuotaError
	if err := create(t, q, s); err != nil {
		t.Fatal(err)
	}
	if err := create(t, q, s); !errors.As(err, &full) || full.Message != "You have 1 notes, and the limit is 1; delete some first" {
		t.Errorf("a second note: %v", err)
	}
	s.stored.Store(0)
	if err := create(t, q, s); err != nil {
		t.Errorf("right after the deletion: %v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := q.reserve(ctx, alice, one); !errors.Is(err, context.Canceled) {
		t.Errorf("of a client that is gone: %v", err)
	}
}

// TestQuotaIsCountedSeldom: however often a user asks beyond the quota, counts take a tenth of the
// time at the most.
func TestQuotaIsCountedSeldom(t *testing.T) {
	s := &tally{}
	s.stored.Store(1)
	q := newQuota(s, Usage{Notes: 1, Bytes: 1 << 20})
	clock := time.Now()
	q.now = func() time.Time { return clock }
	for takes, want := range map[time.Duration]time.Duration{0: countInterval, 10 * time.Millisecond: countInterval, 10 * time.Second: 100 * time.Second} {
		s.counting = func() { clock = clock.Add(takes) }
		clock = clock.Add(countTTL)
		var full *QuotaError
		if _, err := q.reserve(t.Context(), alice, one); !errors.As(err, &full) {
			t.Errorf("beyond the quota: %v", err)
		}
		if got := q.counts[alice.Owner].interval; got != want {
			t.Errorf("a count of %s: the next one after %s, want %s", takes, got, want)
		}
	}
}

// TestQuotaTellsLiveSessionsOnly: the token of an ended session does not tell how many notes there
// are.
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

// TestQuotaForgetsIdleOwners: however many users write, memory for their counts is bounded, and a
// write that is under way is not forgotten.
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
	var full *QuotaError
	if _, err := q.reserve(t.Context(), alice, one); !errors.As(err, &full) {
		t.Errorf("the write under way was forgotten: %v", err)
	}
	busy.release()
}
