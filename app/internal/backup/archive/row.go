package archive

import (
	"bytes"
	"encoding/base64"
	"fmt"
	"strconv"

	"github.com/go-json-experiment/json/jsontext"
)

var strictBase64 = base64.StdEncoding.Strict()

// rowCodec encodes and decodes the rows of a table. A row is a flat JSON object on one line. Its
// names are in the order of the columns, and NULL is left out.
type rowCodec struct {
	table Table
	// names has the name of each column as in a row, with quotes and colon.
	names [][]byte
	// scratch is for the encoding of a text that was read.
	scratch []byte
	// values and bytes hold the row that was read last.
	values []any
	bytes  []byte
}

func newRowCodec(table Table) *rowCodec {
	c := &rowCodec{table: table, values: make([]any, len(table.Columns))}
	for _, column := range table.Columns {
		c.names = append(c.names, []byte(`"`+column.Name+`":`))
	}
	return c
}

// append appends the line of a row to dst.
func (c *rowCodec) append(dst []byte, values []any) ([]byte, error) {
	if len(values) != len(c.names) {
		return dst, fmt.Errorf("a row of %s has %d values instead of %d", c.table.Name, len(values), len(c.names))
	}
	start := len(dst)
	dst = append(dst, '{')
	for i, value := range values {
		if value == nil {
			continue
		}
		if len(dst) > start+1 {
			dst = append(dst, ',')
		}
		dst = append(dst, c.names[i]...)
		column := c.table.Columns[i]
		ok := false
		switch v := value.(type) {
		case string:
			ok = column.Type == Text
			var err error
			if dst, err = jsontext.AppendQuote(dst, v); err != nil {
				return dst, fmt.Errorf("column %s of %s is not valid UTF-8", column.Name, c.table.Name)
			}
		case int64:
			ok = column.Type == Integer
			dst = strconv.AppendInt(dst, v, 10)
		case []byte:
			ok = column.Type == Bytes
			dst = append(dst, '"')
			dst = base64.StdEncoding.AppendEncode(dst, v)
			dst = append(dst, '"')
		}
		if !ok {
			return dst, fmt.Errorf("column %s of %s is of type %s, and its value is a %T", column.Name, c.table.Name, column.Type, value)
		}
	}
	dst = append(dst, '}', '\n')
	if len(dst)-start > maxRow {
		return dst, fmt.Errorf("a row of %s needs %d bytes, and the limit is %d", c.table.Name, len(dst)-start, maxRow)
	}
	return dst, nil
}

// decode returns the values of a line, without its line feed. They are valid until the next call.
func (c *rowCodec) decode(line []byte) ([]any, error) {
	if cap(c.bytes) < len(line) {
		c.bytes = make([]byte, 0, 2*len(line))
	}
	c.bytes = c.bytes[:0]
	rest, isObject := bytes.CutPrefix(line, []byte("{"))
	if !isObject {
		return nil, c.malformed(line, rest)
	}
	first := true
	for i, name := range c.names {
		before := c.values[i]
		c.values[i] = nil
		next, follows := rest, true
		if !first {
			next, follows = bytes.CutPrefix(rest, []byte(","))
		}
		next, named := bytes.CutPrefix(next, name)
		if !follows || !named {
			continue // NULL
		}
		value, n := c.value(c.table.Columns[i].Type, next, before)
		if n == 0 {
			return nil, fmt.Errorf("column %s is not of type %s", c.table.Columns[i].Name, c.table.Columns[i].Type)
		}
		c.values[i], rest, first = value, next[n:], false
	}
	if string(rest) != "}" {
		return nil, c.malformed(line, rest)
	}
	return c.values, nil
}

func (c *rowCodec) malformed(line, rest []byte) error {
	return fmt.Errorf("from byte %d on, it does not have the columns of %s in their order", len(line)-len(rest)+1, c.table.Name)
}

// value parses a value at the beginning of text, and returns its length, or 0 if it is malformed.
// before is that of the previous row, which is often the same.
func (c *rowCodec) value(kind ColumnType, text []byte, before any) (any, int) {
	switch kind {
	case Integer:
		return parseInteger(text)
	case Bytes:
		return c.parseBytes(text)
	}
	return c.parseText(text, before)
}

func parseInteger(text []byte) (any, int) {
	n := 0
	for n < len(text) && (text[n] == '-' || text[n] >= '0' && text[n] <= '9') {
		n++
	}
	if n > len("-9223372036854775808") {
		return nil, 0
	}
	value, err := strconv.ParseInt(string(text[:n]), 10, 64)
	var again [len("-9223372036854775808")]byte
	if err != nil || !bytes.Equal(strconv.AppendInt(again[:0], value, 10), text[:n]) {
		return nil, 0
	}
	return value, n
}

func (c *rowCodec) parseBytes(text []byte) (any, int) {
	if len(text) == 0 || text[0] != '"' {
		return nil, 0
	}
	n := bytes.IndexByte(text[1:], '"')
	if n < 0 {
		return nil, 0
	}
	start := len(c.bytes)
	decoded, err := strictBase64.AppendDecode(c.bytes, text[1:1+n])
	if err != nil || base64.StdEncoding.EncodedLen(len(decoded)-start) != n { // a carriage return is skipped
		return nil, 0
	}
	c.bytes = decoded
	return decoded[start:len(decoded):len(decoded)], n + 2
}

func (c *rowCodec) parseText(text []byte, before any) (any, int) {
	n := quoted(text)
	if n == 0 {
		return nil, 0
	}
	value, err := jsontext.AppendUnquote(c.scratch[:0], text[:n])
	if err != nil {
		return nil, 0
	}
	c.scratch = value
	if same, ok := before.(string); !ok || same != string(value) {
		before = string(value)
	}
	if c.scratch, err = jsontext.AppendQuote(c.scratch[:0], before.(string)); err != nil || !bytes.Equal(c.scratch, text[:n]) {
		return nil, 0
	}
	return before, n
}

// quoted returns the length of the JSON string at the beginning of text, or 0 if there is none.
func quoted(text []byte) int {
	if len(text) == 0 || text[0] != '"' {
		return 0
	}
	for n := 1; ; {
		end := bytes.IndexByte(text[n:], '"')
		if end < 0 {
			return 0
		}
		n += end
		escapes := 0
		for text[n-1-escapes] == '\\' {
			escapes++
		}
		n++
		if escapes%2 == 0 {
			return n
		}
	}
}
