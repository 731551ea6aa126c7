package httpapi

import (
	"context"
	"fmt"
	"net/http"
	"os"
	"time"
)

// exportStall is how long an export waits for a client that reads nothing. What the client reads
// gives back time that was spent waiting, at bodyRate: a client that reads more slowly loses its
// export in the end.
const exportStall = 30 * time.Second

// errReadsSlowly means that the client has used up its time.
var errReadsSlowly = fmt.Errorf("%w: the client reads too slowly", os.ErrDeadlineExceeded)

// pacedAnswer is a streamed answer that the client must read at a least rate. The time that the
// service itself needs between two writes does not count.
type pacedAnswer struct {
	out     http.ResponseWriter
	control *http.ResponseController
	place   *place
	now     func() time.Time
	// ctx ends when the answer is cut off.
	ctx  context.Context
	stop context.CancelCauseFunc
	// left is how long the client may keep the answer waiting.
	left time.Duration
}

func newPacedAnswer(ctx context.Context, w http.ResponseWriter, p *place, now func() time.Time) *pacedAnswer {
	a := &pacedAnswer{out: w, control: http.NewResponseController(w), place: p, now: now, left: exportStall}
	a.ctx, a.stop = context.WithCancelCause(ctx)
	p.cut = a.cutOff
	return a
}

// cutOff ends the answer, whatever it waits for.
func (a *pacedAnswer) cutOff() {
	a.stop(errMadeRoom) // first: see extend
	_ = a.control.SetWriteDeadline(a.now())
}

// extend moves the deadline of the connection, or of the stream of HTTP/2. Errors: that of an
// answer that was cut off.
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
		piece := p[n:min(n+bodyStep, len(p))]
		var sent int
		err = a.wait(func() (err error) {
			sent, err = a.out.Write(piece)
			return err
		})
		n += sent
		a.place.sent.Add(int64(sent))
		a.left = min(a.left+time.Duration(sent)*time.Second/bodyRate, exportStall)
	}
	return n, err
}

func (a *pacedAnswer) flush() error { return a.wait(a.control.Flush) }

// wait calls send and counts its time as the client's. Errors: errReadsSlowly, extend's and send's.
func (a *pacedAnswer) wait(send func() error) error {
	if a.left <= 0 {
		return errReadsSlowly
	}
	begun := a.now()
	if err := a.extend(a.left); err != nil {
		return err
	}
	err := send()
	a.left -= a.now().Sub(begun)
	return err
}
