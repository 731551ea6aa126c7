package daemon

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/securenotes/securenotes/hack/kind/docker"
	"github.com/securenotes/securenotes/hack/kind/layout"
	"github.com/securenotes/securenotes/hack/kind/proc"
	"github.com/securenotes/securenotes/hack/offline/internal/firewall"
)

// Revive restarts a daemon that an earlier run started and that has died since, so that its
// leftovers can be removed in order. It does nothing if there was no such daemon, or if another one
// answers.
func Revive(ctx context.Context, l layout.Layout, nocap func(context.Context) (string, error)) (note string, err error) {
	if _, err := readRecord(); errors.Is(err, os.ErrNotExist) {
		return "none was started here", nil
	}
	if _, ok := docker.Find(ctx); ok {
		return "one is running", nil
	}
	return "started again", start(ctx, l, nocap)
}

// Stop ends the daemon that we started, if any, and reverts its changes to the machine: packet
// filter, forwarding switches, bridge, mounts and control groups. The data root stays, because it
// is a cache.
func Stop(ctx context.Context) (note string, err error) {
	r, err := readRecord()
	if errors.Is(err, os.ErrNotExist) {
		if err := os.RemoveAll(layout.RunDir); err != nil {
			return "", err
		}
		return "none was started here", nil
	}
	if err != nil {
		return "", err
	}
	if err := endLeftovers(r); err != nil {
		return "", err
	}
	if err := r.Before.Restore(ctx, firewall.Marks{"DOCKER", docker.Bridge, docker.Addresses}); err != nil {
		return "", err
	}
	if err := docker.RemoveLinks(ctx, docker.Links()); err != nil {
		return "", err
	}
	if _, err := os.Stat("/sys/class/net/" + docker.Bridge); err == nil {
		if err := proc.New("ip", "link", "delete", docker.Bridge).Run(ctx); err != nil {
			return "", err
		}
	}
	if err := removeCgroups(); err != nil {
		return "", err
	}
	// The record is removed last, so that an interrupted teardown can be repeated.
	return "daemon, rules, mounts and control groups removed", os.RemoveAll(layout.RunDir)
}

// endLeftovers ends the recorded daemon and the processes that it started, and removes their
// mounts.
func endLeftovers(r record) error {
	if r.Daemon.PID != 0 {
		if err := r.Daemon.Stop(60 * time.Second); err != nil {
			return fmt.Errorf("stop dockerd: %w", err)
		}
	}
	// A killed daemon leaves its containerd and its shims. Their command lines contain our
	// directory.
	for _, id := range append(processesUnder(execRoot), processesInCgroup()...) {
		if err := id.Stop(10 * time.Second); err != nil {
			return err
		}
	}
	return unmountUnder(execRoot, r.Data)
}

// processesUnder returns processes with an argument that is a path below dir.
func processesUnder(dir string) []proc.Identity {
	entries, _ := os.ReadDir("/proc")
	var out []proc.Identity
	for _, e := range entries {
		pid, err := strconv.Atoi(e.Name())
		if err != nil || pid == os.Getpid() {
			continue
		}
		b, err := os.ReadFile(filepath.Join("/proc", e.Name(), "cmdline"))
		if err != nil {
			continue
		}
		if slices.ContainsFunc(strings.Split(string(b), "\x00"), func(a string) bool { return strings.HasPrefix(a, dir+"/") }) {
			if id, err := proc.Identify(pid); err == nil {
				out = append(out, id)
			}
		}
	}
	return out
}

// processesInCgroup returns the processes that still run in our containers.
func processesInCgroup() []proc.Identity {
	var out []proc.Identity
	for _, root := range cgroupRoots() {
		_ = filepath.WalkDir(root, func(p string, e fs.DirEntry, err error) error {
			// A group that disappears meanwhile has no process left.
			if err != nil && !errors.Is(err, fs.ErrNotExist) {
				return err
			}
			if err != nil || e.Name() != "cgroup.procs" {
				return nil //nolint:nilerr // the group is gone, see above
			}
			b, _ := os.ReadFile(p)
			for f := range strings.FieldsSeq(string(b)) {
				if pid, err := strconv.Atoi(f); err == nil && pid != os.Getpid() {
					if id, err := proc.Identify(pid); err == nil && !slices.Contains(out, id) {
						out = append(out, id)
					}
				}
			}
			return nil
		})
	}
	return out
}

// cgroupRoots returns the directories of our control group: cgroup v1 has one per controller.
func cgroupRoots() []string {
	roots, _ := filepath.Glob("/sys/fs/cgroup/*" + cgroup)
	return append(roots, "/sys/fs/cgroup"+cgroup)
}

func unmountUnder(dirs ...string) error {
	b, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		return err
	}
	var points []string
	for line := range strings.Lines(string(b)) {
		if f := strings.Fields(line); len(f) > 4 {
			points = append(points, f[4])
		}
	}
	slices.Reverse(points) // later mounts may be on top of earlier ones
	for _, p := range points {
		for _, d := range dirs {
			// dockerd also mounts its data root on itself.
			if d == "" || (p != d && !strings.HasPrefix(p, d+"/")) {
				continue
			}
			if err := unix.Unmount(p, unix.MNT_DETACH); err != nil && !errors.Is(err, unix.EINVAL) {
				return fmt.Errorf("unmount %s: %w", p, err)
			}
		}
	}
	return nil
}

// removeCgroups removes our control group from every hierarchy. Only an empty group can be removed,
// so this ends no process.
func removeCgroups() error {
	for _, root := range cgroupRoots() {
		var dirs []string
		err := filepath.WalkDir(root, func(p string, e fs.DirEntry, err error) error {
			if err == nil && e.IsDir() {
				dirs = append(dirs, p)
			}
			return nil
		})
		if err != nil {
			return err
		}
		slices.Reverse(dirs)
		for _, d := range dirs {
			if err := os.Remove(d); err != nil && !errors.Is(err, fs.ErrNotExist) {
				return fmt.Errorf("remove control group %s: %w", d, err)
			}
		}
	}
	return nil
}
