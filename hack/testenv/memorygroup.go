package testenv

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/securenotes/securenotes/hack/poll"
)

// cgroups is where Linux mounts the control groups.
const cgroups = "/sys/fs/cgroup"

// MemoryGroup is a control group (cgroup v1 or v2) with a memory limit and without swap, like that
// of a container.
type MemoryGroup struct {
	// Limit is in bytes.
	Limit int64

	directory string
	v2        bool
}

// NewMemoryGroup creates a group that is removed when the test ends. It skips the test if the
// machine does not allow that: it needs root and a memory controller.
func NewMemoryGroup(t testing.TB, limit int64) *MemoryGroup {
	t.Helper()
	g := &MemoryGroup{Limit: limit}
	parent, err := g.parent()
	if err == nil {
		g.directory, err = os.MkdirTemp(parent, "securenotes-test-")
	}
	if errors.Is(err, os.ErrPermission) || errors.Is(err, errNoMemoryController) || errors.Is(err, syscall.EROFS) {
		t.Skipf("this machine does not allow a memory limit for a process: %v", err)
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { g.remove(t) })
	files := []string{"memory.limit_in_bytes", "memory.memsw.limit_in_bytes", "memory.kmem.tcp.limit_in_bytes"}
	values := []int64{limit, limit, 1 << 40} // cgroup v1 counts sockets only if they have a limit
	if g.v2 {
		files, values = []string{"memory.max", "memory.swap.max"}, []int64{limit, 0}
	}
	for i, file := range files {
		// A kernel without swap accounting, or without socket accounting, lacks all files but the
		// first.
		if err := g.write(file, values[i]); err != nil && (i == 0 || !errors.Is(err, os.ErrNotExist)) {
			t.Fatalf("memory limit: %v", err)
		}
	}
	return g
}

var errNoMemoryController = errors.New("no memory controller in " + cgroups)

// parent returns the directory to create the group in.
func (g *MemoryGroup) parent() (string, error) {
	if _, err := os.Stat(filepath.Join(cgroups, "memory")); err == nil {
		return own(filepath.Join(cgroups, "memory"), ":memory:"), nil
	}
	g.v2 = true
	// A v2 group that has processes cannot have children with controllers, but an ancestor can.
	for directory := own(cgroups, "0::"); ; directory = filepath.Dir(directory) {
		raw, err := os.ReadFile(filepath.Join(directory, "cgroup.subtree_control"))
		if err == nil && strings.Contains(" "+strings.TrimSpace(string(raw))+" ", " memory ") {
			return directory, nil
		}
		if directory == cgroups || len(directory) < len(cgroups) {
			return "", errNoMemoryController
		}
	}
}

// own returns the directory of this process's group below mount, or mount itself if the group is
// not visible there.
func own(mount, hierarchy string) string {
	raw, err := os.ReadFile("/proc/self/cgroup")
	if err != nil {
		return mount
	}
	for line := range strings.Lines(string(raw)) {
		if _, path, found := strings.Cut(strings.TrimSpace(line), hierarchy); found {
			if directory := filepath.Join(mount, path); exists(directory) {
				return directory
			}
		}
	}
	return mount
}

func exists(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}

func (g *MemoryGroup) write(file string, value int64) error {
	return os.WriteFile(filepath.Join(g.directory, file), []byte(strconv.FormatInt(value, 10)), 0o600)
}

// remove removes the group. It retries, because processes leave the group a moment after they end.
func (g *MemoryGroup) remove(t testing.TB) {
	if err := poll.Within(context.Background(), 10*time.Second, func(context.Context) error { return os.Remove(g.directory) }); err != nil {
		t.Errorf("memory limit: %v", err)
	}
}

// In returns the same program, whose runs belong to the group from their first instruction on.
func (p Program) In(g *MemoryGroup) Program {
	p.group = g
	return p
}

// wrap returns a shell command that joins the group and then becomes the program; the process keeps
// its id.
func (g *MemoryGroup) wrap(command []string) []string {
	join := fmt.Sprintf("echo $$ > %s && exec \"$@\"", filepath.Join(g.directory, "cgroup.procs"))
	return append([]string{"/bin/sh", "-c", join, "sh"}, command...)
}

// MemoryUse is the memory that the processes of a group use, in bytes.
type MemoryUse struct {
	// Anonymous is the memory of heap and stacks.
	Anonymous int64
	// Sockets is the kernel's buffers for TCP. In cgroup v2 it counts against the limit.
	Sockets int64
}

// Total returns the memory that the kernel cannot reclaim.
func (u MemoryUse) Total() int64 { return u.Anonymous + u.Sockets }

// Use returns the memory that the group uses now.
func (g *MemoryGroup) Use() (u MemoryUse, err error) {
	if g.v2 {
		if u.Anonymous, err = g.counter("memory.stat", "anon"); err == nil {
			u.Sockets, err = g.counter("memory.stat", "sock")
		}
		return u, err
	}
	if u.Anonymous, err = g.counter("memory.stat", "rss"); err != nil {
		return u, err
	}
	raw, err := os.ReadFile(filepath.Join(g.directory, "memory.kmem.tcp.usage_in_bytes"))
	if errors.Is(err, os.ErrNotExist) {
		return u, nil
	}
	if err == nil {
		u.Sockets, err = strconv.ParseInt(strings.TrimSpace(string(raw)), 10, 64)
	}
	return u, err
}

// Kills returns how many processes of the group the kernel has killed because of the memory limit.
func (g *MemoryGroup) Kills() (int64, error) {
	if g.v2 {
		return g.counter("memory.events", "oom_kill")
	}
	return g.counter("memory.oom_control", "oom_kill")
}

// counter returns the number on the line that begins with name, from a file of the group.
func (g *MemoryGroup) counter(file, name string) (int64, error) {
	raw, err := os.ReadFile(filepath.Join(g.directory, file))
	if err != nil {
		return 0, err
	}
	for line := range strings.Lines(string(raw)) {
		if key, text, _ := strings.Cut(strings.TrimSpace(line), " "); key == name {
			return strconv.ParseInt(text, 10, 64)
		}
	}
	return 0, fmt.Errorf("file %s of control group %s has no counter %s", file, g.directory, name)
}
