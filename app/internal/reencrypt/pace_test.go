package reencrypt

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

// sessions returns a count of n users at work.
func sessions(n int) func(context.Context) (int, error) {
	return func(context.Context) (int, error) { return n, nil }
}

// elapsed returns how long do takes by the test's clock.
func elapsed(do func()) time.Duration {
	begun := time.Now()
	do()
	return time.Since(begun)
}

// TestBrake checks that rows are written at the limit, whatever it and the batch size are, and
// without long stops.
func TestBrake(t *testing.T) {
	for name, tc := range map[string]struct {
		perSecond float64
		rows      int
		batch     int
		took      time.Duration
	}{
		"less than a row a second": {perSecond: 0.5, rows: 30, batch: 1, took: time.Minute},
		"a share of a small limit": {perSecond: 10.0 / 3, rows: 200, batch: 3, took: time.Minute},
		"a limit below a batch":    {perSecond: 10, rows: 600, batch: 10, took: time.Minute},
		"a limit above a batch":    {perSecond: 1000, rows: 60_000, batch: rowBatch, took: time.Minute},
		"the highest":              {perSecond: 1_000_000, rows: 60_000_000, batch: rowBatch, took: time.Minute},
		"none":                     {rows: 60_000_000, batch: rowBatch},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				p := newPace(tc.perSecond, nil).throttle()
				if batch := p.batchSize(); batch != tc.batch {
					t.Errorf("batches of %d rows, want %d", batch, tc.batch)
				}
				var longest time.Duration
				took := elapsed(func() {
					for left := tc.rows; left > 0; left -= tc.batch {
						longest = max(longest, elapsed(func() {
							if err := p.pause(t.Context(), tc.batch); err != nil {
								t.Fatal(err)
							}
						}))
					}
				})
				// The limiter lets the first batch through at once.
				if slack := 2*time.Second + tc.took/50; took > tc.took+slack || took < tc.took-slack {
					t.Errorf("%d rows took %s, want %s", tc.rows, took, tc.took)
				}
				if longest > 2*time.Second {
					t.Errorf("a stop of %s, want at most 2 s", longest)
				}
			})
		})
	}
}

// TestBatchAboveTheLimit checks that a batch above the limit, such as one that was read under
// another limit, is delayed but let through.
func TestBatchAboveTheLimit(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPace(10, nil).throttle()
		took := elapsed(func() {
			if err := p.pause(t.Context(), 100); err != nil {
				t.Fatal(err)
			}
		})
		if took != 9*time.Second { // the limiter lets ten through at once
			t.Errorf("100 rows at 10 a second took %s", took)
		}
	})
}

// TestMakingWay checks which part of the time a Job works, by the number of users at work.
func TestMakingWay(t *testing.T) {
	unsupported := func(context.Context) (int, error) { return 0, errors.ErrUnsupported }
	for name, tc := range map[string]struct {
		users func(context.Context) (int, error)
		works float64
	}{
		"nobody":        {users: sessions(0), works: 1},
		"an urgent Job": {works: 1},
		"one":           {users: sessions(1), works: 1.0 / 14},
		"two":           {users: sessions(2), works: 1.0 / 27},
		"many":          {users: sessions(1000), works: 1.0 / 40},
		"unknown":       {users: unsupported, works: 0.5},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				p := newPace(0, tc.users).throttle()
				const batch = 5 * time.Millisecond
				took := elapsed(func() {
					for range 1000 {
						time.Sleep(batch)
						if err := p.pause(t.Context(), rowBatch); err != nil {
							t.Fatal(err)
						}
					}
				})
				if works := 1000 * batch.Seconds() / took.Seconds(); works < tc.works*0.99 || works > tc.works*1.01 {
					t.Errorf("it works %.1f %% of the time, want %.1f %%", works*100, tc.works*100)
				}
			})
		})
	}
}

