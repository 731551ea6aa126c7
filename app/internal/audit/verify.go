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
	"strconv"
	"strings"
	"time"
)

const (
	// maxLine bounds a line of a log, in bytes. Audit lines have about 500.
	maxLine = 1 << 20
	// maxUnsigned bounds the number of lines between a signature and the last line that it covers:
	// far more than a process writes during a signature.
	maxUnsigned = 1 << 20
)

// PublicKeys are Ed25519 keys by version.
type PublicKeys map[int]ed25519.PublicKey

// ParsePublicKeys parses keys in Vault's format: the output of `vault read -format=json
// transit/keys/NAME`.
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

// verifies reports whether the signature is valid for the message.
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

// BrokenError says where a log was changed.
type BrokenError struct {
	// Line of the file, from 1. For a chain that was cut off, it is the last line.
	Line int
	// Why is a phrase for people.
	Why string
}

func (e *BrokenError) Error() string { return fmt.Sprintf("line %d: %s", e.Line, e.Why) }

// Summary describes a verified log.
type Summary struct {
	// Chains, Lines and Checkpoints that were verified.
	Chains, Lines, Checkpoints int
	// Open is the number of chains without a signed end.
	Open int
	// Unsigned is the number of lines that no signature covers: the last ones of open chains. They
	// may have been changed. UnsignedFrom and UnsignedUntil are their first and last time.
	Unsigned                    int
	UnsignedFrom, UnsignedUntil time.Time
}

// chainState is the state of a chain's verification.
type chainState struct {
	// version of the format of all its lines.
	version              int
	lastLine, signedLine int
	sequence             uint64
	previous             string
	ended                bool
	// broken is set once the chain's first wrong line is known. Later lines are skipped.
	broken bool
	// misfit is set when the last line does not match the previous one, until the next line shows
	// which of them was edited.
	misfit *misfit
	// unsigned are the last lines, up to line sequence-1, that no signature covers yet.
	unsigned []unsignedLine
}

type unsignedLine struct {
	digest string
	line   int
	kind   lineKind
	time   time.Time
}

// misfit is two consecutive lines of a chain. The second does not have the digest of the first.
type misfit struct {
	// first and second are line numbers in the file, from 1.
	first, second int
	// digest and sequence belong to the second line.
	digest   string
	sequence uint64
}

// edited returns which of the two lines was edited. next is the chain's next line, or nil. If next
// has the digest of the second line, the second is unchanged, and so the first was edited.
func (m *misfit) edited(next *Record) *BrokenError {
	if next != nil && next.Sequence == m.sequence+1 && next.Previous == m.digest {
		return &BrokenError{m.first, "it was edited"}
	}
	return &BrokenError{m.first, fmt.Sprintf("it was edited, or line %d of the file was, which is the next of its chain and does not match it", m.second)}
}

// Verify checks that every chain of a log is complete and unchanged, from its start to its signed
// end. The log may have other lines, and chains may be interleaved. With allowOpen, a chain may
// lack its end, like that of a running process; the unsigned lines must be no more than a process
// writes in two minutes, and the summary counts them. The error is a *BrokenError for the first
// wrong line.
func Verify(log io.Reader, keys PublicKeys, allowOpen bool) (Summary, error) {
	v := verification{keys: keys, chains: map[string]*chainState{}}
	lines := bufio.NewReaderSize(log, 64<<10)
	for number := 1; ; number++ {
		line, err := readLine(lines)
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return v.summary, fmt.Errorf("line %d: %w", number, err)
		}
		v.line(number, line)
	}
	v.end(allowOpen)
	switch {
	case v.first != nil:
		return v.summary, v.first
	case v.cut != nil:
		return v.summary, v.cut
	}
	return v.summary, nil
}

// readLine returns the next line without its newline, cut to maxLine bytes. No audit line is that
// long, and other lines are only searched for the mark.
func readLine(lines *bufio.Reader) ([]byte, error) {
	var line []byte
	for {
		part, more, err := lines.ReadLine()
		if err != nil {
			return nil, err
		}
		line = append(line, part[:min(len(part), maxLine-len(line))]...)
		if !more {
			return line, nil
		}
	}
}

// verification is the state of a log's verification.
type verification struct {
	keys    PublicKeys
	chains  map[string]*chainState
	summary Summary
	// first is the wrong line with the lowest number so far. A wrong line may be found late, after
	// a later one of another chain.
	first *BrokenError
	// cut is the chain without an end whose last line comes first. It counts only if nothing else
	// is wrong, because an unreadable line may be its continuation.
	cut *BrokenError
}

func (v *verification) found(b *BrokenError) { v.first = earlier(v.first, b) }

func earlier(a, b *BrokenError) *BrokenError {
	if a == nil || b.Line < a.Line {
		return b
	}
	return a
}

