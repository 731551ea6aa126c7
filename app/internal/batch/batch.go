// Package batch joins calls that come while others are under way into one: the busier it is, the
// fewer round trips each call needs, and a call that comes alone waits for nobody.
package batch

import (
	"context"
	"fmt"
	"runtime/debug"
	"slices"
	"sync"
	"time"
)

// Result is the outcome of one call.
type Result[Out any] struct {
	Value Out
	Err   error
}

// Group joins calls. It is safe for concurrent use.
type Group[In, Out any] struct {
	do      func(context.Context, []In) []Result[Out]
	weigh   func(In) int
	options Options

	mu      sync.Mutex
	waiting []*call[In, Out]
	running int
}

// Options bound a Group.
type Options struct {
	// Most is how many calls are joined at the most, and MostWeight how much they weigh together; 0: no matter
	// how much. A call that weighs more than that is made alone.
	Most, MostWeight int
	// Parallel is how many joined calls are under way at the most.
	Parallel int
	// Timeout bounds each joined call.
	Timeout time.Duration
}

type call[In, Out any] struct {
	ctx  context.Context
	in   In
	done chan Result[Out]
}

// New returns a group whose joined calls are made by do, which returns a result for each of its
// inputs, in their order. weigh says what an input weighs; nil: nothing.
func New[In, Out any](o Options, weigh func(In) int, do func(context.Context, []In) []Result[Out]) *Group[In, Out] {
	if weigh == nil {
		weigh = func(In) int { return 0 }
	}
	return &Group[In, Out]{do: do, weigh: weigh, options: o}
}

// Do makes one call, alone or joined with others. When ctx ends it returns at once; a call that is under
// way then goes on, because others may be part of it.
func (g *Group[In, Out]) Do(ctx context.Context, in In) (Out, error) {
	c := &call[In, Out]{ctx: ctx, in: in, done: make(chan Result[Out], 1)}
	g.mu.Lock()
	g.waiting = append(g.waiting, c)
	if g.running < g.options.Parallel {
		g.running++
		go g.run()
	}
	g.mu.Unlock()
	select {
	case <-ctx.Done():
		g.leave(c)
		var none Out
		return none, ctx.Err()
	case result := <-c.done:
		return result.Value, result.Err
	}
}

// leave forgets a call that is not under way: what it holds must not outlive its request.
func (g *Group[In, Out]) leave(c *call[In, Out]) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if i := slices.Index(g.waiting, c); i >= 0 {
		g.waiting = slices.Delete(g.waiting, i, i+1)
	}
}

// run makes joined calls until nobody waits.
func (g *Group[In, Out]) run() {
	for {
		calls := g.next()
		if len(calls) == 0 {
			return
		}
		inputs := make([]In, len(calls))
		for i, c := range calls {
			inputs[i] = c.in
		}
		// The values of the first caller's context, such as a trace, and nobody's end.
		ctx, cancel := context.WithTimeout(context.WithoutCancel(calls[0].ctx), g.options.Timeout)
		results := g.call(ctx, inputs)
		cancel()
		for i, c := range calls {
			c.done <- results[i]
		}
	}
}

// PanicError is what the callers get when a joined call panics: it runs in no request's goroutine, so that
// nothing else would keep the process alive.
type PanicError struct {
	// Type is of the panic's value; the value itself may hold what must not be logged.
	Type string
	// Stack is where it panicked.
	Stack string
}

func (e *PanicError) Error() string { return "panic of type " + e.Type + "\n" + e.Stack }

func (g *Group[In, Out]) call(ctx context.Context, inputs []In) (results []Result[Out]) {
	defer func() {
		if value := recover(); value != nil {
			results = make([]Result[Out], len(inputs))
			for i := range results {
				results[i].Err = &PanicError{Type: fmt.Sprintf("%T", value), Stack: string(debug.Stack())}
			}
		}
	}()
	return g.do(ctx, inputs)
}

// next takes those who wait, without those who have gone; with none left, the caller is to end.
func (g *Group[In, Out]) next() []*call[In, Out] {
	g.mu.Lock()
	defer g.mu.Unlock()
	var calls []*call[In, Out]
	weight := 0
	for len(g.waiting) > 0 && len(calls) < g.options.Most {
		c := g.waiting[0]
		weight += g.weigh(c.in)
		if len(calls) > 0 && g.options.MostWeight > 0 && weight > g.options.MostWeight {
			break
		}
		g.waiting[0] = nil
		g.waiting = g.waiting[1:]
		if c.ctx.Err() == nil {
			calls = append(calls, c)
		}
	}
	if len(calls) == 0 {
		g.running--
	}
	return calls
}

// Waiting is how many calls are not under way yet.
func (g *Group[In, Out]) Waiting() int {
	g.mu.Lock()
	defer g.mu.Unlock()
	return len(g.waiting)
}
