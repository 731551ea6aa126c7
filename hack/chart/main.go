// Chart generates the parts of charts/securenotes-operator that must not drift from their sources:
// the CRDs, the RBAC rules and the admission policies from config/, the values schema and the
// README from values.yaml.
//
// Usage, in the root of the checkout: go run ./hack/chart
package main

import (
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
)

const chart = "charts/securenotes-operator"

func main() {
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, "chart:", err)
		os.Exit(1)
	}
}

func run() error {
	files := map[string]func() ([]byte, error){
		"templates/crds.yaml":            crds,
		"templates/_rules.tpl":           rules,
		"templates/aggregate-roles.yaml": aggregateRoles,
		"templates/policy.yaml":          policy,
		"values.schema.json":             schema,
		"README.md":                      readme,
	}
	for _, name := range slices.Sorted(maps.Keys(files)) {
		content, err := files[name]()
		if err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
		if err := os.WriteFile(filepath.Join(chart, name), content, 0o644); err != nil {
			return err
		}
	}
	return nil
}
