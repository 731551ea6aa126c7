// Package console prints the steps of a run and their times, one line for each, for terminals and
// CI logs.
package console

import (
	"context"
	"fmt"
	"io"
	"slices"
	"sync"
	"time"
)

// heartbeat is how often a long step prints a sign of life.
const heartbeat = 30 * time.Second

// Console writes the progress of one run. It is safe for concurrent use.
type Console struct {
	mu    sync.Mutex
	out   io.Writer
	start time.Time
	steps []timing
}

// timing is the time of a finished step.
type timing struct {
	title string
	took  time.Duration
}

// New returns a Console. The run starts now.
func New(out io.Writer) *Console {
	return &Console{out: out, start: time.Now()}
}

// Elapsed returns the rounded time since the start of the run.
func (c *Console) Elapsed() time.Duration { return round(time.Since(c.start)) }

// Say prints one indented line of detail.
func (c *Console) Say(format string, args ...any) { c.line("    "+format, args...) }

// Title prints one line without indentation.
func (c *Console) Title(format string, args ...any) { c.line(format, args...) }

// Step runs work and prints its title, its time, and the short note that it returns.
func (c *Console) Step(ctx context.Context, title string, work func(context.Context) (note string, err error)) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	start := time.Now()
	c.line("==> %s", title)
	stop := c.beat(title, start)
	note, err := work(ctx)
	stop()
	c.keep(title, time.Since(start))
	if err != nil {
		c.line("    failed after %s", round(time.Since(start)))
		return fmt.Errorf("%s: %w", title, err)
	}
	if note != "" {
		note = ": " + note
	}
	c.line("    done in %s%s", round(time.Since(start)), note)
	return nil
}

// Table prints the finished steps that took at least the given time, and the time of the whole run.
func (c *Console) Table(least time.Duration) {
	c.mu.Lock()
	steps := slices.Clone(c.steps)
	c.mu.Unlock()
	c.Title("\nSteps of %s or more:", least)
	for _, s := range steps {
		if s.took >= least {
			c.Say("%7s  %s", round(s.took), s.title)
		}
	}
	c.Say("%7s  all", c.Elapsed())
}

func (c *Console) keep(title string, took time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.steps = append(c.steps, timing{title, took})
}

// beat prints a sign of life until stop is called.
func (c *Console) beat(title string, start time.Time) (stop func()) {
	done := make(chan struct{})
	var finished sync.WaitGroup
	finished.Go(func() {
		t := time.NewTicker(heartbeat)
		defer t.Stop()
		for {
			select {
			case <-done:
				return
			case <-t.C:
				c.Say("... %s, %s so far", title, round(time.Since(start)))
			}
		}
	})
	return func() { close(done); finished.Wait() }
}

func (c *Console) line(format string, args ...any) {
	c.mu.Lock()
	defer c.mu.Unlock()
	// The work continues if progress cannot be printed.
	_, _ = fmt.Fprintf(c.out, format+"\n", args...)
}

// Write prints the output of another program.
func (c *Console) Write(p []byte) (int, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.out.Write(p)
}

func round(d time.Duration) time.Duration {
	if d < 10*time.Second {
		return d.Round(100 * time.Millisecond)
	}
	return d.Round(time.Second)
}
