// Package batch joins calls that come while others are under way into one: the busier it is, the
// fewer round trips each call needs, and a call that comes alone waits for nobody.
package batch

import (
	"context"
	"fmt"
	"runtime/debug"
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
	options Options

	mu      sync.Mutex
	waiting []*call[In, Out]
	running int
}

// Options bound a Group.
type Options struct {
	// Most is how many calls are joined at the most.
	Most int
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
// inputs, in their order.
func New[In, Out any](o Options, do func(context.Context, []In) []Result[Out]) *Group[In, Out] {
	return &Group[In, Out]{do: do, options: o}
}

// Do makes one call, alone or joined with others. When ctx ends it returns at once; the call itself
// goes on, because others may be part of it.
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
		var none Out
		return none, ctx.Err()
	case result := <-c.done:
		return result.Value, result.Err
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
	for len(g.waiting) > 0 && len(calls) < g.options.Most {
		c := g.waiting[0]
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