// TestUsersComeAndGo checks that a Job yields as soon as it has seen users, and only as long as it
// sees them.
func TestUsersComeAndGo(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		users := 0
		p := newPace(0, func(context.Context) (int, error) { return users, nil }).throttle()
		pause := func() time.Duration {
			time.Sleep(5 * time.Millisecond)
			return elapsed(func() {
				if err := p.pause(t.Context(), 1); err != nil {
					t.Fatal(err)
				}
			})
		}
		for range 3 {
			for _, tc := range []struct {
				users, batch int
				rest         time.Duration
			}{{batch: rowBatch}, {users: 2, batch: busyBatch, rest: 26 * 5 * time.Millisecond}} {
				users = tc.users
				time.Sleep(sampleInterval)
				pause() // counts the users
				if took := pause(); took != tc.rest || p.batchSize() != tc.batch {
					t.Errorf("with %d users at work it rested for %s, want %s, and the next batch has %d rows, want %d", users, took, tc.rest, p.batchSize(), tc.batch)
				}
			}
		}
	})
}

// TestTurns checks that one worker works at a time while users are at work, and that the others
// wait for its work and its rest. Otherwise all work.
func TestTurns(t *testing.T) {
	for name, tc := range map[string]struct {
		users int
		most  int32
		took  time.Duration
	}{"with users": {users: 1, most: 1, took: maxWorkers * 10 * 14 * 2 * time.Millisecond}, "without users": {most: maxWorkers, took: 10 * 2 * time.Millisecond}} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				p := newPace(0, sessions(tc.users))
				if err := p.throttle().pause(t.Context(), 0); err != nil { // counts the users
					t.Fatal(err)
				}
				var working, most atomic.Int32
				var all sync.WaitGroup
				begun := time.Now()
				for range maxWorkers {
					all.Go(func() {
						s := p.throttle()
						defer s.end()
						for range 10 {
							if err := s.begin(t.Context()); err != nil {
								t.Error(err)
								return
							}
							n := working.Add(1)
							for m := most.Load(); n > m && !most.CompareAndSwap(m, n); {
								m = most.Load()
							}
							time.Sleep(time.Millisecond)
							if err := s.begin(t.Context()); err != nil { // again, while it holds the turn
								t.Error(err)
							}
							time.Sleep(time.Millisecond)
							working.Add(-1)
							if err := s.pause(t.Context(), 1); err != nil {
								t.Error(err)
								return
							}
						}
					})
				}
				all.Wait()
				if most.Load() != tc.most {
					t.Errorf("%d worked at a time, want %d", most.Load(), tc.most)
				}
				if took := time.Since(begun); took != tc.took {
					t.Errorf("they worked and rested for %s, want %s", took, tc.took)
				}
			})
		})
	}
}

// TestTurnIsGivenUp checks that a worker that ends, or is cancelled while it waits for the turn,
// does not block another one.
func TestTurnIsGivenUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPace(0, sessions(1))
		first, second, third := p.throttle(), p.throttle(), p.throttle()
		if err := first.begin(t.Context()); err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		for _, wait := range []func() error{func() error { return second.begin(ctx) }, func() error { return second.pause(ctx, 1) }} {
			if err := wait(); !errors.Is(err, context.DeadlineExceeded) {
				t.Errorf("%v while another worker works", err)
			}
		}
		second.end()
		first.end()
		first.end()
		if err := third.begin(t.Context()); err != nil {
			t.Fatal(err)
		}
	})
}

// TestWaitingForAnotherIsNotWork checks that a worker does not rest for the time that it waited for
// a task or the turn.
func TestWaitingForAnotherIsNotWork(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPace(0, sessions(1))
		other, s := p.throttle(), p.throttle()
		if err := other.begin(t.Context()); err != nil {
			t.Fatal(err)
		}
		time.Sleep(10 * time.Second)
		time.AfterFunc(10*time.Second, other.end)
		if took := elapsed(func() {
			if err := s.begin(t.Context()); err != nil {
				t.Fatal(err)
			}
		}); took != 10*time.Second {
			t.Errorf("it got the turn after %s", took)
		}
		time.Sleep(10 * time.Millisecond)
		if err := s.begin(t.Context()); err != nil { // does not restart the work
			t.Fatal(err)
		}
		if took := elapsed(func() {
			if err := s.pause(t.Context(), 1); err != nil {
				t.Fatal(err)
			}
		}); took != 130*time.Millisecond {
			t.Errorf("it rested for %s", took)
		}
	})
}

