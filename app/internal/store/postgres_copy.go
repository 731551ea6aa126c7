package store

import (
	"encoding/binary"
	"fmt"
	"math"

	"github.com/google/uuid"
)

// copyHeader begins the binary format of COPY (PostgreSQL documentation, COPY, "Binary Format"):
// the signature, no flags, and no extension.
const copyHeader = "PGCOPY\n\xff\r\n\x00\x00\x00\x00\x00\x00\x00\x00\x00"

// copyNull is the length of a NULL, and copyEnd the number of columns after the last row.
const (
	copyNull = math.MaxUint32
	copyEnd  = math.MaxUint16
)

// copyData returns the rows in the binary format of COPY. types are the declared types of the
// columns. Unlike pgx's CopyFrom it prepares no statement, which a pooler would not allow.
func copyData(t Table, types []string, rows [][]any) ([]byte, error) {
	size := len(copyHeader) + 2
	for _, row := range rows {
		size += 2
		for j, value := range row {
			n, err := sizeOf(value, t.Columns[j].Kind)
			if err != nil {
				return nil, err
			}
			size += 4 + n
		}
	}
	data := append(make([]byte, 0, size), copyHeader...)
	for i, row := range rows {
		data = binary.BigEndian.AppendUint16(data, uint16(len(row))) //nolint:gosec // as many as the table has columns
		for j, value := range row {
			var err error
			if data, err = appendCopy(data, value, types[j]); err != nil {
				return nil, fmt.Errorf("%w: row %d, column %s.%s: %w", ErrSchema, i+1, t.Name, t.Columns[j].Name, err)
			}
		}
	}
	return binary.BigEndian.AppendUint16(data, copyEnd), nil
}

// appendCopy appends a value in the binary format of a type. The format of a domain is that of its
// type.
func appendCopy(data []byte, value any, kind string) ([]byte, error) {
	switch v := value.(type) {
	case string:
		if kind == "uuid" {
			id, err := uuid.Parse(v)
			if err != nil {
				return nil, err
			}
			return append(appendLength(data, len(id)), id[:]...), nil
		}
		return append(appendLength(data, len(v)), v...), nil
	case []byte:
		return append(appendLength(data, len(v)), v...), nil
	case int64:
		if kind == "bigint" {
			return binary.Append(appendLength(data, 8), binary.BigEndian, v)
		}
		if v < math.MinInt32 || v > math.MaxInt32 {
			return nil, fmt.Errorf("%d does not fit into type %s", v, kind)
		}
		return binary.Append(appendLength(data, 4), binary.BigEndian, int32(v))
	}
	return binary.BigEndian.AppendUint32(data, copyNull), nil
}

// appendLength appends the length of a value.
func appendLength(data []byte, n int) []byte {
	return binary.BigEndian.AppendUint32(data, uint32(n)) //nolint:gosec // a value fits into memory; PostgreSQL refuses 1 GiB
}
