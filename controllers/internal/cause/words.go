package cause

import (
	"encoding/json"
	"regexp"
	"strings"
	"unicode"

	"github.com/securenotes/securenotes/app/config"
)

const (
	// maxWords bounds what is taken over from others, in bytes.
	maxWords = 800
	// maxRead bounds what is searched for it.
	maxRead = 4 * maxWords
)

var (
	reasonPattern = regexp.MustCompile(`^[A-Z][A-Za-z]{1,60}$`)
	// local is the near end of a connection, with a port that is another each time: a message that
	// changes with every look would be a write with every look.
	local = regexp.MustCompile(`(\[[0-9A-Fa-f:.%]+\]|[0-9.]+):[0-9]+->`)
	// secrets are what programs are known to put into their errors: the login in a URI, tokens of
	// Vault (hvs. since 1.10, s. before), and JSON Web Tokens.
	secrets = regexp.MustCompile(`://[^\s/]*@|\bhv[sbr]\.[A-Za-z0-9_.-]+|\b[sbr]\.[A-Za-z0-9_-]{24,}(\.[A-Za-z0-9]+)?|\bey[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+\.[A-Za-z0-9_-]*`)
)

// ReadTermination reads a container's termination message. Anyone who runs pods in the namespace
// can write one, so it is checked and bounded before it becomes a condition.
func ReadTermination(text string) (config.Termination, bool) {
	termination := config.Termination{}
	if len(text) > 4096 || json.Unmarshal([]byte(text), &termination) != nil || !reasonPattern.MatchString(termination.Reason) {
		return config.Termination{}, false
	}
	termination.Message = Words(termination.Message)
	return termination, true
}

// Words makes the words of others fit for a condition: one line, bounded, valid text, and without
// what looks like a secret.
func Words(text string) string {
	cut := len(text) > maxRead
	if cut {
		text = text[:maxRead]
	}
	line := secrets.ReplaceAllStringFunc(text, func(secret string) string {
		if strings.HasPrefix(secret, "://") {
			return "://…@"
		}
		return "…"
	})
	line = local.ReplaceAllString(line, "")
	line = strings.Map(func(r rune) rune {
		if unicode.IsControl(r) || unicode.Is(unicode.Cf, r) || r == unicode.ReplacementChar {
			return ' '
		}
		return r
	}, strings.ToValidUTF8(line, ""))
	if len(line) > maxWords {
		return strings.ToValidUTF8(line[:maxWords], "") + "…"
	}
	if cut {
		return line + "…"
	}
	return line
}

// readable returns no more of a text than [Words] looks at, which must see that it was longer. It
// copies, so that the whole text is not kept in memory.
func readable(text string) string { return strings.Clone(text[:min(len(text), maxRead+1)]) }
