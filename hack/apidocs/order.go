package main

import (
	"cmp"
	"maps"
	"slices"

	"github.com/getkin/kin-openapi/openapi3"
)

// inOrder returns the keys of a map in the order of the document.
func inOrder[V any](m map[string]V, origin func(V) *openapi3.Origin) []string {
	position := func(name string) (line, column int) {
		if o := origin(m[name]); o != nil && o.Key != nil {
			return o.Key.Line, o.Key.Column
		}
		return 0, 0
	}
	return slices.SortedFunc(maps.Keys(m), func(a, b string) int {
		lineA, columnA := position(a)
		lineB, columnB := position(b)
		// The name comes last, so that the order is always the same.
		return cmp.Or(cmp.Compare(lineA, lineB), cmp.Compare(columnA, columnB), cmp.Compare(a, b))
	})
}

func sortedKeys[V any](m map[string]V) []string { return slices.Sorted(maps.Keys(m)) }
