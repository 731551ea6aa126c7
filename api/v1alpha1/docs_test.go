package v1alpha1

import (
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"reflect"
	"strconv"
	"strings"
	"testing"
)

// TestFieldDocs checks that the doc of each field, which kubectl explain shows, starts with the
// name of the field and ends as a sentence.
func TestFieldDocs(t *testing.T) {
	t.Parallel()
	fields := 0
	inspect(t, func(n ast.Node) {
		field, ok := n.(*ast.Field)
		if !ok || field.Tag == nil || len(field.Names) == 0 || field.Names[0].Name == "Items" {
			return
		}
		tag, err := strconv.Unquote(field.Tag.Value)
		if err != nil {
			t.Fatal(err)
		}
		name, _, _ := strings.Cut(reflect.StructTag(tag).Get("json"), ",")
		doc, _, _ := strings.Cut(field.Doc.Text(), "\n+")
		fields++
		if !strings.HasPrefix(doc, name+" ") || !strings.HasSuffix(strings.TrimSpace(doc), ".") {
			t.Errorf("the doc of %s is %q, want sentences that start with %s", name, doc, name)
		}
	})
	if fields < 100 {
		t.Errorf("only %d fields found", fields)
	}
}

// TestConstantDocs checks that each condition is documented with its polarity, and each other
// constant at all.
func TestConstantDocs(t *testing.T) {
	t.Parallel()
	constants := 0
	inspect(t, func(n ast.Node) {
		spec, ok := n.(*ast.ValueSpec)
		if !ok || !spec.Names[0].IsExported() || spec.Names[0].Name == "GroupVersion" {
			return
		}
		name, doc := spec.Names[0].Name, spec.Doc.Text()
		constants++
		if !strings.HasPrefix(doc, name+" ") {
			t.Errorf("the doc of %s is %q, want sentences that start with %s", name, doc, name)
		}
		if strings.HasPrefix(name, "Condition") && !strings.Contains(doc, "\nPolarity: ") {
			t.Errorf("the doc of %s does not tell its polarity", name)
		}
	})
	if constants < 80 {
		t.Errorf("only %d constants found", constants)
	}
}

// inspect visits the syntax of this package, without generated code and tests.
func inspect(t *testing.T, visit func(ast.Node)) {
	t.Helper()
	entries, err := os.ReadDir(".")
	if err != nil {
		t.Fatal(err)
	}
	for _, entry := range entries {
		name := entry.Name()
		if !strings.HasSuffix(name, ".go") || strings.HasSuffix(name, "_test.go") || strings.HasPrefix(name, "zz_") {
			continue
		}
		file, err := parser.ParseFile(token.NewFileSet(), name, nil, parser.ParseComments)
		if err != nil {
			t.Fatal(err)
		}
		ast.Inspect(file, func(n ast.Node) bool { visit(n); return true })
	}
}
