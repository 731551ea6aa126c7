// Apidocs generates the page that the API serves at /docs from the API's description, so that the
// two cannot drift apart. The page is static and loads only its stylesheet, because the security
// headers allow no more. It works with screen readers and without scripts.
//
// Usage, in the root of the checkout: go run ./hack/apidocs
package main

import (
	"fmt"
	"os"
)

const (
	source = "app/internal/httpapi/openapi.yaml"
	target = "app/internal/httpapi/docs.html"
)

func main() {
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, "apidocs:", err)
		os.Exit(1)
	}
}

func run() error {
	raw, err := os.ReadFile(source)
	if err != nil {
		return fmt.Errorf("%w: run this in the root of the checkout", err)
	}
	html, err := render(raw)
	if err != nil {
		return fmt.Errorf("%s: %w", source, err)
	}
	return os.WriteFile(target, html, 0o644)
}
