package reencrypt

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"
)

// sessions is a database in which so many are at work.
func sessions(n int) func(context.Context) (int, error) {
	return func(context.Context) (int, error) { return n, nil }
}

// elapsed is how long the clock of the test says that do takes.
func elapsed(do func()) time.Duration {
	begun := time.Now()
	do()
	return time.Since(begun)
}

// TestBrake: whatever the limit and the batches, the rows are written at that speed and not in long stops.
func TestBrake(t *testing.T) {
	for name, tc := range map[string]struct {
		perSecond float64
		rows      int
		batch     int
		took      time.Duration
	}{
		"less than a row a second": {0.5, 30, 1, time.Minute},
		"a share of a small limit": {10.0 / 3, 200, 3, time.Minute},
		"a limit below a batch":    {10, 600, 10, time.Minute},
		"a limit above a batch":    {1000, 60_000, rowBatch, time.Minute},
		"the highest":              {1_000_000, 60_000_000, rowBatch, time.Minute},
		"none":                     {0, 60_000_000, rowBatch, 0},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				p := newPace(tc.perSecond, nil).stride()
				if batch := p.batch(); batch != tc.batch {
					t.Errorf("batches of %d, want %d", batch, tc.batch)
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
				// The first batch is free.
				if slack := 2*time.Second + tc.took/50; took > tc.took+slack || took < tc.took-slack {
					t.Errorf("%d rows took %s, want %s", tc.rows, took, tc.took)
				}
				if longest > 2*time.Second {
					t.Errorf("a stop of %s", longest)
				}
			})
		})
	}
}

// TestBatchAboveTheLimit: rows that came together, such as a batch that was read under another limit, are let
// through, only later.
func TestBatchAboveTheLimit(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPace(10, nil).stride()
		took := elapsed(func() {
			if err := p.pause(t.Context(), 100); err != nil {
				t.Fatal(err)
			}
		})
		if took != 9*time.Second { // ten are free at the beginning
			t.Errorf("100 rows at 10 a second took %s", took)
		}
	})
}

// TestMakingWay: how much of its time a Job works, by how many users are at work.
func TestMakingWay(t *testing.T) {
	unsupported := func(context.Context) (int, error) { return 0, errors.ErrUnsupported }
	for name, tc := range map[string]struct {
		users func(context.Context) (int, error)
		works float64
	}{
		"nobody":           {sessions(0), 1},
		"an urgent Job":    {nil, 1},
		"one":              {sessions(1), 0.05},
		"many":             {sessions(1000), 0.05},
		"one now and then": {oneIn(20), 1.0 / 5},
		"nobody can say":   {unsupported, 0.5},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				p := newPace(0, tc.users).stride()
				work := func(batches int) {
					for range batches {
						time.Sleep(sampleInterval)
						if err := p.pause(t.Context(), rowBatch); err != nil {
							t.Fatal(err)
						}
					}
				}
				work(200) // until the average has settled
				took := elapsed(func() { work(200) })
				if works := 200 * sampleInterval.Seconds() / took.Seconds(); works < tc.works*0.95 || works > tc.works*1.05 {
					t.Errorf("it works %.0f %% of the time, want %.0f %%", works*100, tc.works*100)
				}
			})
		})
	}
}

// oneIn is a session that every n-th look finds at work.
func oneIn(n int) func(context.Context) (int, error) {
	looks := 0
	return func(context.Context) (int, error) {
		if looks++; looks%n == 0 {
			return 1, nil
		}
		return 0, nil
	}
}

// TestWaitingIsNotWork: a Job that waited for Vault does not rest for that.
func TestWaitingIsNotWork(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPace(0, sessions(1000)).stride()
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

// TestLooksAreFew: short transactions are not each followed by a question to the database.
func TestLooksAreFew(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		looks := 0
		p := newPace(0, func(context.Context) (int, error) { looks++; return 0, nil }).stride()
		took := elapsed(func() {
			for range 1000 {
				time.Sleep(time.Millisecond)
				if err := p.pause(t.Context(), 1); err != nil {
					t.Fatal(err)
				}
			}
		})
		if most := int(took / sampleInterval); looks == 0 || looks > most+1 {
			t.Errorf("%d looks in %s", looks, took)
		}
	})
}

// TestBeginningIsPolite: until a Job knows better it works as beside users, and then does not hold back any more.
func TestBeginningIsPolite(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPace(0, sessions(0)).stride()
		if batch := p.batch(); batch != politeBatch {
			t.Errorf("the first batch is of %d", batch)
		}
		took := elapsed(func() {
			for p.batch() != rowBatch {
				time.Sleep(time.Millisecond)
				if err := p.pause(t.Context(), politeBatch); err != nil {
					t.Fatal(err)
				}
			}
		})
		if took > 2*time.Second {
			t.Errorf("it held back for %s", took)
		}
	})
}

// TestRestAndBrakeAreOne: what a Job rested counts for the brake, too.
func TestRestAndBrakeAreOne(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPace(1, func(context.Context) (int, error) { return 0, errors.ErrUnsupported }).stride()
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

// TestPauseEnds: a Job that is told to stop does not wait, and one whose database is away says so.
func TestPauseEnds(t *testing.T) {
	away := errors.New("away")
	for name, tc := range map[string]struct {
		pace func() *pace
		want error
	}{
		"in the brake":    {func() *pace { return newPace(0.001, nil) }, context.Canceled},
		"while it rests":  {func() *pace { return newPace(0, sessions(1000)) }, context.Canceled},
		"without reason":  {func() *pace { return newPace(0, sessions(0)) }, context.Canceled},
		"database's away": {func() *pace { return newPace(0, func(context.Context) (int, error) { return 0, away }) }, away},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				ctx, cancel := context.WithCancel(t.Context())
				p := tc.pace().stride()
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
