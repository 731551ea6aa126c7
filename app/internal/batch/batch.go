// Package batch joins concurrent calls into one. Calls that arrive while others are under way share
// the next one, so that a busy service needs fewer round trips per call, and a single call does not
// wait.
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
	// Most is how many calls are joined at most. MostWeight bounds the sum of their weights; 0
	// means no bound. A call with a larger weight is made alone.
	Most, MostWeight int
	// Parallel is how many joined calls are under way at most.
	Parallel int
	// Timeout bounds each joined call.
	Timeout time.Duration
}

// call is one call of Do.
type call[In, Out any] struct {
	ctx  context.Context
	in   In
	done chan Result[Out]
}

// New returns a group that makes its joined calls with do, which returns a result for each input,
// in order. weigh returns the weight of an input. If it is nil every input weighs nothing.
func New[In, Out any](o Options, weigh func(In) int, do func(context.Context, []In) []Result[Out]) *Group[In, Out] {
	if weigh == nil {
		weigh = func(In) int { return 0 }
	}
	return &Group[In, Out]{do: do, weigh: weigh, options: o}
}

// Do makes one call, alone or joined with others. It returns when ctx ends. A call under way
// continues, because other callers may share it.
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

// leave removes a call that is not under way, so that its input does not outlive its request.
func (g *Group[In, Out]) leave(c *call[In, Out]) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if i := slices.Index(g.waiting, c); i >= 0 {
		g.waiting = slices.Delete(g.waiting, i, i+1)
	}
}

// run makes joined calls until no call waits.
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
		// Keep the values of the first caller's context, such as a trace, but no caller's deadline.
		ctx, cancel := context.WithTimeout(context.WithoutCancel(calls[0].ctx), g.options.Timeout)
		results := g.call(ctx, inputs)
		cancel()
		for i, c := range calls {
			c.done <- results[i]
		}
	}
}

// PanicError is what the callers get if a joined call panics. The call runs in no request's
// goroutine, so no request's handler would recover the panic.
type PanicError struct {
	// Type is the type of the panic's value. The value itself may contain secrets.
	Type string
	// Stack is the stack of the panic.
	Stack string
}

func (e *PanicError) Error() string { return "panic of type " + e.Type + "\n" + e.Stack }

// call calls do and turns a panic into the error of every input.
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

// next returns the next calls to join, without those whose context has ended. If there are none the
// caller must end.
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

// Waiting returns how many calls are not under way yet.
func (g *Group[In, Out]) Waiting() int {
	g.mu.Lock()
	defer g.mu.Unlock()
	return len(g.waiting)
}
