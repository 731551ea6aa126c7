package testrun

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os/exec"
	"strings"

	"github.com/securenotes/securenotes/hack/kind/console"
	"github.com/securenotes/securenotes/hack/kind/proc"
)

// Suite is one run of `go test`.
type Suite struct {
	Name  string
	Dir   string // of the module
	Args  []string
	Env   []string
	Tests bool // print every finished test, not only every finished package
}

// Result is the result of a suite.
type Result struct {
	Suite    string
	Counts   Counts
	Failures []Failure
}

// Run runs the suite and prints its progress. Failed tests are a result, not an error.
func (s Suite) Run(ctx context.Context, say *console.Console) (Result, error) {
	c := newCollector(func(p Progress) { s.show(say, p) })
	cmd := proc.New("go", append([]string{"test", "-json"}, s.Args...)...).In(s.Dir).
		WithEnv(goEnv()...).WithEnv(s.Env...).Exec(ctx)
	var complaints bytes.Buffer
	cmd.Stderr = &complaints
	out, err := cmd.StdoutPipe()
	if err != nil {
		return Result{}, err
	}
	if err := cmd.Start(); err != nil {
		return Result{}, err
	}
	stray, readErr := c.read(out)
	if readErr != nil {
		_, _ = io.Copy(io.Discard, out) // go must not block on a full pipe
	}
	waitErr := cmd.Wait()
	if ctx.Err() != nil {
		return Result{}, context.Cause(ctx)
	}
	if readErr != nil {
		return Result{}, fmt.Errorf("read the results of %s: %w", s.Name, readErr)
	}
	r := Result{Suite: s.Name, Counts: c.total(), Failures: c.failures}
	if waitErr == nil {
		return r, nil
	}
	if _, ok := errors.AsType[*exec.ExitError](waitErr); !ok {
		return r, waitErr
	}
	if r.Counts.Failed == 0 {
		// The go command failed before any package, as with a module that does not load or a wrong
		// flag.
		r.Counts.Failed++
		r.Failures = append(r.Failures, Failure{s.Name, stray + complaints.String()})
	}
	return r, nil
}

func (s Suite) show(say *console.Console, p Progress) {
	switch {
	case p.Test == "" && p.Result == "skip": // no test files
	case p.Test == "":
		say.Say("%-4s  %s  %d passed%s  %s", p.Result, short(p.Package), p.Counts.Passed, others(p.Counts), p.Elapsed)
	case p.Result == "fail" || (s.Tests && !strings.Contains(p.Test, "/")):
		say.Say("%-4s  %s  %s", p.Result, p.Test, p.Elapsed)
	}
}

func others(c Counts) string {
	s := ""
	if c.Failed > 0 {
		s += fmt.Sprintf(", %d failed", c.Failed)
	}
	if c.Skipped > 0 {
		s += fmt.Sprintf(", %d skipped", c.Skipped)
	}
	return s
}

func short(pkg string) string {
	return strings.TrimPrefix(pkg, "github.com/securenotes/securenotes/")
}
