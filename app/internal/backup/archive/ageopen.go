package archive

import (
	"errors"
	"fmt"
	"io"
	"slices"

	"filippo.io/age"
)

// ageReader decrypts a file, and compares the file and what it decrypts to with the manifest. It
// returns io.EOF only after both agree. Every other error is a [Refusal].
type ageReader struct {
	name    string
	want    File
	rekeyed bool
	in      io.Reader
	// plain is what age decrypts, after the header.
	plain io.Reader
	file  *meter
	// fileErr refuses the file, whatever age says.
	fileErr error
	content *meter
	err     error
}

// openAge reads the header of an age file.
func openAge(in io.Reader, identities []age.Identity, want File, name string, rekeyed bool) (*ageReader, error) {
	if len(identities) == 0 {
		return nil, &Refusal{Reason: ErrNoIdentity, Object: name, Cause: "it is encrypted, and no identity was given",
			Next: "give --identity with the file of age-keygen that belongs to one of its recipients"}
	}
	r := &ageReader{name: name, want: want, rekeyed: rekeyed, in: in, file: newMeter(), content: newMeter()}
	var err error
	// age sorts the identities that it gets.
	if r.plain, err = age.Decrypt(fileReader{r}, slices.Clone(identities)...); err != nil {
		return nil, r.refuseHeader(err)
	}
	return r, nil
}

// fileReader reads the file for age. It bounds the header, which age reads without a limit.
type fileReader struct{ *ageReader }

func (r fileReader) Read(p []byte) (int, error) {
	if r.fileErr != nil {
		return 0, r.fileErr
	}
	n, err := r.in.Read(p)
	r.file.add(p[:n])
	switch {
	case err != nil && err != io.EOF:
		r.fileErr = unreadable(r.name, err)
	case !r.rekeyed && r.file.size > r.want.Size:
		r.fileErr = damaged(r.name, fmt.Sprintf("it has more than the %d bytes of the signed manifest, so it is extended or of another backup", r.want.Size))
	case r.plain == nil && r.file.size > maxHeader:
		r.fileErr = damaged(r.name, fmt.Sprintf("its header has more than %d bytes, so it is not a file of a backup", maxHeader))
	default:
		return n, err
	}
	return n, r.fileErr
}

// refuseHeader returns the error of age.Decrypt for people.
func (r *ageReader) refuseHeader(err error) error {
	var noMatch *age.NoIdentityMatchError
	switch {
	case r.fileErr != nil:
		return r.fileErr
	case errors.As(err, &noMatch):
		return &Refusal{Reason: ErrWrongIdentity, Object: r.name, Cause: fmt.Sprintf("it has %d recipients, and no given identity belongs to one of them", len(noMatch.StanzaTypes)),
			Next: "give --identity with the file of age-keygen that belongs to one of its recipients"}
	}
	// The header of an edited file may have any text, so the error does not quote it.
	return damaged(r.name, "age cannot read its header, so the file is edited or truncated, or is not an age file")
}

func unreadable(name string, err error) error {
	return &Refusal{Reason: ErrRead, Object: name, Cause: "it cannot be read", Err: err, Next: "try again"}
}

func (r *ageReader) Read(p []byte) (int, error) {
	if r.err != nil {
		return 0, r.err
	}
	n, err := r.plain.Read(p)
	r.content.add(p[:n])
	if r.content.size > r.want.Content.Size {
		n, r.err = 0, damaged(r.name, fmt.Sprintf("it decrypts to more than the %d bytes of the manifest, so it is extended or of another backup", r.want.Content.Size))
		return n, r.err
	}
	switch {
	case err == nil:
	case err == io.EOF:
		r.err = r.compare()
	case r.fileErr != nil:
		r.err = r.fileErr
	case errors.Is(err, io.ErrUnexpectedEOF) || !r.rekeyed && r.file.size < r.want.Size:
		r.err = damaged(r.name, fmt.Sprintf("it ends after %d bytes, where age has not ended, so it is truncated", r.file.size))
	default:
		r.err = damaged(r.name, fmt.Sprintf("age cannot authenticate it after %d decrypted bytes, so the file is edited, truncated or extended", r.content.size))
	}
	return n, r.err
}

// compare compares the file, which was read to its end, with the manifest.
func (r *ageReader) compare() error {
	if got := r.file.digest(); !r.rekeyed && got != (Digest{r.want.SHA256, r.want.Size}) {
		return differs(r.name, "it", got, Digest{r.want.SHA256, r.want.Size})
	}
	if got := r.content.digest(); got != r.want.Content {
		return differs(r.name, "what it decrypts to", got, r.want.Content)
	}
	return io.EOF
}

// differs returns the refusal of a stream that is not the one of the manifest.
func differs(name, what string, got, want Digest) error {
	return damaged(name, fmt.Sprintf("%s has %d bytes with SHA-256 %s, and the signed manifest says %d bytes with SHA-256 %s, so it is edited or of another backup",
		what, got.Size, got.SHA256, want.Size, want.SHA256))
}

// drain reads to the end, so that everything is compared.
func (r *ageReader) drain() error {
	_, err := io.Copy(io.Discard, r)
	return err
}
