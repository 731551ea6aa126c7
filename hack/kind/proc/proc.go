// Package proc runs other programs. A cancelled run leaves none of them behind, and the error of a
// failed one has its output.
package proc

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"
)

// grace is how long a cancelled program may take to end.
const grace = 10 * time.Second

// tail is how many of its last lines are in the error of a failed program.
const tail = 15

// longest bounds the command line in an error.
const longest = 160

// Cmd is a program to run.
type Cmd struct {
	Name  string
	Args  []string
	Env   []string // added to this process's environment; later entries take precedence
	Dir   string
	Stdin io.Reader
	Tee   io.Writer // also receives all output at once
}

// New returns a Cmd without additional environment or input.
func New(name string, args ...string) *Cmd { return &Cmd{Name: name, Args: args} }

// WithEnv adds environment entries of the form KEY=value.
func (c *Cmd) WithEnv(env ...string) *Cmd { c.Env = append(c.Env, env...); return c }

// WithStdin sets the program's standard input.
func (c *Cmd) WithStdin(r io.Reader) *Cmd { c.Stdin = r; return c }

// In sets the working directory.
func (c *Cmd) In(dir string) *Cmd { c.Dir = dir; return c }

// Run runs the program and discards its output unless it fails.
func (c *Cmd) Run(ctx context.Context) error {
	_, err := c.Output(ctx)
	return err
}

// Output runs the program and returns its standard output, without the trailing newline.
func (c *Cmd) Output(ctx context.Context) (string, error) {
	var stdout, all bytes.Buffer
	cmd := c.Exec(ctx)
	outs, errs := []io.Writer{&stdout, &all}, []io.Writer{&all}
	if c.Tee != nil {
		outs, errs = append(outs, c.Tee), append(errs, c.Tee)
	}
	cmd.Stdout, cmd.Stderr = io.MultiWriter(outs...), io.MultiWriter(errs...)
	if err := cmd.Run(); err != nil {
		return "", c.explain(ctx, err, all.String())
	}
	return strings.TrimRight(stdout.String(), "\n"), nil
}

// Exec returns the command. Its cancellation reaches the program's children, too. Each program has
// a process group of its own, so that Ctrl-C reaches this process only, which then cancels.
func (c *Cmd) Exec(ctx context.Context) *exec.Cmd {
	cmd := exec.CommandContext(ctx, c.Name, c.Args...)
	cmd.Dir, cmd.Stdin = c.Dir, c.Stdin
	cmd.Env = append(os.Environ(), c.Env...)
	// The program also ends if this process is killed.
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGTERM}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGTERM) }
	cmd.WaitDelay = grace
	return cmd
}

func (c *Cmd) explain(ctx context.Context, err error, output string) error {
	if ctx.Err() != nil {
		return fmt.Errorf("%s: %w", filepath.Base(c.Name), context.Cause(ctx))
	}
	if errors.Is(err, exec.ErrNotFound) {
		return fmt.Errorf("%s is not installed: %w", c.Name, err)
	}
	return fmt.Errorf("%s: %w%s", c, err, lastLines(output))
}

// String returns the command line, shortened for errors.
func (c *Cmd) String() string {
	s := strings.Join(append([]string{filepath.Base(c.Name)}, c.Args...), " ")
	if len(s) > longest {
		s = s[:longest] + "..."
	}
	return s
}

func lastLines(output string) string {
	lines := strings.Split(strings.TrimSpace(output), "\n")
	if len(lines) == 1 && lines[0] == "" {
		return ""
	}
	if len(lines) > tail {
		lines = lines[len(lines)-tail:]
	}
	return "\n      " + strings.Join(lines, "\n      ")
}
