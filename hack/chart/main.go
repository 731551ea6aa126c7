// Chart generates the parts of charts/securenotes-operator that must not drift from their sources:
// the CRDs, the RBAC rules and the admission policies from config/, the values schema and the
// README from values.yaml.
//
// Usage, in the root of the checkout: go run ./hack/chart [--check]. With --check it writes nothing
// and fails when a file is not what it would write.
package main

import (
	"bytes"
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"slices"
)

const chart = "charts/securenotes-operator"

func main() {
	check := flag.Bool("check", false, "write nothing; fail when a file is out of date")
	flag.Parse()
	if err := run(*check); err != nil {
		fmt.Fprintln(os.Stderr, "chart:", err)
		os.Exit(1)
	}
}

func run(check bool) error {
	files := map[string]func() ([]byte, error){
		"templates/crds.yaml":            crds,
		"templates/_rules.tpl":           rules,
		"templates/aggregate-roles.yaml": aggregateRoles,
		"templates/policy.yaml":          policy,
		"values.schema.json":             schema,
		"README.md":                      readme,
	}
	names := make([]string, 0, len(files))
	for name := range files {
		names = append(names, name)
	}
	slices.Sort(names)
	var errs []error
	for _, name := range names {
		content, err := files[name]()
		if err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
		path := filepath.Join(chart, name)
		if !check {
			if err := os.WriteFile(path, content, 0o644); err != nil {
				return err
			}
			continue
		}
		existing, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		if !bytes.Equal(existing, content) {
			errs = append(errs, fmt.Errorf("%s is out of date: run `make generate`", path))
		}
	}
	return errors.Join(errs...)
}
