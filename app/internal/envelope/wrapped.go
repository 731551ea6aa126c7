package envelope

import (
	"encoding/base64"
	"fmt"
	"strconv"
	"strings"
)

// maxWrappedSize bounds a wrapped key, in bytes. Vault's have 89 bytes and a few digits.
const maxWrappedSize = 512

// Wrapped is an owner key that the master key has encrypted, in the provider's text form.
type Wrapped string

// Version returns the version of the master key that wrapped it, from the text. Only the provider
// can prove it: it refuses a changed version.
func (w Wrapped) Version() (int, error) {
	if len(w) > maxWrappedSize {
		return 0, fmt.Errorf("wrapped key: longer than %d bytes", maxWrappedSize)
	}
	provider, rest, ok := strings.Cut(string(w), ":v")
	digits, body, ok2 := strings.Cut(rest, ":")
	if !ok || !ok2 || (provider != vaultName && provider != localName) {
		return 0, fmt.Errorf("wrapped key: not of the form PROVIDER:vVERSION:BASE64")
	}
	version, err := strconv.ParseUint(digits, 10, 31)
	if err != nil || version == 0 || digits[0] == '0' || digits[0] == '+' {
		return 0, fmt.Errorf("wrapped key: its version is not a positive number")
	}
	// Strict, and without line breaks, which Go's decoder ignores: each key has one text only.
	if _, err := base64.StdEncoding.Strict().DecodeString(body); err != nil || body == "" || strings.ContainsAny(body, "\r\n") {
		return 0, fmt.Errorf("wrapped key: its body is not base64")
	}
	return int(version), nil
}
