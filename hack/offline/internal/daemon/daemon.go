// Package daemon starts a Docker daemon if none answers, and later reverts all its changes to the
// machine.
package daemon

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/securenotes/securenotes/hack/kind/debian"
	"github.com/securenotes/securenotes/hack/kind/docker"
	"github.com/securenotes/securenotes/hack/kind/layout"
	"github.com/securenotes/securenotes/hack/kind/proc"
	"github.com/securenotes/securenotes/hack/offline/internal/firewall"
)

// cgroup is the parent of everything that our daemon runs.
const cgroup = "/" + layout.ClusterName

var (
	execRoot   = filepath.Join(layout.RunDir, "exec")
	pidPath    = filepath.Join(layout.RunDir, "docker.pid")
	recordPath = filepath.Join(layout.RunDir, "record.json")
	logPath    = filepath.Join(layout.RunDir, "dockerd.log")
)

// record is written before the daemon starts, so that a run that is killed at any time can be
// undone.
type record struct {
	Boot   string            `json:"boot"` // after a reboot only this file is left
	Before firewall.Snapshot `json:"before"`
	Daemon proc.Identity     `json:"daemon"`
	Data   string            `json:"data"`
}

func bootID() string {
	b, _ := os.ReadFile("/proc/sys/kernel/random/boot_id")
	return strings.TrimSpace(string(b))
}

func readRecord() (record, error) {
	var r record
	b, err := os.ReadFile(recordPath)
	if err != nil {
		return r, err
	}
	if err := json.Unmarshal(b, &r); err != nil {
		return r, fmt.Errorf("%s: %w", recordPath, err)
	}
	if r.Boot != bootID() {
		return record{}, os.ErrNotExist
	}
	return r, nil
}

func (r record) write() error {
	b, err := json.MarshalIndent(r, "", "  ")
	if err != nil {
		return err
	}
	return layout.WriteFile(recordPath, b, 0o600)
}

// Ensure finds a daemon or starts one. nocap builds the program runc-nocap.
func Ensure(ctx context.Context, l layout.Layout, say func(string, ...any), nocap func(context.Context) (string, error)) (note string, err error) {
	if _, ok := docker.Find(ctx); ok {
		return "one is running", nil
	}
	if err := docker.Possible(ctx); err != nil {
		return "", err
	}
	if err := debian.Ensure(ctx, say, "dockerd", "docker", "runc", "iptables", "nft", "ip"); err != nil {
		return "", err
	}
	// With systemd, installing the package starts the daemon.
	if _, ok := docker.Find(ctx); ok {
		return "started by the package just installed", nil
	}
	return "started, data in " + l.DockerData(), start(ctx, l, nocap)
}

func start(ctx context.Context, l layout.Layout, nocap func(context.Context) (string, error)) error {
	r, err := readRecord()
	switch {
	case err == nil:
		// An earlier daemon died, so the first snapshot is still the original state. The new daemon
		// uses the same directories, and finds and ends the processes that the earlier one left.
		// But the earlier one's pid file would prevent its start.
		if r.Daemon.Alive() {
			return fmt.Errorf("dockerd (process %d) of an earlier run does not answer; see %s", r.Daemon.PID, logPath)
		}
		for _, path := range []string{pidPath, filepath.Join(execRoot, "containerd", "containerd.pid")} {
			if err := dropStalePID(path); err != nil {
				return err
			}
		}
	case errors.Is(err, os.ErrNotExist):
		r = record{Boot: bootID()}
		if r.Before, err = firewall.Take(ctx); err != nil {
			return err
		}
	default:
		return err
	}
	r.Data = l.DockerData()
	if err := r.write(); err != nil {
		return err
	}

	args, err := daemonArgs(ctx, l, nocap)
	if err != nil {
		return err
	}
	log, err := os.OpenFile(logPath, os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		return err
	}
	defer func() { _ = log.Close() }()
	cmd := exec.Command(lookSbin("dockerd"), args...)
	cmd.Stdout, cmd.Stderr = log, log
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true} // dockerd outlives this run, and Ctrl-C
	cmd.Env = append(os.Environ(), "PATH="+os.Getenv("PATH")+":/usr/sbin:/sbin")
	if err := cmd.Start(); err != nil {
		return fmt.Errorf("start dockerd: %w", err)
	}
	if r.Daemon, err = proc.Identify(cmd.Process.Pid); err == nil {
		err = r.write()
	}
	if err != nil {
		_ = cmd.Process.Kill()
		return err
	}
	exited := make(chan error, 1)
	go func() { exited <- cmd.Wait() }()

	d := docker.Started()
	deadline := time.After(60 * time.Second)
	for !d.Answers(ctx) {
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case err := <-exited:
			return fmt.Errorf("dockerd ended (%w); see its log %s", err, logPath)
		case <-deadline:
			return fmt.Errorf("dockerd does not answer within 60 s; see %s", logPath)
		case <-time.After(300 * time.Millisecond):
		}
	}
	return nil
}

// dropStalePID removes a pid file whose process has ended. dockerd itself only checks whether the
// number is in use, so it mistakes a zombie, or another process, for a running daemon.
func dropStalePID(path string) error {
	b, err := os.ReadFile(path)
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	if pid, err := strconv.Atoi(strings.TrimSpace(string(b))); err == nil {
		if _, err := proc.Identify(pid); err == nil {
			return nil
		}
	}
	return os.Remove(path)
}

func daemonArgs(ctx context.Context, l layout.Layout, nocap func(context.Context) (string, error)) ([]string, error) {
	config := filepath.Join(layout.RunDir, "daemon.json")
	// An empty file, because the machine's /etc/docker/daemon.json is for the machine's own daemon.
	if err := layout.WriteFile(config, []byte("{}\n"), 0o600); err != nil {
		return nil, err
	}
	args := []string{
		"--config-file", config, "--data-root", l.DockerData(), "--exec-root", execRoot,
		"--host", "unix://" + docker.Socket, "--pidfile", pidPath,
		"--cgroup-parent", cgroup, "--bridge", "none", // no docker0, because the cluster has its own network
	}
	if granted, err := unix.PrctlRetInt(unix.PR_CAPBSET_READ, unix.CAP_SYS_RESOURCE, 0, 0, 0); err == nil && granted == 0 {
		path, err := nocap(ctx)
		if err != nil {
			return nil, err
		}
		args = append(args, "--add-runtime", "nocap="+path, "--default-runtime", "nocap")
	}
	return args, nil
}

func lookSbin(program string) string {
	if p, err := exec.LookPath(program); err == nil {
		return p
	}
	return filepath.Join("/usr/sbin", program)
}
