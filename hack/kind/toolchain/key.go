package toolchain

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/mod/modfile"
)

// resolved is a tool with the contents of its module files.
type resolved struct {
	Tool
	source  string // directory of its module
	version string // of the module
	home    string // directory of its binaries in the cache
	flags   []string
}

// resolve reads a tool's version and derives its directory in the cache. The directory's name
// depends on everything that determines the binaries: the module's requirements and checksums, our
// own source, and the flags.
func resolve(root, cache string, t Tool) (resolved, error) {
	r := resolved{Tool: t, source: filepath.Join(root, "hack", "tools", t.Dir), version: "v0"}
	modPath := filepath.Join(r.source, "go.mod")
	b, err := os.ReadFile(modPath)
	if err != nil {
		return r, err
	}
	mod, err := modfile.ParseLax(modPath, b, nil)
	if err != nil {
		return r, err
	}
	if t.Module != "" {
		i := slices.IndexFunc(mod.Require, func(q *modfile.Require) bool { return q.Mod.Path == t.Module })
		if i < 0 {
			return r, fmt.Errorf("%s does not require %s", modPath, t.Module)
		}
		r.version = mod.Require[i].Mod.Version
	}
	ld := []string{"-s", "-w"}
	if t.Stamp != nil {
		ld = append(ld, t.Stamp(r.version)...)
	}
	r.flags = []string{"-mod=readonly", "-ldflags", strings.Join(ld, " ")}

	if len(t.Tags) > 0 {
		r.flags = append(r.flags, "-tags", strings.Join(t.Tags, ","))
	}

	h := sha256.New()
	_, _ = fmt.Fprintln(h, r.flags)
	sources, err := filepath.Glob(filepath.Join(r.source, "*.go"))
	if err != nil {
		return r, err
	}
	for _, theirs := range slices.Sorted(maps.Keys(t.Instead)) {
		_, _ = fmt.Fprintln(h, theirs)
		sources = append(sources, filepath.Join(r.source, t.Instead[theirs]))
	}
	for _, p := range append([]string{modPath, filepath.Join(r.source, "go.sum")}, sources...) {
		_, _ = fmt.Fprintln(h, filepath.Base(p))
		if err := addFile(h, p); err != nil {
			return r, err
		}
	}
	r.home = filepath.Join(cache, t.Dir, r.version+"-"+hex.EncodeToString(h.Sum(nil))[:12])
	return r, nil
}

func addFile(w io.Writer, path string) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer func() { _ = f.Close() }()
	_, err = io.Copy(w, f)
	return err
}

func majorMinor(version string) (major, minor string) {
	parts := strings.SplitN(strings.TrimPrefix(version, "v"), ".", 3)
	if len(parts) < 2 {
		return "", ""
	}
	return parts[0], parts[1]
}
