// Package postgres packs Debian's PostgreSQL into an image with the same paths as the official
// image, so that one manifest works for both.
package postgres

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/securenotes/securenotes/hack/kind/debian"
	"github.com/securenotes/securenotes/hack/kind/images"
)

const (
	user = 999
	home = "/usr/lib/postgresql/15"
)

// programs are the server, the programs that its first start needs, and the clients that tests use.
var programs = []string{
	home + "/bin/postgres", home + "/bin/initdb", home + "/bin/psql",
	home + "/bin/pg_dump", home + "/bin/pg_isready", "/bin/sh", "/bin/rm",
}

// Image packs Debian's PostgreSQL: its programs, their libraries, and their data.
func Image(ctx context.Context, say func(string, ...any)) (images.Image, error) {
	img := images.Image{
		Repository: images.Repository + "postgres", Entrypoint: []string{home + "/bin/postgres"},
		User: fmt.Sprintf("%d:%d", user, user), Files: images.Users("postgres", user),
	}
	if err := debian.Ensure(ctx, say, debian.Postgres15); err != nil {
		return img, err
	}
	files, err := images.WithLibraries(ctx, "/", programs...)
	if err != nil {
		return img, err
	}
	img.Files = append(img.Files, files...)
	for _, dir := range []string{home + "/lib", "/usr/share/postgresql/15", "/usr/share/zoneinfo"} {
		err := filepath.WalkDir(dir, func(p string, d fs.DirEntry, err error) error {
			switch {
			case err != nil:
				return err
			case d.IsDir() && (d.Name() == "bitcode" || d.Name() == "man" || d.Name() == "right" || d.Name() == "posix"):
				return fs.SkipDir // files for just-in-time compilation, and documentation
			case d.IsDir() || strings.HasPrefix(d.Name(), "llvmjit"):
				return nil
			}
			st, err := os.Stat(p)
			if errors.Is(err, fs.ErrNotExist) || (err == nil && !st.Mode().IsRegular()) {
				return nil // a broken link, or a link to a directory
			}
			if err != nil {
				return err
			}
			img.Files = append(img.Files, images.File{To: p, From: p, Mode: int64(st.Mode().Perm()) | 0o444})
			return nil
		})
		if err != nil {
			return img, err
		}
	}
	return img, nil
}
