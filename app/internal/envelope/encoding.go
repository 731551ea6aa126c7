package envelope

import (
	"encoding/binary"
	"strconv"
)

// encode joins fields so that different sequences never give the same bytes. Fields are far shorter
// than 2^32 bytes: ids, names and numbers.
func encode(fields ...string) []byte {
	size := 0
	for _, field := range fields {
		size += 4 + len(field)
	}
	out := make([]byte, 0, size)
	for _, field := range fields {
		out = binary.BigEndian.AppendUint32(out, uint32(len(field))) //nolint:gosec // ids, names and numbers, far below 4 GiB
		out = append(out, field...)
	}
	return out
}

// Place is the place of a sealed value. It is authenticated with the value.
type Place struct {
	// Kind is the table, such as "notes".
	Kind string
	// Row is the row's id.
	Row string
	// Field is the column, such as "content".
	Field string
	// Revision of the row that the value belongs to.
	Revision int64
}

func (k *OwnerKey) associatedData(p Place) []byte {
	return encode("securenotes/value/v1", p.Kind, k.ref.Deployment, k.ref.Owner, k.ref.ID,
		p.Row, p.Field, strconv.FormatInt(p.Revision, 10))
}

// KeyRef names an owner key.
type KeyRef struct {
	Deployment, Owner, ID string
}

func (r KeyRef) context() []byte {
	return encode("securenotes/owner-key/v1", r.Deployment, r.Owner, r.ID)
}
