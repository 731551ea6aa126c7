package audit

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"sync"
	"time"
)

const (
	// checkpointInterval and checkpointLines bound what a cut can take away unnoticed.
	checkpointInterval = time.Minute
	checkpointLines    = 1000
	// signTimeout bounds one signature.
	signTimeout = 5 * time.Second
)

// Signer signs with a key that the process cannot read. The signature's form is "name:vVERSION:BASE64".
type Signer interface {
	Sign(ctx context.Context, message []byte) (string, error)
}

// Log writes one chain. It is safe for concurrent use.
type Log struct {
	out    io.Writer
	signer Signer
	log    *slog.Logger
	now    func() time.Time

	mu       sync.Mutex
	chain    string
	sequence uint64
	previous string
	unsigned int
	ended    bool
	// due wakes Run when checkpointLines are reached.
	due chan struct{}
}

// New begins a chain.
func New(out io.Writer, deployment string, signer Signer, log *slog.Logger) (*Log, error) {
	l := &Log{out: out, signer: signer, log: log, now: time.Now, chain: rand.Text(), previous: genesis, due: make(chan struct{}, 1)}
	return l, l.Write(Event{Action: actionStart, Deployment: deployment})
}

// ErrEnded means that an event came after the end of the chain: its request was cut off.
var ErrEnded = errors.New("audit: the chain has ended")

// Write adds a line. Errors: ErrEnded.
func (l *Log) Write(e Event) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.ended {
		return ErrEnded
	}
	if err := l.append(Record{Event: e}); err != nil {
		return err
	}
	if l.unsigned++; l.unsigned >= checkpointLines {
		select {
		case l.due <- struct{}{}:
		default:
		}
	}
	return nil
}

// append completes the record and writes it. The caller holds the lock.
func (l *Log) append(r Record) error {
	r.Version, r.Chain, r.Sequence, r.Previous, r.Time = version, l.chain, l.sequence, l.previous, l.now().UTC()
	line, err := json.Marshal(r)
	if err != nil {
		return fmt.Errorf("audit: %w", err)
	}
	if _, err := l.out.Write(append(line, '\n')); err != nil {
		return fmt.Errorf("audit: %w", err)
	}
	l.sequence, l.previous = l.sequence+1, digest(line)
	return nil
}

// Run signs checkpoints until ctx ends, and then the chain's end.
func (l *Log) Run(ctx context.Context) {
	tick := time.NewTicker(checkpointInterval)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			l.sign(context.WithoutCancel(ctx), actionEnd)
			return
		case <-tick.C:
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

// sign adds a line with a signature of the chain as it is now. Events do not wait for the signer: those
// that come meanwhile stand before the line, and are for the next one to sign. Only at the end, which signs
// all, nothing comes any more. When the signer is away the chain goes on, and the next checkpoint signs all of it.
func (l *Log) sign(ctx context.Context, action string) {
	ctx, cancel := context.WithTimeout(ctx, signTimeout)
	defer cancel()
	l.mu.Lock()
	l.ended = action == actionEnd
	r := Record{Chain: l.chain, Covers: l.sequence, Event: Event{Action: action}}
	last, unsigned := l.previous, l.unsigned
	l.mu.Unlock()
	var err error
	if r.Signature, err = l.signer.Sign(ctx, r.signed(last)); err == nil {
		l.mu.Lock()
		defer l.mu.Unlock()
		if err = l.append(r); err == nil {
			l.unsigned -= unsigned
		}
	}
	if err != nil {
		l.log.Error("the audit chain could not be signed", "action", action, "error", err.Error())
	}
}
