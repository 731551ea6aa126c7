// Package truncate shortens text without splitting a rune.
package truncate

import (
	"strings"
	"unicode/utf8"
)

// Bytes returns at most limit bytes of a text, and leaves out a rune that does not fit. It copies
// what it shortens, so that the whole text does not stay in memory.
func Bytes(text string, limit int) string {
	if len(text) <= limit {
		return text
	}
	for limit > 0 && !utf8.RuneStart(text[limit]) {
		limit--
	}
	return strings.Clone(text[:limit])
}
