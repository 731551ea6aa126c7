package images

import (
	"context"
	"fmt"
	"path/filepath"
	"regexp"

	"github.com/securenotes/securenotes/hack/kind/proc"
)

var libraryPath = regexp.MustCompile(`/[^ ]+\.so[^ ]*`)

// WithLibraries returns programs of a root file system and all shared libraries that they load,
// each at its own path. root "/" is this machine.
func WithLibraries(ctx context.Context, root string, programs ...string) ([]File, error) {
	in := func(args ...string) *proc.Cmd {
		if root != "/" {
			args = append([]string{"chroot", root}, args...)
		}
		return proc.New(args[0], args[1:]...).WithEnv("PATH=/usr/sbin:/usr/bin:/sbin:/bin")
	}
	seen := map[string]bool{}
	var out []File
	add := func(p string) error {
		if seen[p] {
			return nil
		}
		seen[p] = true
		// A link may be absolute, so it must be resolved inside the root.
		real, err := in("readlink", "-f", p).Output(ctx)
		if err != nil {
			return err
		}
		out = append(out, File{To: p, From: filepath.Join(root, real)})
		return nil
	}
	for _, p := range programs {
		libs, err := in("ldd", p).Output(ctx)
		if err != nil {
			return nil, fmt.Errorf("find the libraries of %s: %w", p, err)
		}
		for _, f := range append([]string{p}, libraryPath.FindAllString(libs, -1)...) {
			if err := add(f); err != nil {
				return nil, err
			}
		}
	}
	return out, nil
}
