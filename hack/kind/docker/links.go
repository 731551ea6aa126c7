package docker

import (
	"context"
	"os"
	"path/filepath"

	"github.com/securenotes/securenotes/hack/kind/proc"
)

// Links returns the interfaces in our bridge. Nobody else uses a bridge of that name.
func Links() []string {
	entries, err := os.ReadDir(filepath.Join("/sys/class/net", Bridge, "brif"))
	if err != nil {
		return nil // there is no bridge
	}
	var names []string
	for _, e := range entries {
		names = append(names, e.Name())
	}
	return names
}

// RemoveLinks removes the interfaces that still exist.
func RemoveLinks(ctx context.Context, names []string) error {
	for _, name := range names {
		if _, err := os.Stat(filepath.Join("/sys/class/net", name)); err != nil {
			continue
		}
		if err := proc.New("ip", "link", "delete", name).Run(ctx); err != nil {
			if _, gone := os.Stat(filepath.Join("/sys/class/net", name)); gone != nil {
				continue // it was removed with its other end meanwhile
			}
			return err
		}
	}
	return nil
}
