package store_test

import (
	"sync"
	"testing"
	"time"

	"github.com/ulule/limiter/v3"

	"github.com/securenotes/securenotes/app/internal/storetest"
)

// TestLimitsHoldOverReplicas counts through two pools, like two replicas.
func TestLimitsHoldOverReplicas(t *testing.T) {
	storetest.Each(t, func(t *testing.T, open storetest.Open) {
		rate := limiter.Rate{Period: time.Minute, Limit: 50}
		var replicas sync.WaitGroup
		for range 2 {
			limits := open(t).Limits()
			replicas.Go(func() {
				for range 25 {
					if _, err := limits.Increment(ctx, "k", 1, rate); err != nil {
						t.Error(err)
					}
				}
			})
		}
		replicas.Wait()
		limits := open(t).Limits()
		if state, err := limits.Peek(ctx, "k", rate); err != nil || state.Remaining != 0 || state.Reached {
			t.Errorf("after 50 of 50: %+v, %v", state, err)
		}
		if state, err := limits.Get(ctx, "k", rate); err != nil || !state.Reached {
			t.Errorf("the count after that: %+v, %v", state, err)
		}
		if state, err := limits.Peek(ctx, "other", rate); err != nil || state.Remaining != 50 {
			t.Errorf("another key: %+v, %v", state, err)
		}
		if _, err := limits.Reset(ctx, "k", rate); err != nil {
			t.Error(err)
		}
		if state, err := limits.Peek(ctx, "k", rate); err != nil || state.Remaining != 50 {
			t.Errorf("after a reset: %+v, %v", state, err)
		}
	})
}

func TestLimitsBeginAgainAfterTheirPeriod(t *testing.T) {
	storetest.Each(t, func(t *testing.T, open storetest.Open) {
		limits := open(t).Limits()
		ended := limiter.Rate{Period: -time.Minute, Limit: 1} // a period that has ended when it begins
		if _, err := limits.Increment(ctx, "k", 1, ended); err != nil {
			t.Fatal(err)
		}
		rate := limiter.Rate{Period: time.Minute, Limit: 1}
		if state, err := limits.Peek(ctx, "k", rate); err != nil || state.Remaining != 1 {
			t.Errorf("peek: %+v, %v", state, err)
		}
		if n, err := limits.DeleteExpired(ctx, 10); n != 1 || err != nil {
			t.Errorf("deleted %d, %v", n, err)
		}
		if _, err := limits.Increment(ctx, "k", 1, ended); err != nil {
			t.Fatal(err)
		}
		if state, err := limits.Increment(ctx, "k", 1, rate); err != nil || state.Remaining != 0 || state.Reached {
			t.Errorf("the first of the new period: %+v, %v", state, err)
		}
	})
}
