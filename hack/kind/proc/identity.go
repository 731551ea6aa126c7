package proc

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"strconv"
	"syscall"
	"time"
)

// Identity identifies one process. A process id alone may be reused by another process.
type Identity struct {
	PID   int    `json:"pid"`
	Start uint64 `json:"start"` // in clock ticks since boot, field 22 of /proc/PID/stat
}

// Identify reads the identity of a running process.
func Identify(pid int) (Identity, error) {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return Identity{}, err
	}
	// The second field, the name in parentheses, may contain any character. Count fields from its
	// end.
	i := bytes.LastIndexByte(b, ')')
	if i < 0 {
		return Identity{}, fmt.Errorf("/proc/%d/stat has no process name", pid)
	}
	fields := bytes.Fields(b[i+1:])
	if len(fields) < 20 {
		return Identity{}, fmt.Errorf("/proc/%d/stat is short", pid)
	}
	if fields[0][0] == 'Z' {
		return Identity{}, os.ErrProcessDone
	}
	start, err := strconv.ParseUint(string(fields[19]), 10, 64)
	return Identity{PID: pid, Start: start}, err
}

// Alive reports whether this very process still runs.
func (i Identity) Alive() bool {
	now, err := Identify(i.PID)
	return err == nil && now == i
}

// Stop sends SIGTERM, and kills the process if it has not ended after patience.
func (i Identity) Stop(patience time.Duration) error {
	for _, s := range []struct {
		signal syscall.Signal
		wait   time.Duration
	}{{syscall.SIGTERM, patience}, {syscall.SIGKILL, 5 * time.Second}} {
		if !i.Alive() {
			return nil
		}
		if err := syscall.Kill(i.PID, s.signal); err != nil && !errors.Is(err, syscall.ESRCH) {
			return fmt.Errorf("signal process %d: %w", i.PID, err)
		}
		for end := time.Now().Add(s.wait); time.Now().Before(end); time.Sleep(100 * time.Millisecond) {
			if !i.Alive() {
				return nil
			}
		}
	}
	return fmt.Errorf("process %d does not end, not even by SIGKILL", i.PID)
}
