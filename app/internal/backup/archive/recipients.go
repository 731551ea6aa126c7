package archive

import (
	"bytes"
	"fmt"
	"io"
	"os"
	"strings"

	"filippo.io/age"

	"github.com/securenotes/securenotes/app/config"
)

// The forms of recipients and identities.
const (
	hybridRecipientPrefix = "age1pq1"
	hybridIdentityPrefix  = "AGE-SECRET-KEY-PQ-1"
	x25519IdentityPrefix  = "AGE-SECRET-KEY-1"
)

// ParseRecipients parses recipients of the forms age1… (X25519) and age1pq1… (hybrid). All must be
// of the same form.
func ParseRecipients(texts []string) ([]age.Recipient, error) {
	if len(texts) == 0 {
		return nil, fmt.Errorf("there is no recipient: give one or more of the form age1… or age1pq1…")
	}
	if len(texts) > config.MaxRecipients {
		return nil, fmt.Errorf("there are %d recipients: give at most %d, because readers bound the header of a file", len(texts), config.MaxRecipients)
	}
	recipients := make([]age.Recipient, 0, len(texts))
	hybrid := 0
	for i, text := range texts {
		var recipient age.Recipient
		var err error
		if strings.HasPrefix(text, hybridRecipientPrefix) {
			hybrid++
			recipient, err = age.ParseHybridRecipient(text)
		} else {
			recipient, err = age.ParseX25519Recipient(text)
		}
		if err != nil { // which may quote an identity that was given by mistake
			return nil, fmt.Errorf("recipient %d is not a public key of age, of the form age1… or age1pq1… and with a correct checksum: copy it again from the output of `age-keygen -y`", i+1)
		}
		recipients = append(recipients, recipient)
	}
	if hybrid > 0 && hybrid < len(texts) {
		return nil, fmt.Errorf("the recipients are of both forms, age1… and age1pq1…, which age refuses to mix: give only one form")
	}
	return recipients, nil
}

// ReadIdentities reads a file of age-keygen: one identity per line, of the forms AGE-SECRET-KEY-1…
// and AGE-SECRET-KEY-PQ-1…. Its errors do not quote the file.
func ReadIdentities(path string) ([]age.Identity, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("identities: %w", err)
	}
	defer f.Close()
	raw, err := io.ReadAll(io.LimitReader(f, maxIdentities+1))
	if err != nil {
		return nil, fmt.Errorf("identities: %w", err)
	}
	if len(raw) > maxIdentities {
		return nil, fmt.Errorf("identities: %s has more than %d bytes: give a file that age-keygen wrote", path, maxIdentities)
	}
	identities, err := parseIdentities(raw)
	if err != nil {
		return nil, fmt.Errorf("identities: %s: %w", path, err)
	}
	return identities, nil
}

func parseIdentities(raw []byte) ([]age.Identity, error) {
	if bytes.HasPrefix(raw, []byte("age-encryption.org/v1\n")) || bytes.HasPrefix(raw, []byte("-----BEGIN AGE")) {
		return nil, fmt.Errorf("it is encrypted: decrypt it with `age -d` first")
	}
	var identities []age.Identity
	n := 0
	for line := range strings.Lines(string(raw)) {
		n++
		line = strings.TrimSpace(line)
		if line == "" || strings.HasPrefix(line, "#") {
			continue
		}
		var identity age.Identity
		var err error
		switch {
		case strings.HasPrefix(line, hybridIdentityPrefix):
			identity, err = age.ParseHybridIdentity(line)
		case strings.HasPrefix(line, x25519IdentityPrefix):
			identity, err = age.ParseX25519Identity(line)
		default:
			err = ErrNoIdentity
		}
		if err != nil {
			return nil, fmt.Errorf("line %d is not an identity of the form %s… or %s…: give a file that age-keygen wrote", n, x25519IdentityPrefix, hybridIdentityPrefix)
		}
		identities = append(identities, identity)
	}
	if len(identities) == 0 {
		return nil, fmt.Errorf("%w in it: give a file that age-keygen wrote", ErrNoIdentity)
	}
	return identities, nil
}
