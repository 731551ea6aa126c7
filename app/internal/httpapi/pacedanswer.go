package httpapi

import (
	"context"
	"fmt"
	"net/http"
	"os"
	"time"
)

// exportStall is how long an export waits for a client that reads nothing. What the client reads
// earns back waiting time, at bodyRate. A client that reads more slowly loses its export in the
// end.
const exportStall = 30 * time.Second

// errReadsSlowly means that the client has used up its waiting time.
var errReadsSlowly = fmt.Errorf("%w: the client reads too slowly", os.ErrDeadlineExceeded)

// pacedAnswer is a streamed answer that the client must read at a minimum rate. The time that the
// service itself needs between two writes does not count.
type pacedAnswer struct {
	out     http.ResponseWriter
	control *http.ResponseController
	slot    *exportSlot
	now     func() time.Time
	// ctx ends when the answer is cut off.
	ctx  context.Context
	stop context.CancelCauseFunc
	// left is how long the client may still keep the answer waiting.
	left time.Duration
}

func newPacedAnswer(ctx context.Context, w http.ResponseWriter, s *exportSlot, now func() time.Time) *pacedAnswer {
	a := &pacedAnswer{out: w, control: http.NewResponseController(w), slot: s, now: now, left: exportStall}
	a.ctx, a.stop = context.WithCancelCause(ctx)
	s.preempt = a.cutOff
	return a
}

// cutOff ends the answer, whatever it waits for.
func (a *pacedAnswer) cutOff() {
	a.stop(errPreempted) // before the deadline is set: see extend
	_ = a.control.SetWriteDeadline(a.now())
}

// extend moves the deadline of the connection, or of the stream of HTTP/2. It returns the cause if
// the answer was cut off.
func (a *pacedAnswer) extend(d time.Duration) error {
	if err := a.control.SetWriteDeadline(a.now().Add(d)); err != nil {
		return err
	}
	if a.ctx.Err() == nil {
		return nil
	}
	// The deadline that cutOff has set may have been overwritten.
	_ = a.control.SetWriteDeadline(a.now())
	return context.Cause(a.ctx)
}

// Write implements io.Writer. It sends large values in pieces, so that each of them has a deadline.
func (a *pacedAnswer) Write(p []byte) (n int, err error) {
	for n < len(p) && err == nil {
		var sent int
		sent, err = a.writePiece(p[n:min(n+bodyStep, len(p))])
		n += sent
		a.slot.sent.Add(int64(sent))
		a.left = min(a.left+time.Duration(sent)*time.Second/bodyRate, exportStall)
	}
	return n, err
}

// writePiece writes p and counts the time as the client's. Errors: errReadsSlowly and extend's.
func (a *pacedAnswer) writePiece(p []byte) (int, error) {
	start, err := a.startWaiting()
	if err != nil {
		return 0, err
	}
	defer a.stopWaiting(start)
	return a.out.Write(p)
}

// flush sends what was written and counts the time as the client's.
func (a *pacedAnswer) flush() error {
	start, err := a.startWaiting()
	if err != nil {
		return err
	}
	defer a.stopWaiting(start)
	return a.control.Flush()
}

func (a *pacedAnswer) startWaiting() (time.Time, error) {
	if a.left <= 0 {
		return time.Time{}, errReadsSlowly
	}
	start := a.now()
	return start, a.extend(a.left)
}

func (a *pacedAnswer) stopWaiting(start time.Time) { a.left -= a.now().Sub(start) }
