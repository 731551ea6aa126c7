package audit

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"testing"
)

// TestRefusalsAreBounded checks that the number of lines in a minute is bounded, however many
// addresses are refused, and that they account for every refusal.
func TestRefusalsAreBounded(t *testing.T) {
	const networks, each = 5_000, 4
	signer, keys := newSigner(t)
	var out bytes.Buffer
	l, err := New(&out, "d1", signer, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	var all sync.WaitGroup
	for range each {
		all.Go(func() {
			for i := range networks {
				network := fmt.Sprintf("192.0.%d.%d", i/256, i%256)
				if err := l.Refused(Event{Action: "session.login", Outcome: Denied, Status: 429, Address: network}, network); err != nil {
					t.Error(err)
				}
			}
		})
	}
	all.Wait()
	ended, cancel := context.WithCancel(context.Background())
	cancel()
	l.Run(ended)
	if _, err := Verify(bytes.NewReader(out.Bytes()), keys, false); err != nil {
		t.Error(err)
	}
	lines, refused := 0, 0
	for text := range strings.Lines(out.String()) {
		var r Record
		if err := json.Unmarshal([]byte(text), &r); err != nil {
			t.Fatal(err)
		}
		switch {
		case r.Refused > 0:
			lines, refused = lines+1, refused+r.Refused
			if r.From.IsZero() || r.Until.Before(r.From) {
				t.Errorf("the line does not have the times of the first and the last refusal: %s", text)
			}
		case r.Status == 429:
			lines, refused = lines+1, refused+1
		}
	}
	if most := 2*maxRefusals + 1; lines > most || refused != networks*each {
		t.Errorf("%d lines tell of %d refusals, want at most %d lines and %d refusals", lines, refused, most, networks*each)
	}
}

// TestRefusalsOutlastAStall checks that refusals that were counted while the log could not be
// written are logged afterwards.
func TestRefusalsOutlastAStall(t *testing.T) {
	signer, _ := newSigner(t)
	out := &halfway{asked: make(chan struct{})}
	l, err := New(out, "d1", signer, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	event := Event{Action: "session.login", Outcome: Denied, Status: 429}
	for range 3 { // the first has a line, the others are counted
		if err := l.Refused(event, "a"); err != nil {
			t.Fatal(err)
		}
	}
	out.set(true)
	_ = l.Write(Event{Action: "cut"})
	<-out.asked
	if err := l.Refused(event, "a"); err != nil {
		t.Errorf("a counted refusal: %v", err)
	}
	if err := l.Refused(event, "b"); err == nil {
		t.Error("a refusal without a written line counts as recorded")
	}
	l.writeRefusals() // fails
	if err := l.Refused(event, "a"); err != nil {
		t.Errorf("a counted refusal after the failed line: %v", err)
	}
	out.set(false)
	for l.Healthy() != nil {
		waitABit()
	}
	l.writeRefusals()
	if text := out.text.String(); strings.Count(text, `"refused":4`) != 1 || strings.Count(text, `"status":429`) != 2 {
		t.Errorf("want one line for the first refusal, and one for four others:\n%s", text)
	}
}
