package toolchain

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/securenotes/securenotes/hack/kind/internal/console"
	"github.com/securenotes/securenotes/hack/kind/internal/proc"
)

// Chain finds and builds the catalog's programs.
type Chain struct {
	say   *console.Console
	tools map[Program]resolved
	cache string
}

// New reads the pinned versions of a checkout.
func New(say *console.Console, root, cache string) (*Chain, error) {
	c := &Chain{say: say, tools: map[Program]resolved{}, cache: cache}
	for _, t := range catalog {
		r, err := resolve(root, cache, t)
		if err != nil {
			return nil, fmt.Errorf("tool %s: %w", t.Dir, err)
		}
		for name := range t.Programs {
			c.tools[Program(name)] = r
		}
	}
	return c, nil
}

// Path is where a program lies, or will once it is built.
func (c *Chain) Path(p Program) string { return filepath.Join(c.tools[p].home, string(p)) }

// Version of the module that a program is built from.
func (c *Chain) Version(p Program) string { return c.tools[p].version }

// Source is the directory of a program's module below hack/tools.
func (c *Chain) Source(p Program) string { return c.tools[p].source }

// Ensure builds those of the programs that are not in the cache yet.
func (c *Chain) Ensure(ctx context.Context, programs ...Program) (note string, err error) {
	var missing []Program
	seen := map[Program]bool{}
	for _, p := range programs {
		if seen[p] {
			continue
		}
		seen[p] = true
		if _, err := os.Stat(c.Path(p)); err != nil {
			missing = append(missing, p)
		}
	}
	for i, p := range missing {
		start := time.Now()
		c.say.Say("building %s %s (%d of %d)", p, c.Version(p), i+1, len(missing))
		if err := c.build(ctx, p); err != nil {
			return "", err
		}
		c.say.Say("built %s in %s", p, time.Since(start).Round(time.Second))
	}
	return fmt.Sprintf("%d built, %d were there (%s)", len(missing), len(seen)-len(missing), c.cache), nil
}

func (c *Chain) build(ctx context.Context, p Program) error {
	t := c.tools[p]
	if err := os.MkdirAll(t.home, 0o755); err != nil {
		return err
	}
	removeLeftovers(t.home)
	// Build beside the final name and rename: what is there is whole, whenever a run is killed.
	tmp := filepath.Join(t.home, fmt.Sprintf(".%s.%d", p, os.Getpid()))
	defer func() { _ = os.Remove(tmp) }()
	args := append([]string{"build"}, t.flags...)
	if len(t.Instead) > 0 {
		dir := tmp + ".patched"
		defer func() { _ = os.RemoveAll(dir) }()
		modfile, err := t.patched(ctx, dir)
		if err != nil {
			return fmt.Errorf("patch %s for %s: %w", t.Module, p, err)
		}
		args = append(args, "-modfile", modfile)
	}
	cmd := proc.New("go", append(args, "-o", tmp, t.Programs[string(p)])...).In(t.source).WithEnv(BuildEnv()...)
	if err := cmd.Run(ctx); err != nil {
		return fmt.Errorf("build %s from hack/tools/%s: %w", p, t.Dir, err)
	}
	return os.Rename(tmp, c.Path(p))
}

// removeLeftovers removes what builds that were killed have left: what is hidden and older than any build takes.
func removeLeftovers(home string) {
	entries, err := os.ReadDir(home)
	if err != nil {
		return
	}
	for _, entry := range entries {
		if info, err := entry.Info(); err == nil && strings.HasPrefix(entry.Name(), ".") && time.Since(info.ModTime()) > 2*time.Hour {
			_ = os.RemoveAll(filepath.Join(home, entry.Name()))
		}
	}
}

// BuildEnv makes builds static and independent of the caller's workspace and flags.
func BuildEnv() []string { return []string{"CGO_ENABLED=0", "GOFLAGS=-buildvcs=false", "GOWORK=off"} }

// LinkEnvtest gathers what controller-runtime's envtest starts in one directory, its KUBEBUILDER_ASSETS.
func (c *Chain) LinkEnvtest() (string, error) {
	dir := filepath.Join(c.cache, "envtest", c.Version(APIServer))
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return "", err
	}
	for _, p := range []Program{Etcd, APIServer, Kubectl} {
		link := filepath.Join(dir, string(p))
		if to, err := os.Readlink(link); err == nil && to == c.Path(p) {
			continue
		}
		tmp := fmt.Sprintf("%s.%d", link, os.Getpid())
		if err := os.Symlink(c.Path(p), tmp); err != nil {
			return "", err
		}
		if err := os.Rename(tmp, link); err != nil {
			return "", err
		}
	}
	return dir, nil
}

// Known tells whether the catalog has a program of this name.
func (c *Chain) Known(p Program) bool { _, ok := c.tools[p]; return ok }
