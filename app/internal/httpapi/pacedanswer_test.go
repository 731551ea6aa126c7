package httpapi

import (
	"errors"
	"net/http/httptest"
	"os"
	"testing"
	"time"
)

// slowReader is a client that reads at a given rate, by its own clock.
type slowReader struct {
	*httptest.ResponseRecorder
	now, deadline time.Time
	// rate is in bytes a second.
	rate int
}

func (r *slowReader) SetWriteDeadline(at time.Time) error {
	r.deadline = at
	return nil
}

func (r *slowReader) Write(p []byte) (int, error) {
	takes := time.Duration(len(p)) * time.Second / time.Duration(r.rate)
	if left := r.deadline.Sub(r.now); takes > left {
		r.now = r.deadline
		return int(left.Seconds() * float64(r.rate)), os.ErrDeadlineExceeded
	}
	r.now = r.now.Add(takes)
	return len(p), nil
}

// TestExportsHaveALeastRate: a client that reads too slowly loses its export after a grace period,
// however small the lines are. Large lines and a slow database do not end an export.
func TestExportsHaveALeastRate(t *testing.T) {
	for name, tc := range map[string]struct {
		// rate is the client's, in bytes a second. line and lines are what it is sent.
		rate, line, lines int
		// database is how long the database takes for each line.
		database time.Duration
		// most is how long the client may take until it is cut off; 0 means that it is not.
		most time.Duration
	}{
		"small lines, slowly":            {rate: 200, line: 200, lines: 1000, most: exportStall + time.Second},
		"small lines, somewhat too slow": {rate: bodyRate / 2, line: 500, lines: 10_000, most: 2*exportStall + time.Second},
		"small lines, at the rate":       {rate: bodyRate, line: 500, lines: 10_000},
		"a large line, slowly":           {rate: 200, line: maxBody, lines: 1, most: exportStall},
		"large lines, at the rate":       {rate: bodyRate, line: maxBody, lines: 20},
		"a slow database":                {rate: bodyRate, line: 500, lines: 1000, database: time.Minute},
	} {
		t.Run(name, func(t *testing.T) {
			begun := time.Now()
			client := &slowReader{httptest.NewRecorder(), begun, begun, tc.rate}
			a := newPacedAnswer(t.Context(), client, &exportSlot{}, func() time.Time { return client.now })
			var err error
			for range tc.lines {
				client.now = client.now.Add(tc.database)
				if _, err = a.Write(make([]byte, tc.line)); err != nil {
					break
				}
			}
			took := client.now.Sub(begun)
			if cut := errors.Is(err, os.ErrDeadlineExceeded); cut != (tc.most > 0) || cut && took > tc.most {
				t.Errorf("after %s and %d bytes: %v", took, a.slot.sent.Load(), err)
			}
			if want := int64(tc.line * tc.lines); err == nil && a.slot.sent.Load() != want {
				t.Errorf("%d bytes are counted, want %d", a.slot.sent.Load(), want)
			}
		})
	}
}

// TestExportsMayNotPause: reading fast does not earn a client more waiting time than it had at the
// start.
func TestExportsMayNotPause(t *testing.T) {
	client := &slowReader{httptest.NewRecorder(), time.Now(), time.Time{}, 1 << 30}
	a := newPacedAnswer(t.Context(), client, &exportSlot{}, func() time.Time { return client.now })
	if _, err := a.Write(make([]byte, 100<<20)); err != nil {
		t.Fatal(err)
	}
	paused := client.now
	client.rate = 1
	if _, err := a.Write(make([]byte, 100)); !errors.Is(err, os.ErrDeadlineExceeded) || client.now.Sub(paused) > exportStall {
		t.Errorf("after a pause of %s: %v", client.now.Sub(paused), err)
	}
	a.left = -time.Millisecond // as after a write that ended after its deadline
	if n, err := a.Write(make([]byte, 100)); n != 0 || !errors.Is(err, errReadsSlowly) {
		t.Errorf("with no time left: %d bytes are sent, %v", n, err)
	}
}
