package archive

import (
	"fmt"
	"io"

	"filippo.io/age"
)

// Rekey decrypts a file of a backup and encrypts its content to other recipients, without reading
// the content. want is what the signed manifest says of the file; name is for messages. If rekeyed,
// the input is itself such a copy. On error, what was written to out must be discarded.
func Rekey(out io.Writer, in io.Reader, identities []age.Identity, recipients []age.Recipient, want File, name string, rekeyed bool) error {
	content, err := openAge(in, identities, want, name, rekeyed)
	if err != nil {
		return err
	}
	w, err := age.Encrypt(out, recipients...)
	if err != nil {
		return fmt.Errorf("%s: encrypt to the new recipients: %w", name, err)
	}
	if _, err := io.Copy(w, content); err != nil {
		return err
	}
	if err := w.Close(); err != nil {
		return fmt.Errorf("%s: write: %w", name, err)
	}
	return nil
}
