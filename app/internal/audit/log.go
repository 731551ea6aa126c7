package audit

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"runtime"
	"sync"
	"time"
)

const (
	// checkpointInterval and checkpointLines bound what can be cut off unnoticed.
	checkpointInterval = time.Minute
	checkpointLines    = 1000
	// signTimeout bounds one signature.
	signTimeout = 5 * time.Second
)

// Signer signs with a key that the process cannot read. The signature's form is
// "name:vVERSION:BASE64".
type Signer interface {
	Sign(ctx context.Context, message []byte) (string, error)
}

// Log writes one chain. It is safe for concurrent use.
type Log struct {
	signer   Signer
	log      *slog.Logger
	now      func() time.Time
	refusals refusals

	out     output
	waiting waiting

	mu sync.Mutex
	// text has the lines that are being written.
	text     []byte
	chain    string
	sequence uint64
	previous string
	unsigned int
	ended    bool
	// due wakes Run after checkpointLines lines.
	due chan struct{}
}

// New starts a chain. If out supports deadlines, like the [os.File] of [Output], a line is written
// within a second or refused.
func New(out io.Writer, deployment string, signer Signer, log *slog.Logger) (*Log, error) {
	l := &Log{
		out: output{to: out, log: log, broken: make(chan struct{})}, signer: signer, log: log, now: time.Now,
		chain: rand.Text(), previous: genesis, due: make(chan struct{}, 1),
	}
	return l, l.Write(Event{Action: actionStart, Deployment: deployment})
}

// Errors that callers tell apart with errors.Is.
var (
	// ErrUnavailable means that a line was not written. The action that it records must not happen.
	ErrUnavailable = errors.New("the audit log cannot be written")
	// ErrEnded means that an event came after the end of the chain, from a request that was cut
	// off. It wraps ErrUnavailable.
	ErrEnded = fmt.Errorf("%w: its chain has ended", ErrUnavailable)
	// ErrBroken means that the log's reader has closed it.
	ErrBroken = fmt.Errorf("%w: its reader has closed standard output", ErrUnavailable)
)

// Write adds a line. If it returns no error, the line is written. After an error the line may still
// be written later. Error: ErrUnavailable.
func (l *Log) Write(e Event) error {
	_, err := l.write(e)
	return err
}

// Healthy returns the reason that lines are refused, or nil. It does not block.
func (l *Log) Healthy() error { return l.out.healthy() }

// Broken returns a channel that is closed once the reader has closed the output. The process cannot
// serve then.
func (l *Log) Broken() <-chan struct{} { return l.out.broken }

// write adds a line. It reports whether the log has the line, or will have it once the output
// accepts it.
func (l *Log) write(e Event) (queued bool, err error) {
	w := &entry{record: Record{Event: e}, called: time.Now()}
	l.waiting.add(w)
	// The goroutine that gets the lock first writes the lines of all that wait. Gosched lets ready
	// requests add theirs first, because a write is as expensive as the rest of a line's work.
	runtime.Gosched()
	l.mu.Lock()
	defer l.mu.Unlock()
	if !w.done {
		l.append(l.waiting.take())
	}
	return w.queued, w.err
}

// Run signs checkpoints and writes the lines of counted refusals until ctx ends. Then it signs the
// end of the chain.
func (l *Log) Run(ctx context.Context) {
	tick := time.NewTicker(checkpointInterval)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			l.writeRefusals()
			l.sign(context.WithoutCancel(ctx), actionEnd)
			return
		case <-tick.C:
			l.writeRefusals()
		case <-l.due:
		}
		l.mu.Lock()
		pending := l.unsigned > 0
		l.mu.Unlock()
		if pending {
			l.sign(ctx, actionCheckpoint)
		}
	}
}

// sign adds a line with a signature of the present chain. Events do not wait for the signer: those
// that come meanwhile precede the line, and the next signature covers them. Only the end covers
// everything, and accepts no events meanwhile. If the signer is unavailable, the chain continues,
// and the next checkpoint covers it.
func (l *Log) sign(ctx context.Context, action string) {
	ctx, cancel := context.WithTimeout(ctx, signTimeout)
	defer cancel()
	l.mu.Lock()
	l.ended = action == actionEnd
	r := Record{Version: version, Chain: l.chain, Covers: l.sequence, Event: Event{Action: action}}
	last, unsigned := l.previous, l.unsigned
	l.mu.Unlock()
	var err error
	if r.Signature, err = l.signer.Sign(ctx, r.signed(last)); err == nil {
		w := &entry{record: r, called: time.Now()}
		l.mu.Lock()
		l.append([]*entry{w})
		if w.queued {
			l.unsigned -= unsigned
		}
		l.mu.Unlock()
		err = w.err
	}
	if err != nil {
		l.log.Error("the audit chain could not be signed", "action", action, "error", err.Error())
	}
}
