package toolchain

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/securenotes/securenotes/hack/kind/proc"
)

// patched copies the tool's module to dir, replaces some files by ours, and returns the go.mod that
// builds the copy. (Go rejects an overlay of files in its module cache.)
func (t resolved) patched(ctx context.Context, dir string) (modfile string, err error) {
	// Only a downloaded module has a directory.
	if err := proc.New("go", "mod", "download", t.Module).In(t.source).WithEnv(BuildEnv()...).Run(ctx); err != nil {
		return "", err
	}
	module, err := proc.New("go", "list", "-m", "-f", "{{.Dir}}", t.Module).In(t.source).WithEnv(BuildEnv()...).Output(ctx)
	if err != nil {
		return "", err
	}
	source := filepath.Join(dir, "source")
	if err := os.CopyFS(source, os.DirFS(strings.TrimSpace(module))); err != nil {
		return "", err
	}
	for theirs, ours := range t.Instead {
		if err := replace(filepath.Join(source, theirs), filepath.Join(t.source, ours)); err != nil {
			return "", err
		}
	}
	// Go reads the checksums from the file in the same directory.
	for _, name := range []string{"go.mod", "go.sum"} {
		b, err := os.ReadFile(filepath.Join(t.source, name))
		if err != nil {
			return "", err
		}
		if name == "go.mod" {
			b = fmt.Appendf(b, "\nreplace %s => %s\n", t.Module, source)
		}
		if err := os.WriteFile(filepath.Join(dir, name), b, 0o644); err != nil {
			return "", err
		}
	}
	return filepath.Join(dir, "go.mod"), nil
}

// replace replaces the content of an existing file.
func replace(path, from string) error {
	if _, err := os.Stat(path); err != nil {
		return fmt.Errorf("nothing to replace: %w", err)
	}
	b, err := os.ReadFile(from)
	if err != nil {
		return err
	}
	return os.WriteFile(path, b, 0o644)
}
