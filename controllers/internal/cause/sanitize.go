package cause

import (
	"encoding/json"
	"regexp"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/securenotes/securenotes/app/config"
	"github.com/securenotes/securenotes/app/config/truncate"
)

const (
	// maxMessage is the maximum length of a quoted message, in bytes.
	maxMessage = 800
	// maxInput is how much of a message is read, in bytes.
	maxInput = 4 * maxMessage
)

var (
	reasonPattern = regexp.MustCompile(`^[A-Z][A-Za-z]{1,60}$`)
	// localAddress is the local address of a connection. Its port changes each time, and each
	// change of a message is a write.
	localAddress = regexp.MustCompile(`(\[[0-9A-Fa-f:.%]+\]|[0-9.]+):[0-9]+->`)
	// secrets matches what programs are known to write to their errors: credentials in a URI, Vault
	// tokens (hvs. since 1.10, s. before), and JSON Web Tokens.
	secrets = regexp.MustCompile(`://[^\s/]*@|\bhv[sbr]\.[A-Za-z0-9_.-]+|\b[sbr]\.[A-Za-z0-9_-]{24,}(\.[A-Za-z0-9]+)?|\bey[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+\.[A-Za-z0-9_-]*`)
)

// ReadTermination parses the termination message of a container. Anyone who runs pods in the
// namespace can write one, so it is validated and bounded before it becomes a condition.
func ReadTermination(text string) (config.Termination, bool) {
	termination := config.Termination{}
	if len(text) > 4096 || json.Unmarshal([]byte(text), &termination) != nil || !reasonPattern.MatchString(termination.Reason) {
		return config.Termination{}, false
	}
	termination.Message = Sanitize(termination.Message)
	return termination, true
}

// Sanitize makes a message of another program fit for a condition: one line of valid UTF-8,
// bounded, and without what looks like a secret.
func Sanitize(text string) string {
	cut := len(text) > maxInput
	text = truncate.Bytes(text, maxInput)
	line := secrets.ReplaceAllStringFunc(text, func(secret string) string {
		if strings.HasPrefix(secret, "://") {
			return "://…@"
		}
		return "…"
	})
	line = localAddress.ReplaceAllString(line, "")
	line = strings.Map(func(r rune) rune {
		if unicode.IsControl(r) || unicode.Is(unicode.Cf, r) || r == unicode.ReplacementChar {
			return ' '
		}
		return r
	}, strings.ToValidUTF8(line, ""))
	if cut || len(line) > maxMessage {
		return truncate.Bytes(line, maxMessage) + "…"
	}
	return line
}

// readable returns the part of a text that [Sanitize] reads, and one rune more, so that Sanitize
// sees that the text was longer.
func readable(text string) string { return truncate.Bytes(text, maxInput+utf8.UTFMax) }
