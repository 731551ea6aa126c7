package httpapi

import (
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"
)

// deadlines records the deadlines of a request's body.
type deadlines struct {
	*httptest.ResponseRecorder
	all []time.Time
}

func (d *deadlines) SetReadDeadline(at time.Time) error {
	d.all = append(d.all, at)
	return nil
}

// TestBodiesHaveADeadline: a body gets more time only for the bytes that have arrived.
func TestBodiesHaveADeadline(t *testing.T) {
	for name, tc := range map[string]struct {
		size int
		want []time.Duration
	}{
		"small": {size: 100, want: []time.Duration{bodyGrace}},
		"large": {size: 2*bodyStep + 1, want: []time.Duration{bodyGrace, bodyGrace + 8*time.Second, bodyGrace + 16*time.Second}},
	} {
		t.Run(name, func(t *testing.T) {
			d := &deadlines{ResponseRecorder: httptest.NewRecorder()}
			body := newPacedBody(d, httptest.NewRequest(http.MethodPost, "/", strings.NewReader(strings.Repeat("x", tc.size))))
			buffer := make([]byte, bodyStep)
			for {
				if _, err := body.Read(buffer); errors.Is(err, io.EOF) {
					break
				} else if err != nil {
					t.Fatal(err)
				}
			}
			if len(d.all) != len(tc.want) {
				t.Fatalf("%d deadlines, want %d", len(d.all), len(tc.want))
			}
			for i, want := range tc.want {
				if got := d.all[i].Sub(body.start); got != want {
					t.Errorf("deadline %d is %s after the start, want %s", i, got, want)
				}
			}
		})
	}
}
