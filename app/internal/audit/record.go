package audit

import (
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"strconv"
	"time"
)

// version of the format of new lines. Version 1 had a plain SHA-256 of usernames, and one line per
// request.
const version = 2

// Record is one line. Its JSON has the fields in this order.
type Record struct {
	// Version of the format.
	Version int `json:"audit"`
	// Chain is the random id of the process's chain.
	Chain string `json:"chain"`
	// Sequence is the number of the line in the chain, from 0.
	Sequence uint64 `json:"seq"`
	// Previous is the SHA-256 of the previous line without its newline, in hex. The first line has
	// zeros.
	Previous string    `json:"prev"`
	Time     time.Time `json:"time"`
	Event
	// Covers is how many lines of the chain the signature covers: those before it, except for lines
	// that were written during the signature.
	Covers uint64 `json:"covers,omitempty"`
	// Signature of a checkpoint or an end, in the signer's format.
	Signature string `json:"signature,omitempty"`
}

// Event is what happened.
type Event struct {
	// Action, such as login or notes.read. The chain itself has start, checkpoint and end.
	Action string `json:"action"`
	// Outcome is one of the constants below.
	Outcome string `json:"outcome,omitempty"`
	Status  int    `json:"status,omitempty"`
	// User is the user's id, if it is known.
	User string `json:"user,omitempty"`
	// Username is a digest of the name that was tried, if the user is not known. It is a digest
	// because people sometimes type a password into the field.
	Username string `json:"username_digest,omitempty"`
	// Factor is the second factor of a login: totp or recovery.
	Factor string `json:"factor,omitempty"`
	// Object is the id of the note or session.
	Object    string `json:"object,omitempty"`
	Address   string `json:"address,omitempty"`
	RequestID string `json:"request_id,omitempty"`
	// Notes and Bytes are the amounts that a streamed answer has sent.
	Notes int `json:"notes,omitempty"`
	Bytes int `json:"bytes,omitempty"`
	// Refused is how many refused requests the line stands for, between From and Until.
	Refused int       `json:"refused,omitempty"`
	From    time.Time `json:"from,omitzero"`
	Until   time.Time `json:"until,omitzero"`
	// Deployment is in the first line.
	Deployment string `json:"deployment,omitempty"`
}

// Outcomes of an event.
const (
	// Intent marks a line that is written before a change or a streamed answer. A line with the
	// outcome follows.
	Intent  = "intent"
	Success = "success"
	// Denied means that the client may not do it.
	Denied = "denied"
	Error  = "error"
	// Incomplete means that a streamed answer was cut off.
	Incomplete = "incomplete"
)

// The chain's own actions.
const (
	actionStart      = "start"
	actionCheckpoint = "checkpoint"
	actionEnd        = "end"
)

func digest(line []byte) string {
	sum := sha256.Sum256(line)
	return hex.EncodeToString(sum[:])
}

// genesis is the digest in the first line, which has no previous one.
const genesis = "0000000000000000000000000000000000000000000000000000000000000000"

// signed returns the message that the signature of a checkpoint or an end covers: the chain up to
// the line with the digest last.
func (r Record) signed(last string) []byte {
	message := []byte("securenotes/audit/v" + strconv.Itoa(r.Version))
	for _, field := range []string{r.Chain, r.Action, last} {
		message = binary.BigEndian.AppendUint32(message, uint32(len(field))) //nolint:gosec // ids and digests
		message = append(message, field...)
	}
	return binary.BigEndian.AppendUint64(message, r.Covers)
}
