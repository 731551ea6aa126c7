package audit

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"strings"
	"testing"
	"time"
)

// clocked is a chain that a real Log writes at times that the test sets.
type clocked struct {
	*Log
	t   *testing.T
	out bytes.Buffer
}

// add writes n events. The first is at the offset from the clock's start, and the others follow at
// the distance step.
func (c *clocked) add(n int, offset, step time.Duration, e Event) {
	c.t.Helper()
	for i := range n {
		c.now = func() time.Time { return clockStart.Add(offset + time.Duration(i)*step) }
		if err := c.Write(e); err != nil {
			c.t.Fatal(err)
		}
	}
}

func (c *clocked) checkpoint() { c.sign(context.Background(), actionCheckpoint) }

var clockStart = time.Date(2026, 1, 2, 3, 0, 0, 0, time.UTC)

// TestUnsignedTail checks how many lines of an open chain may be unsigned, and that they are
// reported.
func TestUnsignedTail(t *testing.T) {
	read, summary := Event{Action: "note.read", Outcome: Success}, Event{Action: "session.login", Refused: 2}
	const most, longest = 2 * checkpointLines, 2 * checkpointInterval
	for name, tc := range map[string]struct {
		write func(c *clocked)
		// line is the one that the error names; 0: no error.
		line int
		want Summary
	}{
		"hours without a signature": {write: func(c *clocked) { c.add(20_000, 0, 16*time.Hour/20_000, read) }, line: 1, want: Summary{}},
		"hours, then a signature": {write: func(c *clocked) { c.add(20_000, 0, 16*time.Hour/20_000, read); c.checkpoint() },
			want: Summary{Lines: 20_003, Checkpoints: 2, Unsigned: 1}},
		"hours after a signature":        {write: func(c *clocked) { c.checkpoint(); c.add(200, 0, time.Minute, read) }, line: 5, want: Summary{}},
		"as many lines as are accepted":  {write: func(c *clocked) { c.add(most, 0, 0, read) }, want: Summary{Lines: most + 2, Checkpoints: 1, Unsigned: most + 1}},
		"one line more":                  {write: func(c *clocked) { c.add(most+1, 0, 0, read) }, line: 3, want: Summary{}},
		"as long a span as is accepted":  {write: func(c *clocked) { c.add(2, 0, longest, read) }, want: Summary{Lines: 4, Checkpoints: 1, Unsigned: 3}},
		"a longer span":                  {write: func(c *clocked) { c.add(2, 0, longest+1, read) }, line: 3, want: Summary{}},
		"a span that is hidden inside":   {write: func(c *clocked) { c.add(1, 0, 0, read); c.add(1, time.Hour, 0, read); c.add(1, 0, 0, read) }, line: 3, want: Summary{}},
		"a span before the last line":    {write: func(c *clocked) { c.add(1, 0, 0, read); c.add(1, -time.Hour, 0, read) }, line: 3, want: Summary{}},
		"an event after hours of idling": {write: func(c *clocked) { c.add(1, 3*time.Hour, 0, read) }, want: Summary{Lines: 3, Checkpoints: 1, Unsigned: 2}},
		"signed, idle, signed, idle": {write: func(c *clocked) {
			for i := range 3 {
				c.add(1, time.Duration(i)*time.Hour, 0, read)
				c.checkpoint()
			}
		}, want: Summary{Lines: 8, Checkpoints: 4, Unsigned: 1}},
		"as many events and summaries of refusals as a minute has": {write: func(c *clocked) {
			c.add(checkpointLines-1, 0, 0, read)
			c.add(maxRefusals+1, time.Minute, 0, summary)
		}, want: Summary{Lines: checkpointLines + maxRefusals + 2, Checkpoints: 1, Unsigned: checkpointLines + maxRefusals + 1}},
		"more summaries of refusals than two minutes have": {write: func(c *clocked) { c.add(2*maxRefusals+3, 0, 0, summary) }, line: 3, want: Summary{}},
	} {
		t.Run(name, func(t *testing.T) {
			signer, keys := newSigner(t)
			c := &clocked{t: t}
			var err error
			if c.Log, err = New(&c.out, "d1", signer, slog.New(slog.DiscardHandler)); err != nil {
				t.Fatal(err)
			}
			// The start is signed, except in the chain without any signature.
			if name != "hours without a signature" {
				c.now = func() time.Time { return clockStart }
				c.checkpoint()
			}
			if name == "hours after a signature" {
				c.add(1, 0, 0, read)
			}
			tc.write(c)
			got, err := Verify(strings.NewReader(c.out.String()), keys, true)
			if tc.line != 0 {
				broken, ok := errors.AsType[*BrokenError](err)
				if !ok || broken.Line != tc.line ||
					!strings.Contains(broken.Why, "not signed") || !strings.Contains(broken.Why, "forged") || !strings.Contains(broken.Why, "Vault") {
					t.Errorf("%+v, %v, want line %d", got, err, tc.line)
				}
				return
			}
			tc.want.Chains, tc.want.Open = 1, 1
			if tc.want.UnsignedFrom = got.UnsignedFrom; err != nil || got.UnsignedUntil.Before(got.UnsignedFrom) {
				t.Errorf("%+v, %v", got, err)
			}
			if tc.want.UnsignedUntil = got.UnsignedUntil; got != tc.want {
				t.Errorf("%+v, want %+v", got, tc.want)
			}
		})
	}
}

