package batch_test

import (
	"context"
	"errors"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/securenotes/securenotes/app/internal/batch"
)

// recorder doubles its inputs, fails odd ones, and can block.
type recorder struct {
	mu    sync.Mutex
	sizes []int
	began chan struct{}
	gate  chan struct{}
}

var errOdd = errors.New("odd")

func (r *recorder) do(_ context.Context, in []int) []batch.Result[int] {
	r.mu.Lock()
	r.sizes = append(r.sizes, len(in))
	r.mu.Unlock()
	r.began <- struct{}{}
	<-r.gate
	results := make([]batch.Result[int], len(in))
	for i, n := range in {
		if results[i].Value = 2 * n; n%2 == 1 {
			results[i].Err = errOdd
		}
	}
	return results
}

func newRecorder() *recorder {
	return &recorder{began: make(chan struct{}, 1000), gate: make(chan struct{})}
}

func TestCallsAreJoined(t *testing.T) {
	r := newRecorder()
	g := batch.New(batch.Options{Most: 10, Parallel: 1, Timeout: time.Minute}, nil, r.do)
	var callers sync.WaitGroup
	call := func(n int) {
		got, err := g.Do(context.Background(), n)
		if got != 2*n || errors.Is(err, errOdd) != (n%2 == 1) {
			t.Errorf("Do(%d) = %d, %v", n, got, err)
		}
	}
	callers.Go(func() { call(0) })
	<-r.began // one call is under way; the others wait
	for n := 1; n <= 25; n++ {
		callers.Go(func() { call(n) })
	}
	for g.Waiting() < 25 {
		time.Sleep(time.Millisecond)
	}
	close(r.gate)
	callers.Wait()
	total, most := 0, 0
	for _, size := range r.sizes {
		total, most = total+size, max(most, size)
	}
	if total != 26 || most != 10 || len(r.sizes) != 4 {
		t.Errorf("joined calls of %v, want 26 in 4, at most 10 each", r.sizes)
	}
}

func TestWeightIsBounded(t *testing.T) {
	r := newRecorder()
	g := batch.New(batch.Options{Most: 10, MostWeight: 100, Parallel: 1, Timeout: time.Minute}, func(n int) int { return n }, r.do)
	var callers sync.WaitGroup
	call := func(n int) {
		if got, err := g.Do(context.Background(), n); got != 2*n || err != nil {
			t.Errorf("Do(%d) = %d, %v", n, got, err)
		}
	}
	callers.Go(func() { call(2) })
	<-r.began
	for i, n := range []int{40, 40, 40, 200, 10, 10} {
		callers.Go(func() { call(n) })
		for g.Waiting() <= i { // in this order
			time.Sleep(time.Millisecond)
		}
	}
	close(r.gate)
	callers.Wait()
	if want := []int{1, 2, 1, 1, 2}; !slices.Equal(r.sizes, want) {
		t.Errorf("joined calls of %v, want %v", r.sizes, want)
	}
}

func TestPanicIsAnError(t *testing.T) {
	panics := true
	g := batch.New(batch.Options{Most: 10, Parallel: 1, Timeout: time.Minute}, nil, func(_ context.Context, in []int) []batch.Result[int] {
		if panics {
			panic("a secret")
		}
		return make([]batch.Result[int], len(in))
	})
	_, err := g.Do(context.Background(), 1)
	failure, ok := errors.AsType[*batch.PanicError](err)
	if !ok || failure.Type != "string" || strings.Contains(err.Error(), "a secret") || !strings.Contains(failure.Stack, "TestPanicIsAnError") {
		t.Errorf("error %v", err)
	}
	panics = false
	if _, err := g.Do(context.Background(), 1); err != nil {
		t.Errorf("after a panic: %v", err)
	}
}

func TestCallerThatGoesDoesNotEndTheOthers(t *testing.T) {
	r := newRecorder()
	g := batch.New(batch.Options{Most: 10, Parallel: 1, Timeout: time.Minute}, nil, r.do)
	ctx, cancel := context.WithCancel(context.Background())
	var callers sync.WaitGroup
	callers.Go(func() {
		if _, err := g.Do(ctx, 2); !errors.Is(err, context.Canceled) {
			t.Errorf("the cancelled caller: %v", err)
		}
	})
	<-r.began
	callers.Go(func() {
		if got, err := g.Do(context.Background(), 4); got != 8 || err != nil {
			t.Errorf("the other caller: %d, %v", got, err)
		}
	})
	gone, hangUp := context.WithCancel(context.Background())
	callers.Go(func() {
		if _, err := g.Do(gone, 6); !errors.Is(err, context.Canceled) {
			t.Errorf("the caller that was cancelled while waiting: %v", err)
		}
	})
	for g.Waiting() < 2 {
		time.Sleep(time.Millisecond)
	}
	cancel()
	hangUp()
	for g.Waiting() > 1 { // a cancelled call is removed from the queue
		time.Sleep(time.Millisecond)
	}
	close(r.gate)
	callers.Wait()
	if len(r.sizes) > 2 {
		t.Errorf("joined calls of %v", r.sizes)
	}
}

// TestLeaderThatGoesDoesNotEndTheJoinedCall cancels the first caller of a joined call, from whose
// context the call has its values.
func TestLeaderThatGoesDoesNotEndTheJoinedCall(t *testing.T) {
	began, goOn := make(chan int), make(chan struct{})
	g := batch.New(batch.Options{Most: 10, Parallel: 1, Timeout: time.Minute}, nil, func(ctx context.Context, in []int) []batch.Result[int] {
		began <- len(in)
		<-goOn
		results := make([]batch.Result[int], len(in))
		for i := range in {
			results[i] = batch.Result[int]{Value: in[i], Err: ctx.Err()}
		}
		return results
	})
	var callers sync.WaitGroup
	call := func(ctx context.Context, n int, want error) {
		callers.Go(func() {
			if _, err := g.Do(ctx, n); !errors.Is(err, want) {
				t.Errorf("call %d: %v, want %v", n, err, want)
			}
		})
	}
	call(context.Background(), 0, nil)
	<-began
	leader, leave := context.WithCancel(context.Background())
	call(leader, 1, context.Canceled)
	for g.Waiting() < 1 {
		time.Sleep(time.Millisecond)
	}
	call(context.Background(), 2, nil)
	for g.Waiting() < 2 {
		time.Sleep(time.Millisecond)
	}
	goOn <- struct{}{}
	if n := <-began; n != 2 {
		t.Fatalf("%d calls were joined, want 2", n)
	}
	leave()
	goOn <- struct{}{}
	callers.Wait()
}