func (v *verification) line(number int, line []byte) {
	r, found, why := parse(line)
	if why != "" {
		v.found(&BrokenError{number, why})
	}
	if !found {
		return
	}
	chain := v.chains[r.Chain]
	if chain == nil {
		chain = &chainState{version: r.Version, previous: genesis}
		v.chains[r.Chain] = chain
		v.summary.Chains++
	}
	if broken := chain.follow(r, digest(line), number, v.keys); broken != nil {
		chain.broken = true
		v.found(broken)
	}
	if chain.broken || chain.misfit != nil {
		return
	}
	if r.Signature != "" {
		v.summary.Checkpoints++
	}
	v.summary.Lines++
}

// end finds chains that were cut off.
func (v *verification) end(allowOpen bool) {
	for _, chain := range v.chains {
		switch {
		case chain.broken:
		case chain.misfit != nil:
			v.found(chain.misfit.edited(nil))
		case !chain.ended && !allowOpen:
			v.cut = earlier(v.cut, &BrokenError{chain.lastLine, fmt.Sprintf(
				"its chain is cut off after it (last signed line: %d), or its process was killed or still runs (--allow-open accepts that)", chain.signedLine)})
		case !chain.ended:
			if broken := chain.overdue(); broken != nil {
				v.cut = earlier(v.cut, broken)
			}
			v.summary.add(chain.unsigned)
		}
	}
}

// parse parses a line. A line that only another parser would read as an audit line was changed.
func parse(line []byte) (r Record, found bool, why string) {
	if !bytes.HasPrefix(line, []byte(mark)) {
		if disguised(line) {
			why = "it looks like an audit line, but does not begin as one: it was edited or inserted"
		}
		return r, false, why
	}
	var read struct {
		Record
		// Username1 is the digest of a username in version 1.
		Username1 string `json:"username_sha256"`
	}
	decoder := json.NewDecoder(bytes.NewReader(line))
	decoder.DisallowUnknownFields()
	err := decoder.Decode(&read)
	switch {
	case err == nil && decoder.Decode(&struct{}{}) != io.EOF:
		return r, false, "there is text after the audit line: it was edited"
	case err == nil && read.Version == 1 && read.Username == "":
		read.Username = read.Username1
	case err == nil && read.Version == version && read.Username1 == "":
	default:
		return r, false, "it has the mark of an audit line, but was edited or is of another version"
	}
	return read.Record, true, ""
}

// follow accepts the record on a line of the file as the chain's next one, or returns an error.
func (c *chainState) follow(r Record, sum string, number int, keys PublicKeys) *BrokenError {
	switch {
	case c.broken:
		return nil
	case c.misfit != nil:
		return c.misfit.edited(&r)
	}
	if why := c.unfit(r); why != "" {
		return &BrokenError{number, why}
	}
	if r.Previous != c.previous {
		if r.Covers == r.Sequence && keys.verifies(r.signed(r.Previous), r.Signature) {
			return &BrokenError{c.lastLine, "it was edited"} // the signature covers the original
		}
		c.misfit = &misfit{c.lastLine, number, sum, r.Sequence}
		return nil
	}
	if why := c.unsound(r, keys); why != "" {
		return &BrokenError{number, why}
	}
	c.ended = r.Action == actionEnd
	c.sequence, c.previous, c.lastLine = r.Sequence+1, sum, number
	if c.unsigned = append(c.unsigned, unsignedLine{sum, number, kindOf(r), r.Time}); len(c.unsigned) > maxUnsigned {
		c.unsigned = c.unsigned[1:]
	}
	return nil
}

// unfit returns why the record cannot be the chain's next one; empty: it can.
func (c *chainState) unfit(r Record) string {
	switch {
	case c.ended:
		return "it comes after the end of its chain"
	case r.Version != c.version:
		return fmt.Sprintf("it is of version %d of the format, and its chain of version %d", r.Version, c.version)
	case r.Sequence < c.sequence:
		return fmt.Sprintf("line %d of its chain is repeated or out of order", r.Sequence)
	case r.Sequence > c.sequence:
		return fmt.Sprintf("lines %d to %d of its chain are missing before it", c.sequence, r.Sequence-1)
	case r.Previous != c.previous && c.lastLine == 0, (r.Action == actionStart) != (r.Sequence == 0):
		return "its chain does not begin with it"
	}
	return ""
}

// unsound returns what is wrong with the record's signature or with its absence; empty: nothing.
func (c *chainState) unsound(r Record, keys PublicKeys) string {
	signs := r.Action == actionCheckpoint || r.Action == actionEnd
	switch {
	case signs != (r.Signature != ""):
		return "its signature is missing or does not belong here"
	case r.Action == actionEnd && r.Covers != r.Sequence:
		return "its signature does not cover all lines before it, and that of an end must"
	case signs && !c.signed(r, keys):
		return "its signature is not by the given keys: it or an earlier line is forged"
	}
	return ""
}

// signed reports whether the record's signature is valid for the chain up to a line that no earlier
// signature covers.
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
