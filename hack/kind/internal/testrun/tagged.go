package testrun

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io"
	"path/filepath"
	"slices"
	"strings"

	"github.com/securenotes/securenotes/hack/kind/internal/proc"
)

type testFiles struct {
	ImportPath, Dir           string
	TestGoFiles, XTestGoFiles []string
}

// Tagged finds the tests that exist only under a build tag, so that a suite runs those and does not
// run and count a package's other tests a second time.
func Tagged(ctx context.Context, dir, tag string) (packages, tests []string, err error) {
	plain, err := listTests(ctx, dir)
	if err != nil {
		return nil, nil, err
	}
	tagged, err := listTests(ctx, dir, "-tags", tag)
	if err != nil {
		return nil, nil, err
	}
	for _, p := range tagged {
		i := slices.IndexFunc(plain, func(q testFiles) bool { return q.ImportPath == p.ImportPath })
		var names []string
		for _, file := range slices.Concat(p.TestGoFiles, p.XTestGoFiles) {
			if i >= 0 && slices.Contains(slices.Concat(plain[i].TestGoFiles, plain[i].XTestGoFiles), file) {
				continue
			}
			found, err := testsIn(filepath.Join(p.Dir, file))
			if err != nil {
				return nil, nil, err
			}
			names = append(names, found...)
		}
		if len(names) > 0 {
			packages = append(packages, p.ImportPath)
			tests = append(tests, names...)
		}
	}
	slices.Sort(tests)
	return packages, slices.Compact(tests), nil
}

func listTests(ctx context.Context, dir string, flags ...string) ([]testFiles, error) {
	args := append([]string{"list", "-e", "-json=ImportPath,Dir,TestGoFiles,XTestGoFiles"}, flags...)
	out, err := proc.New("go", append(args, "./...")...).In(dir).WithEnv("GOFLAGS=-buildvcs=false -mod=readonly", "GOWORK=off").Output(ctx)
	if err != nil {
		return nil, err
	}
	var list []testFiles
	for dec := json.NewDecoder(strings.NewReader(out)); ; {
		var p testFiles
		if err := dec.Decode(&p); errors.Is(err, io.EOF) {
			return list, nil
		} else if err != nil {
			return nil, err
		}
		list = append(list, p)
	}
}

func testsIn(path string) ([]string, error) {
	f, err := parser.ParseFile(token.NewFileSet(), path, nil, parser.SkipObjectResolution)
	if err != nil {
		return nil, fmt.Errorf("find the tests of %s: %w", path, err)
	}
	var names []string
	for _, d := range f.Decls {
		fn, ok := d.(*ast.FuncDecl)
		if ok && fn.Recv == nil && strings.HasPrefix(fn.Name.Name, "Test") && fn.Name.Name != "TestMain" {
			names = append(names, fn.Name.Name)
		}
	}
	return names, nil
}
