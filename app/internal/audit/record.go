package audit

import (
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"strconv"
	"time"
)

// version of the format that is written. Version 1 had a plain SHA-256 of usernames, and one line a
// request.
const version = 2

// Record is one line. Its JSON has the fields in this order.
type Record struct {
	// Version of the format.
	Version int `json:"audit"`
	// Chain is the random id of the process's chain.
	Chain string `json:"chain"`
	// Sequence counts the chain's lines from 0.
	Sequence uint64 `json:"seq"`
	// Previous is the SHA-256, in hex, of the line before without its end; zeros for the first.
	Previous string    `json:"prev"`
	Time     time.Time `json:"time"`
	Event
	// Covers is how many lines of the chain the signature is of: those before it, without the ones that were
	// written while it was made.
	Covers uint64 `json:"covers,omitempty"`
	// Signature of a checkpoint or an end, as the signer gives it.
	Signature string `json:"signature,omitempty"`
}

// Event is what happened.
type Event struct {
	// Action such as login or notes.read; start, checkpoint and end are the chain's own.
	Action string `json:"action"`
	// Outcome is one of the constants below.
	Outcome string `json:"outcome,omitempty"`
	Status  int    `json:"status,omitempty"`
	// User is the user's id, where it is known.
	User string `json:"user,omitempty"`
	// Username is a digest of the name that was tried, where the user is not known: people now and
	// then type a password there.
	Username string `json:"username_digest,omitempty"`
	// Factor is the second factor that a login was made with, totp or recovery.
	Factor string `json:"factor,omitempty"`
	// Object is the id of the note or session that was acted on.
	Object    string `json:"object,omitempty"`
	Address   string `json:"address,omitempty"`
	RequestID string `json:"request_id,omitempty"`
	// Notes and Bytes are what has left in an answer that was streamed.
	Notes int `json:"notes,omitempty"`
	Bytes int `json:"bytes,omitempty"`
	// Refused is how many requests the line stands for that were refused between From and Until.
	Refused int       `json:"refused,omitempty"`
	From    time.Time `json:"from,omitzero"`
	Until   time.Time `json:"until,omitzero"`
	// Deployment is in the first line.
	Deployment string `json:"deployment,omitempty"`
}

// Outcomes of an event.
const (
	// Intent is of a line that is written before something is changed or streamed. Another with its
	// outcome follows.
	Intent  = "intent"
	Success = "success"
	// Denied is of what the client is told not to do.
	Denied = "denied"
	Error  = "error"
	// Incomplete is of a streamed answer that was cut off.
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

// genesis is what the first line has for the digest of the one before.
const genesis = "0000000000000000000000000000000000000000000000000000000000000000"

// signed is what a checkpoint's or an end's signature is of: all that the chain was up to a line, of which
// last is the digest.
func (r Record) signed(last string) []byte {
	message := []byte("securenotes/audit/v" + strconv.Itoa(r.Version))
	for _, field := range []string{r.Chain, r.Action, last} {
		message = binary.BigEndian.AppendUint32(message, uint32(len(field))) //nolint:gosec // ids and digests
		message = append(message, field...)
	}
	return binary.BigEndian.AppendUint64(message, r.Covers)
}
