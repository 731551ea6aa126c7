package docker

import (
	"context"
	"os"
	"path/filepath"

	"github.com/securenotes/securenotes/hack/kind/proc"
)

// Links are the interfaces in our bridge. The bridge's name is ours alone, so they are too.
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

// RemoveLinks removes those of the interfaces that are still there.
func RemoveLinks(ctx context.Context, names []string) error {
	for _, name := range names {
		if _, err := os.Stat(filepath.Join("/sys/class/net", name)); err != nil {
			continue
		}
		if err := proc.New("ip", "link", "delete", name).Run(ctx); err != nil {
			if _, gone := os.Stat(filepath.Join("/sys/class/net", name)); gone != nil {
				continue // it went with its other end, in between
			}
			return err
		}
	}
	return nil
}