// TestUsersCome checks that workers that find users at the same time rest at the same time and not
// one after another.
func TestUsersCome(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		users := 0
		p := newPace(0, func(context.Context) (int, error) { return users, nil })
		if err := p.throttle().pause(t.Context(), 0); err != nil {
			t.Fatal(err)
		}
		users = 1
		var all sync.WaitGroup
		took := elapsed(func() {
			for range maxWorkers {
				all.Go(func() {
					s := p.throttle()
					if err := s.begin(t.Context()); err != nil {
						t.Error(err)
					}
					time.Sleep(sampleInterval)
					if err := s.pause(t.Context(), 1); err != nil {
						t.Error(err)
					}
				})
			}
			all.Wait()
		})
		if took != 14*sampleInterval {
			t.Errorf("they worked and rested for %s", took)
		}
	})
}

// TestWaitingIsNotWork checks that a Job does not rest for the time that it waited for Vault.
func TestWaitingIsNotWork(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPace(0, sessions(1000)).throttle()
		time.Sleep(10 * time.Minute)
		if took := elapsed(func() {
			if err := p.pause(t.Context(), 1); err != nil {
				t.Fatal(err)
			}
		}); took != longestRest {
			t.Errorf("it rested for %s", took)
		}
	})
}

// TestLooksAreFew checks that a Job does not count the users after each short transaction.
func TestLooksAreFew(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		counts := 0
		p := newPace(0, func(context.Context) (int, error) { counts++; return 0, nil }).throttle()
		took := elapsed(func() {
			for range 1000 {
				time.Sleep(time.Millisecond)
				if err := p.pause(t.Context(), 1); err != nil {
					t.Fatal(err)
				}
			}
		})
		if most := int(took / sampleInterval); counts == 0 || counts > most+1 {
			t.Errorf("the users were counted %d times in %s", counts, took)
		}
	})
}

// TestBeginningIsPolite checks that a Job starts as if users were at work, and stops that once it
// has counted none.
func TestBeginningIsPolite(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPace(0, sessions(0)).throttle()
		if batch := p.batchSize(); batch != busyBatch {
			t.Errorf("the first batch has %d rows", batch)
		}
		took := elapsed(func() {
			for p.batchSize() != rowBatch {
				time.Sleep(time.Millisecond)
				if err := p.pause(t.Context(), busyBatch); err != nil {
					t.Fatal(err)
				}
			}
		})
		if took > 100*time.Millisecond {
			t.Errorf("it yielded for %s", took)
		}
	})
}

// TestRestAndBrakeAreOne checks that the limit takes into account how long a Job has rested.
func TestRestAndBrakeAreOne(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPace(1, func(context.Context) (int, error) { return 0, errors.ErrUnsupported }).throttle()
		took := elapsed(func() {
			for range 60 {
				time.Sleep(400 * time.Millisecond)
				if err := p.pause(t.Context(), 1); err != nil {
					t.Fatal(err)
				}
			}
		})
		if took < 59*time.Second || took > 61*time.Second {
			t.Errorf("60 rows at one a second took %s", took)
		}
	})
}

// TestPauseEnds checks that a pause ends when the Job is cancelled, and that it returns the
// database's error.
func TestPauseEnds(t *testing.T) {
	away := errors.New("away")
	for name, tc := range map[string]struct {
		pace func() *pace
		want error
	}{
		"limited":         {pace: func() *pace { return newPace(0.001, nil) }, want: context.Canceled},
		"while it rests":  {pace: func() *pace { return newPace(0, sessions(1000)) }, want: context.Canceled},
		"without reason":  {pace: func() *pace { return newPace(0, sessions(0)) }, want: context.Canceled},
		"database's away": {pace: func() *pace { return newPace(0, func(context.Context) (int, error) { return 0, away }) }, want: away},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				ctx, cancel := context.WithCancel(t.Context())
				p := tc.pace().throttle()
				time.Sleep(time.Minute)
				time.AfterFunc(time.Second, cancel)
				var err error
				took := elapsed(func() {
					for err == nil {
						err = p.pause(ctx, 2)
						time.Sleep(time.Millisecond)
					}
				})
				if !errors.Is(err, tc.want) || took > time.Second+10*time.Millisecond {
					t.Errorf("%v after %s", err, took)
				}
			})
		})
	}
}
