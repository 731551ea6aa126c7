package audit

import (
	"bufio"
	"bytes"
	"crypto/ed25519"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
)

const (
	// maxLine bounds a line of a log, in bytes; ours are about 500.
	maxLine = 1 << 20
	// maxUnsigned bounds how many lines back a signature may reach: far more than can be written while one
	// is made.
	maxUnsigned = 1 << 20
)

// PublicKeys are Ed25519 keys by version.
type PublicKeys map[int]ed25519.PublicKey

// ParsePublicKeys reads the keys as Vault gives them: `vault read -format=json transit/keys/NAME`.
func ParsePublicKeys(raw []byte) (PublicKeys, error) {
	var answer struct {
		Data struct {
			Type string `json:"type"`
			Keys map[string]struct {
				PublicKey string `json:"public_key"`
			} `json:"keys"`
		} `json:"data"`
	}
	if err := json.Unmarshal(raw, &answer); err != nil {
		return nil, fmt.Errorf("public keys: %w", err)
	}
	keys := PublicKeys{}
	for text, entry := range answer.Data.Keys {
		n, err := strconv.Atoi(text)
		if err != nil {
			return nil, fmt.Errorf("public keys: version %q is not a number", text)
		}
		key, err := base64.StdEncoding.DecodeString(entry.PublicKey)
		if err != nil || len(key) != ed25519.PublicKeySize {
			return nil, fmt.Errorf("public keys: version %d is not an Ed25519 key", n)
		}
		keys[n] = key
	}
	if len(keys) == 0 {
		return nil, errors.New("public keys: none found; expected what `vault read -format=json transit/keys/NAME` prints")
	}
	return keys, nil
}

// verifies says whether the signature is of the message.
func (k PublicKeys) verifies(message []byte, signature string) bool {
	_, rest, _ := strings.Cut(signature, ":v")
	digits, body, _ := strings.Cut(rest, ":")
	n, err := strconv.Atoi(digits)
	if err != nil || k[n] == nil {
		return false
	}
	raw, err := base64.StdEncoding.DecodeString(body)
	return err == nil && ed25519.Verify(k[n], message, raw)
}

// BrokenError says where a log is not what was written.
type BrokenError struct {
	// Line of the file, from 1; for a chain that was cut off, its last one.
	Line int
	// Why, for a person.
	Why string
}

func (e *BrokenError) Error() string { return fmt.Sprintf("line %d: %s", e.Line, e.Why) }

// Summary is what a verified log holds.
type Summary struct {
	// Chains, Lines and Checkpoints that were verified.
	Chains, Lines, Checkpoints int
}

// chainState is how far a chain has been verified.
type chainState struct {
	lastLine, signedLine int
	sequence             uint64
	previous             string
	ended                bool
	// unsigned are the last lines, the newest being line sequence-1, that no signature covers yet.
	unsigned []unsignedLine
}

type unsignedLine struct {
	digest string
	line   int
}

// Verify reads a log, in which lines that are no audit lines may stand and chains may be interleaved,
// and shows that every chain is whole: from its start, line by line, to its signed end. With allowOpen a
// chain may lack its end, as that of a running process does. The error is a *BrokenError for the first
// line that is wrong.
func Verify(log io.Reader, keys PublicKeys, allowOpen bool) (Summary, error) {
	var summary Summary
	chains := map[string]*chainState{}
	lines := bufio.NewScanner(log)
	lines.Buffer(make([]byte, 0, 64<<10), maxLine)
	number := 0
	for lines.Scan() {
		number++
		line := lines.Bytes()
		r, found, why := parse(line)
		if why != "" {
			return summary, &BrokenError{number, why}
		}
		if !found {
			continue
		}
		chain := chains[r.Chain]
		if chain == nil {
			chain = &chainState{previous: genesis}
			chains[r.Chain] = chain
			summary.Chains++
		}
		if why := chain.follow(r, keys); why != "" {
			return summary, &BrokenError{number, why}
		}
		if r.Signature != "" {
			summary.Checkpoints++
		}
		chain.sequence, chain.previous, chain.lastLine = r.Sequence+1, digest(line), number
		if chain.unsigned = append(chain.unsigned, unsignedLine{chain.previous, number}); len(chain.unsigned) > maxUnsigned {
			chain.unsigned = chain.unsigned[1:]
		}
		summary.Lines++
	}
	if err := lines.Err(); err != nil {
		return summary, fmt.Errorf("line %d: %w", number+1, err)
	}
	return summary, whole(chains, allowOpen)
}

// parse reads a line. A line that has an audit line's mark but is none was changed.
func parse(line []byte) (r Record, found bool, why string) {
	if !bytes.Contains(line, []byte(`"audit":`)) {
		return r, false, ""
	}
	decoder := json.NewDecoder(bytes.NewReader(line))
	decoder.DisallowUnknownFields()
	if err := decoder.Decode(&r); err != nil || r.Version != version {
		return r, false, "it has the mark of an audit line, but was edited or is of another version"
	}
	return r, true, ""
}

// follow says why the record is not the chain's next one; empty when it is.
func (c *chainState) follow(r Record, keys PublicKeys) string {
	signs := r.Action == actionCheckpoint || r.Action == actionEnd
	switch {
	case c.ended:
		return "it comes after the end of its chain"
	case r.Sequence < c.sequence:
		return fmt.Sprintf("line %d of its chain stands here again or out of order", r.Sequence)
	case r.Sequence > c.sequence:
		return fmt.Sprintf("lines %d to %d of its chain are missing before it", c.sequence, r.Sequence-1)
	case r.Previous != c.previous && c.lastLine > 0:
		return fmt.Sprintf("line %d of the file, before it in its chain, was edited", c.lastLine)
	case r.Previous != c.previous, (r.Action == actionStart) != (r.Sequence == 0):
		return "its chain does not begin with it"
	case signs != (r.Signature != ""):
		return "its signature is missing or does not belong here"
	case r.Action == actionEnd && r.Covers != r.Sequence:
		return "its signature does not cover all lines before it, as that of an end does"
	case signs && !c.signed(r, keys):
		return "its signature is not by the given keys: it, or a line before it, is forged"
	}
	c.ended = r.Action == actionEnd
	return ""
}

// signed says whether the record's signature is of the chain up to a line that none covered before.
func (c *chainState) signed(r Record, keys PublicKeys) bool {
	first := c.sequence - uint64(len(c.unsigned))
	if r.Covers <= first || r.Covers > c.sequence {
		return false
	}
	last := c.unsigned[r.Covers-1-first]
	if !keys.verifies(r.signed(last.digest), r.Signature) {
		return false
	}
	c.signedLine, c.unsigned = last.line, c.unsigned[r.Covers-first:]
	return true
}

// whole says which chain was cut off, the one that ends first in the file.
func whole(chains map[string]*chainState, allowOpen bool) error {
	if allowOpen {
		return nil
	}
	var open []*chainState
	for _, chain := range chains {
		if !chain.ended {
			open = append(open, chain)
		}
	}
	if len(open) == 0 {
		return nil
	}
	first := slices.MinFunc(open, func(a, b *chainState) int { return a.lastLine - b.lastLine })
	return &BrokenError{first.lastLine, fmt.Sprintf(
		"its chain is cut off after it (last signed line: %d), or its process was killed or still runs (--allow-open accepts that)", first.signedLine)}
}
