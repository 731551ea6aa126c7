package layout

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
)

// Lock prevents two concurrent runs on one machine. The kernel releases it when the process ends,
// also when it is killed.
func (l Layout) Lock() (unlock func(), err error) {
	path := filepath.Join(l.Cache, "lock")
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o644)
	if err != nil {
		return nil, err
	}
	if err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		holder, _ := os.ReadFile(path)
		_ = f.Close()
		if !errors.Is(err, syscall.EWOULDBLOCK) {
			return nil, fmt.Errorf("lock %s: %w", path, err)
		}
		return nil, fmt.Errorf("another run is in progress (%s); wait for it or end it, then try again", strings.TrimSpace(string(holder)))
	}
	if err := f.Truncate(0); err == nil {
		_, _ = fmt.Fprintf(f, "process %d in %s\n", os.Getpid(), l.Root)
	}
	return func() { _ = f.Truncate(0); _ = f.Close() }, nil
}
