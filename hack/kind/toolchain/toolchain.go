package toolchain

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"time"
	"unicode"

	"github.com/securenotes/securenotes/hack/kind/console"
	"github.com/securenotes/securenotes/hack/kind/layout"
	"github.com/securenotes/securenotes/hack/kind/proc"
)

// Chain finds and builds the catalog's programs.
type Chain struct {
	say   *console.Console
	tools map[Program]resolved
	cache string
	found map[Program]string // programs in PATH that Adopt has found
}

// New reads the pinned versions of a checkout.
func New(say *console.Console, root, cache string) (*Chain, error) {
	c := &Chain{say: say, tools: map[Program]resolved{}, cache: cache, found: map[Program]string{}}
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

// Path returns the path of a program, which may not be built yet.
func (c *Chain) Path(p Program) string {
	if path, ok := c.found[p]; ok {
		return path
	}
	return filepath.Join(c.tools[p].home, string(p))
}

// Adopt uses the programs in PATH that have the pinned version, so that they need not be built. A
// program must print its version when it is called with `version`.
func (c *Chain) Adopt(ctx context.Context, programs ...Program) (note string) {
	for _, p := range programs {
		if _, err := os.Stat(c.Path(p)); err == nil {
			continue
		}
		path, err := exec.LookPath(string(p))
		if err != nil {
			continue
		}
		says, err := proc.New(path, "version").Output(ctx)
		if err == nil && hasVersion(says, c.Version(p)) {
			c.found[p] = path
			note += path + ", "
		}
	}
	return note
}

// hasVersion reports whether text contains the version as a word.
func hasVersion(text, version string) bool {
	words := strings.FieldsFunc(text, func(r rune) bool { return unicode.IsSpace(r) || strings.ContainsRune(`"',{}`, r) })
	return slices.Contains(words, version)
}

// Version returns the version of the module that a program is built from.
func (c *Chain) Version(p Program) string { return c.tools[p].version }

// Source returns the directory of a program's module below hack/tools.
func (c *Chain) Source(p Program) string { return c.tools[p].source }

// Ensure builds the programs that are not in the cache.
func (c *Chain) Ensure(ctx context.Context, programs ...Program) (note string, err error) {
	var missing []Program
	built := 0
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
	for len(missing) > 0 {
		// Programs of one module are built in one call, which reads the module once.
		together := []Program{missing[0]}
		var others []Program
		for _, p := range missing[1:] {
			if c.tools[p].home == c.tools[missing[0]].home {
				together = append(together, p)
			} else {
				others = append(others, p)
			}
		}
		start := time.Now()
		c.say.Say("building %s %s (%d more to go)", join(together), c.Version(together[0]), len(others))
		if err := c.build(ctx, together); err != nil {
			return "", err
		}
		c.say.Say("built in %s", time.Since(start).Round(time.Second))
		built += len(together)
		missing = others
	}
	return fmt.Sprintf("%d built, %d were there (%s)", built, len(seen)-built, c.cache), nil
}

func join(programs []Program) string {
	var names []string
	for _, p := range programs {
		names = append(names, string(p))
	}
	return strings.Join(names, ", ")
}

// build builds programs of one module.
func (c *Chain) build(ctx context.Context, programs []Program) error {
	t := c.tools[programs[0]]
	if err := os.MkdirAll(t.home, 0o755); err != nil {
		return err
	}
	removeLeftovers(t.home)
	// Build in a temporary directory and rename it, so that an interrupted run leaves no partial
	// result.
	work, err := os.MkdirTemp(t.home, ".build-*")
	if err != nil {
		return err
	}
	defer func() { _ = os.RemoveAll(work) }()
	// The linker strips debugging information, so none is compiled: that saves a tenth of the time.
	// The binaries are the same, so the flag is not part of their key.
	args := append([]string{"build", "-gcflags=all=-dwarf=false"}, t.flags...)
	if len(t.Instead) > 0 {
		dir := filepath.Join(work, "patched")
		if err := os.Mkdir(dir, 0o755); err != nil {
			return err
		}
		modfile, err := t.patched(ctx, dir)
		if err != nil {
			return fmt.Errorf("patch %s: %w", t.Module, err)
		}
		args = append(args, "-modfile", modfile)
	}
	// go names several programs after their packages, and a single one by its flag.
	out := work + string(filepath.Separator)
	if len(programs) == 1 {
		out = filepath.Join(work, string(programs[0]))
	}
	args = append(args, "-o", out)
	for _, p := range programs {
		args = append(args, t.Programs[string(p)])
	}
	if err := proc.New("go", args...).In(t.source).WithEnv(BuildEnv()...).Run(ctx); err != nil {
		return fmt.Errorf("build %s from hack/tools/%s: %w", join(programs), t.Dir, err)
	}
	for _, p := range programs {
		if err := os.Rename(filepath.Join(work, string(p)), c.Path(p)); err != nil {
			return err
		}
	}
	return nil
}

// removeLeftovers removes what interrupted builds have left: hidden directories that are older than
// any build takes.
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

// BuildEnv returns an environment for static builds that are independent of the caller's workspace
// and flags.
func BuildEnv() []string { return []string{"CGO_ENABLED=0", "GOFLAGS=-buildvcs=false", "GOWORK=off"} }

// LinkEnvtest links the programs of controller-runtime's envtest in one directory, and returns it
// as KUBEBUILDER_ASSETS.
func (c *Chain) LinkEnvtest() (string, error) {
	dir := filepath.Join(c.cache, "envtest", c.Version(APIServer))
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return "", err
	}
	for _, p := range []Program{Etcd, APIServer, Kubectl} {
		if err := layout.Link(filepath.Join(dir, string(p)), c.Path(p)); err != nil {
			return "", err
		}
	}
	return dir, nil
}

// Known reports whether the catalog has a program of this name.
func (c *Chain) Known(p Program) bool { _, ok := c.tools[p]; return ok }
