package audit

import (
	"bytes"
	"regexp"
	"strconv"
)

// mark is the prefix of every audit line.
const mark = `{"audit":`

var (
	// key matches the key of an audit line in forms that other parsers accept: with spaces, in
	// another case, or quoted again by a log collector.
	key = regexp.MustCompile(`(?i)"audit\\*"\s*:`)
	// escape matches the escapes of ASCII characters that JSON allows in a key.
	escape = regexp.MustCompile(`\\+u00[0-7][0-9a-fA-F]`)
)

// disguised reports whether another parser could read an audit line anywhere in a line that does
// not begin with the mark.
func disguised(line []byte) bool {
	if bytes.Contains(line, []byte(`\u00`)) {
		line = escape.ReplaceAllFunc(line, func(found []byte) []byte {
			code, err := strconv.ParseUint(string(found[len(found)-2:]), 16, 8)
			if err != nil {
				return found
			}
			return []byte{byte(code)}
		})
	}
	return key.Match(line)
}
