package audit

import (
	"bytes"
	"regexp"
	"strconv"
)

// mark is what every audit line begins with.
const mark = `{"audit":`

var (
	// key matches the key of an audit line as other readers may accept it: with space, in another
	// case, and quoted once more by a log collector.
	key = regexp.MustCompile(`(?i)"audit\\*"\s*:`)
	// escape matches the escapes of ASCII characters that JSON allows in a key.
	escape = regexp.MustCompile(`\\+u00[0-7][0-9a-fA-F]`)
)

// disguised reports whether a line that does not begin with the mark would pass for an audit line
// elsewhere, wherever in the line it stands.
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
