package audit

import (
	"bytes"
	"encoding/json"
	"strings"
)

// mark is what every audit line begins with.
const mark = `{"audit":`

// disguised reports whether a line that does not begin with the mark would pass for an audit line
// elsewhere. Other JSON readers allow space, escapes, and some of them another case in a key, and
// log collectors put text before a line.
func disguised(line []byte) bool {
	if bytes.Contains(line, []byte(mark[1:])) {
		return true
	}
	object := bytes.IndexByte(line, '{')
	if object < 0 {
		return false
	}
	values := json.NewDecoder(bytes.NewReader(line[object:]))
	for {
		var value json.RawMessage
		if values.Decode(&value) != nil {
			return false
		}
		var fields map[string]json.RawMessage
		if json.Unmarshal(value, &fields) != nil {
			continue
		}
		for key := range fields {
			if strings.EqualFold(key, "audit") {
				return true
			}
		}
	}
}