// TestUnsignedSpan checks the times in the summary of all open chains.
func TestUnsignedSpan(t *testing.T) {
	signer, keys := newSigner(t)
	var text string
	for _, offset := range []time.Duration{time.Hour, 0, 2 * time.Hour} {
		c := &clocked{t: t}
		var err error
		if c.Log, err = New(&c.out, "d1", signer, slog.New(slog.DiscardHandler)); err != nil {
			t.Fatal(err)
		}
		c.now = func() time.Time { return clockStart.Add(offset) }
		c.checkpoint()
		c.add(2, offset, time.Second, Event{Action: "note.read"})
		text += c.out.String()
	}
	text += strings.Join(written(t, signer), "") // an ended chain has no unsigned lines
	got, err := Verify(strings.NewReader(text), keys, true)
	want := Summary{
		Chains: 4, Lines: 25, Checkpoints: 5, Open: 3, Unsigned: 9,
		UnsignedFrom: clockStart, UnsignedUntil: clockStart.Add(2*time.Hour + time.Second),
	}
	if err != nil || got != want {
		t.Errorf("%+v, %v; want %+v", got, err, want)
	}
}

// TestDisguisedLine inserts lines that other JSON parsers read as audit lines, but that do not
// begin with the mark.
func TestDisguisedLine(t *testing.T) {
	for name, tc := range map[string]struct {
		line   string
		edited bool
	}{
		"space after the key":      {line: `{"audit" :2,"action":"note.read"}`, edited: true},
		"space before the key":     {line: `{ "audit":2,"action":"note.read"}`, edited: true},
		"space before the line":    {line: ` {"audit":2,"action":"note.read"}`, edited: true},
		"both":                     {line: "\t{ \"audit\" : 2}", edited: true},
		"escaped":                  {line: `{"\u0061udit":2,"action":"note.read"}`, edited: true},
		"upper case":               {line: `{"AUDIT":2}`, edited: true},
		"upper case and escaped":   {line: `{"\u0041udit":2}`, edited: true},
		"not the first key":        {line: `{"action":"note.read","Audit":2}`, edited: true},
		"twice":                    {line: `{"Audit":2,"Audit":3}`, edited: true},
		"behind another object":    {line: `{"level":"INFO"} {"\u0061udit":2}`, edited: true},
		"behind a byte order mark": {line: "\ufeff" + `{"\u0061udit":2}`, edited: true},
		"behind a time":            {line: `2026-01-02T03:04:05Z {"Audit":2}`, edited: true},
		"of another program":       {line: `{"kind":"Event","audit":true}`, edited: true},
		"service's log":            {line: `{"time":"2026-01-02T03:04:05Z","level":"INFO","msg":"the audit log is written again","audits":1}`},
		"behind a brace":           {line: `{{ "audit" :2}`, edited: true},
		"behind text in braces":    {line: `[I] {x} { "audit" :2}`, edited: true},
		"in another object":        {line: `{"stream":"stdout","log":{ "audit" :2}}`, edited: true},
		"quoted by a collector":    {line: `{"stream":"stdout","log":"{\"audit\":2}"}`, edited: true},
		"quoted and escaped":       {line: `{"log":"{\"\\u0061udit\":2}"}`, edited: true},
		"another value":            {line: `{"level":"INFO","component":"audit","msg":"audit: {2}"}`},
		"text":                     {line: `audit: {2}`},
		"nothing":                  {line: ``},
	} {
		t.Run(name, func(t *testing.T) {
			signer, keys := newSigner(t)
			lines := written(t, signer)
			text := strings.Join(lines[:4], "") + tc.line + "\n" + strings.Join(lines[4:], "")
			summary, err := Verify(strings.NewReader(text), keys, false)
			broken, ok := errors.AsType[*BrokenError](err)
			switch {
			case tc.edited && (!ok || broken.Line != 5 || !strings.Contains(broken.Why, "edited")):
				t.Errorf("%+v, %v; want line 5", summary, err)
			case !tc.edited && (err != nil || summary.Lines != 13):
				t.Errorf("%+v, %v; want 13 lines", summary, err)
			}
		})
	}
}

// TestTextAfterALine checks that text after a line is rejected, also after the last one, which no
// digest covers.
func TestTextAfterALine(t *testing.T) {
	signer, keys := newSigner(t)
	text := strings.Join(written(t, signer), "")
	for _, after := range []string{" x", `{"action":"note.read"}`, " {}"} {
		_, err := Verify(strings.NewReader(text+after), keys, false)
		if broken, ok := errors.AsType[*BrokenError](err); !ok || broken.Line != 13 {
			t.Errorf("%q: %v, want line 13", after, err)
		}
	}
}

// TestLongLines checks that lines of other programs may have any length.
func TestLongLines(t *testing.T) {
	signer, keys := newSigner(t)
	lines := written(t, signer)
	long := strings.Repeat("x", 3*maxLine) + "\n"
	summary, err := Verify(strings.NewReader(long+lines[0]+long+strings.Join(lines[1:], "")), keys, false)
	if err != nil || summary.Lines != len(lines) {
		t.Errorf("%+v, %v; want %d lines", summary, err, len(lines))
	}
}
