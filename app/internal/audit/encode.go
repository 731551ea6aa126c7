package audit

import (
	"encoding/json"
	"strconv"
	"time"
)

// appendJSON appends the record's JSON to line, as encoding/json would write it. It is much faster
// than encoding/json, and every request waits for one or two lines.
func (r *Record) appendJSON(line []byte) []byte {
	e := encoder{append(line, '{')}
	e.int("audit", r.Version)
	e.string("chain", r.Chain)
	e.key("seq")
	e.line = strconv.AppendUint(e.line, r.Sequence, 10)
	e.string("prev", r.Previous)
	e.time("time", r.Time)
	e.string("action", r.Action)
	e.optional("outcome", r.Outcome)
	e.nonZero("status", r.Status)
	e.optional("user", r.User)
	e.optional("username_digest", r.Username)
	e.optional("factor", r.Factor)
	e.optional("object", r.Object)
	e.optional("address", r.Address)
	e.optional("request_id", r.RequestID)
	e.nonZero("notes", r.Notes)
	e.nonZero("bytes", r.Bytes)
	e.nonZero("refused", r.Refused)
	e.optionalTime("from", r.From)
	e.optionalTime("until", r.Until)
	e.optional("deployment", r.Deployment)
	if r.Covers != 0 {
		e.key("covers")
		e.line = strconv.AppendUint(e.line, r.Covers, 10)
	}
	e.optional("signature", r.Signature)
	return append(e.line, '}')
}

// encoder appends the members of a JSON object.
type encoder struct{ line []byte }

func (e *encoder) key(name string) {
	if e.line[len(e.line)-1] != '{' {
		e.line = append(e.line, ',')
	}
	e.line = append(e.line, '"')
	e.line = append(e.line, name...)
	e.line = append(e.line, `":`...)
}

func (e *encoder) string(name, value string) {
	e.key(name)
	for i := range len(value) {
		switch c := value[i]; {
		case c < ' ', c > '~', c == '"', c == '\\', c == '<', c == '>', c == '&':
			quoted, err := json.Marshal(value)
			if err != nil { // strings always encode
				quoted = []byte(`""`)
			}
			e.line = append(e.line, quoted...)
			return
		}
	}
	e.line = append(e.line, '"')
	e.line = append(e.line, value...)
	e.line = append(e.line, '"')
}

func (e *encoder) int(name string, value int) {
	e.key(name)
	e.line = strconv.AppendInt(e.line, int64(value), 10)
}

func (e *encoder) time(name string, value time.Time) {
	e.key(name)
	e.line = append(e.line, '"')
	e.line = value.AppendFormat(e.line, time.RFC3339Nano)
	e.line = append(e.line, '"')
}

func (e *encoder) optional(name, value string) {
	if value != "" {
		e.string(name, value)
	}
}

func (e *encoder) nonZero(name string, value int) {
	if value != 0 {
		e.int(name, value)
	}
}

func (e *encoder) optionalTime(name string, value time.Time) {
	if !value.IsZero() {
		e.time(name, value)
	}
}
