package docs_test

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// These tests check the source for things that, according to docs/asvs.md, the service never does.

// source is a parsed file of the service.
type source struct {
	path string
	*ast.File
}

// service parses the service's files, without its tests.
func service(t *testing.T) []source {
	t.Helper()
	var files []source
	err := filepath.WalkDir("../app", func(path string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() || !strings.HasSuffix(path, ".go") || strings.HasSuffix(path, "_test.go") {
			return err
		}
		file, err := parser.ParseFile(token.NewFileSet(), path, nil, parser.SkipObjectResolution)
		files = append(files, source{strings.TrimPrefix(filepath.ToSlash(path), "../"), file})
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	if len(files) < 50 {
		t.Fatalf("only %d files: has the service moved?", len(files))
	}
	return files
}

// imported returns the paths that the file imports.
func (s source) imported(t *testing.T) []string {
	t.Helper()
	var paths []string
	for _, spec := range s.Imports {
		path, err := strconv.Unquote(spec.Path.Value)
		if err != nil {
			t.Fatal(err)
		}
		paths = append(paths, path)
	}
	return paths
}

// calls calls visit for each function call, with the function's name and, if any, its package.
func (s source) calls(visit func(name string, call *ast.CallExpr)) {
	ast.Inspect(s.File, func(node ast.Node) bool {
		call, ok := node.(*ast.CallExpr)
		if !ok {
			return true
		}
		switch function := call.Fun.(type) {
		case *ast.Ident:
			visit(function.Name, call)
		case *ast.SelectorExpr:
			if name, ok := function.X.(*ast.Ident); ok {
				visit(name.Name+"."+function.Sel.Name, call)
			}
		}
		return true
	})
}

// TestServiceStartsNoProgram checks that the service starts no program, so that no input can become
// part of a command.
func TestServiceStartsNoProgram(t *testing.T) {
	for _, file := range service(t) {
		for _, path := range file.imported(t) {
			if slices.Contains([]string{"os/exec", "plugin", "C"}, path) {
				t.Errorf("%s imports %s", file.path, path)
			}
		}
		file.calls(func(name string, _ *ast.CallExpr) {
			switch name {
			case "os.StartProcess", "syscall.Exec", "syscall.ForkExec", "syscall.StartProcess", "unix.Exec":
				t.Errorf("%s calls %s", file.path, name)
			}
		})
	}
}

// TestFormatsAreConstant checks that every format string is a literal, and never input.
func TestFormatsAreConstant(t *testing.T) {
	place := map[string]int{
		"fmt.Errorf": 0, "fmt.Sprintf": 0, "fmt.Printf": 0, "fmt.Fprintf": 1, "fmt.Appendf": 1, "log.Printf": 0, "log.Fatalf": 0,
		"bad": 1, // of app/config, which passes its format on
	}
	formats := 0
	for _, file := range service(t) {
		file.calls(func(name string, call *ast.CallExpr) {
			at, ok := place[name]
			if !ok {
				return
			}
			if name, ok := call.Args[at].(*ast.Ident); ok && name.Name == "format" && file.path == "app/config/config.go" {
				return
			}
			if formats++; !literal(call.Args[at]) {
				t.Errorf("%s: the format of a call of %s is not a literal", file.path, name)
			}
		})
	}
	if formats < 100 {
		t.Errorf("only %d formats", formats)
	}
}

// literal reports whether the expression is a string literal, or a concatenation.
func literal(e ast.Expr) bool {
	switch e := e.(type) {
	case *ast.BasicLit:
		return true
	case *ast.BinaryExpr:
		return literal(e.X) && literal(e.Y)
	}
	return false
}

// TestServiceCallsNobodyElse checks that only these packages contain network clients, each for one
// kind of server.
func TestServiceCallsNobodyElse(t *testing.T) {
	clients := map[string][]string{
		"github.com/hashicorp/vault/api": {"app/config/vaultlogin", "app/internal/vault", "app/internal/envelope"}, // vaultlogin creates the client
		"github.com/jackc/pgx":           {"app/internal/store", "app/internal/storetest"},
		"github.com/redis/go-redis":      {"app/internal/ratelimit"},
		"k8s.io/client-go":               {"app/internal/progress"},
		"github.com/minio/minio-go":      {"app/internal/backup/destination"},
	}
	// Code that uses one of these can call any server.
	anybody := map[string][]string{
		"http.Client":           {"app/config/vaultlogin", "app/internal/backup/destination"},
		"http.Transport":        {"app/config/vaultlogin", "app/internal/backup/destination"},
		"http.DefaultTransport": {"app/config/vaultlogin"},
		"http.DefaultClient":    nil, "http.Get": nil, "http.Head": nil, "http.Post": nil, "http.PostForm": nil,
		"http.NewRequest": nil, "http.NewRequestWithContext": nil, "net.Dial": nil, "net.DialTimeout": nil, "net.Dialer": {"app/internal/backup/destination"},
		"tls.Dial": nil, "tls.Dialer": nil, "smtp.SendMail": nil,
	}
	for _, file := range service(t) {
		folder := filepath.ToSlash(filepath.Dir(file.path))
		for _, path := range file.imported(t) {
			for client, folders := range clients {
				if strings.HasPrefix(path, client) && !slices.Contains(folders, folder) {
					t.Errorf("%s imports %s", file.path, path)
				}
			}
		}
		ast.Inspect(file.File, func(node ast.Node) bool {
			selector, ok := node.(*ast.SelectorExpr)
			if !ok {
				return true
			}
			if name, ok := selector.X.(*ast.Ident); ok {
				used := name.Name + "." + selector.Sel.Name
				if folders, ok := anybody[used]; ok && !slices.Contains(folders, folder) {
					t.Errorf("%s uses %s", file.path, used)
				}
			}
			return true
		})
	}
}

// TestRandomnessIsCryptographic checks that the service does not use math/rand.
func TestRandomnessIsCryptographic(t *testing.T) {
	for _, file := range service(t) {
		for _, path := range file.imported(t) {
			if strings.HasPrefix(path, "math/rand") {
				t.Errorf("%s imports %s", file.path, path)
			}
		}
	}
}

// TestImagesHoldNoSource checks that a released image starts empty, and that only these built files
// are copied into it.
func TestImagesHoldNoSource(t *testing.T) {
	raw, err := os.ReadFile("../Dockerfile")
	if err != nil {
		t.Fatal(err)
	}
	wanted := []string{"/out/passwd", "/out/group", "/out/securenotes", "/out/operator", "/etc/ssl/certs/ca-certificates.crt"}
	stage, copied := "", 0
	for line := range strings.Lines(string(raw)) {
		words := strings.Fields(line)
		switch {
		case len(words) == 0:
		case words[0] == "FROM":
			stage = words[len(words)-1]
			if from := words[1]; stage != "build" && from != "scratch" && from != "base" {
				t.Errorf("image %s is based on %s", stage, from)
			}
		case stage == "build":
		case words[0] == "ADD", words[0] == "RUN":
			t.Errorf("image %s: %s", stage, line)
		case words[0] == "COPY":
			if words[1] != "--from=build" {
				t.Errorf("image %s copies from the checkout: %s", stage, line)
			}
			for _, file := range words[2 : len(words)-1] {
				copied++
				if !slices.Contains(wanted, file) {
					t.Errorf("image %s contains %s", stage, file)
				}
			}
		}
	}
	if copied != len(wanted) {
		t.Errorf("%d files are copied into the images, want %d", copied, len(wanted))
	}
}
