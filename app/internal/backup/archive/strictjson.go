package archive

import (
	"bytes"
	"errors"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
)

// encode returns the one encoding of v: compact JSON, with map keys in order.
func encode(v any) ([]byte, error) {
	return json.Marshal(v, json.Deterministic(true), jsontext.EscapeForHTML(false))
}

// decode parses the one encoding of v. It refuses everything else: other spacing, unknown or
// duplicate names, other escapes, invalid UTF-8.
func decode(raw []byte, v any) error {
	if err := json.Unmarshal(raw, v, json.RejectUnknownMembers(true)); err != nil {
		return err
	}
	again, err := encode(v)
	if err != nil {
		return err
	}
	if !bytes.Equal(raw, again) {
		return errOtherEncoding
	}
	return nil
}

// format returns the field format of a JSON object, whose other fields may be unknown.
func format(raw []byte) (int, error) {
	var v struct {
		Format int `json:"format"`
	}
	err := json.Unmarshal(raw, &v)
	return v.Format, err
}

var errOtherEncoding = errors.New("the same content would be written differently")
