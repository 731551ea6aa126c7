package audit

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"testing"
)

type testSigner struct{ private ed25519.PrivateKey }

func (s testSigner) Sign(_ context.Context, message []byte) (string, error) {
	if s.private == nil {
		return "", errors.New("away")
	}
	return "vault:v1:" + base64.StdEncoding.EncodeToString(ed25519.Sign(s.private, message)), nil
}

func newSigner(t testing.TB) (testSigner, PublicKeys) {
	t.Helper()
	public, private, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return testSigner{private}, PublicKeys{1: public}
}

// written returns a chain of ten events, a checkpoint after the fifth, and an end: lines 0 to 12.
func written(t testing.TB, signer Signer) []string {
	t.Helper()
	var out bytes.Buffer
	l, err := New(&out, "d1", signer, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	for i := range 10 {
		if err := l.Write(Event{Action: "notes.read", Outcome: "success", Status: 200, User: "u", Object: fmt.Sprint(i)}); err != nil {
			t.Fatal(err)
		}
		if i == 4 {
			l.sign(context.Background(), actionCheckpoint)
		}
	}
	ended, cancel := context.WithCancel(context.Background())
	cancel()
	l.Run(ended)
	return strings.SplitAfter(strings.TrimSuffix(out.String(), "\n"), "\n")
}

func TestWholeLogVerifies(t *testing.T) {
	signer, keys := newSigner(t)
	lines := written(t, signer)
	mixed := "a line of something else\n" + strings.Join(lines, "") + "\n" + strings.Join(written(t, signer), "")
	summary, err := Verify(strings.NewReader(mixed), keys, false)
	if want := (Summary{Chains: 2, Lines: 26, Checkpoints: 4}); err != nil || summary != want {
		t.Errorf("%+v, %v; want %+v", summary, err, want)
	}
}

// TestTampering changes a log in every way, and checks that the error names the first wrong line.
func TestTampering(t *testing.T) {
	signer, keys := newSigner(t)
	for name, tc := range map[string]struct {
		change func([]string) []string
		line   int
	}{
		"edited":                     {change: func(l []string) []string { return edit(l, 3) }, line: 4},
		"edited first line":          {change: func(l []string) []string { l[0] = strings.Replace(l[0], `"d1"`, `"d2"`, 1); return l }, line: 1},
		"edited before a checkpoint": {change: func(l []string) []string { return edit(l, 5) }, line: 6},
		"edited checkpoint":          {change: func(l []string) []string { l[6] = strings.Replace(l[6], `"time":"2`, `"time":"1`, 1); return l }, line: 7},
		"edited before the end":      {change: func(l []string) []string { return edit(l, 11) }, line: 12},
		"edited far apart":           {change: func(l []string) []string { return edit(l, 3, 9) }, line: 4},
		"edited last line":           {change: func(l []string) []string { l[12] = strings.Replace(l[12], "end", "END", 1); return l }, line: 13},
		"field added":                {change: func(l []string) []string { l[3] = strings.Replace(l[3], "{", `{"x":1,`, 1); return l }, line: 4},
		"dropped":                    {change: func(l []string) []string { return append(l[:3:3], l[4:]...) }, line: 4},
		"dropped start":              {change: func(l []string) []string { return l[1:] }, line: 1},
		"reordered":                  {change: func(l []string) []string { l[3], l[4] = l[4], l[3]; return l }, line: 4},
		"repeated":                   {change: func(l []string) []string { return append(l[:4:4], l[3:]...) }, line: 5},
		"cut off":                    {change: func(l []string) []string { return l[:9] }, line: 9},
		"cut in the middle":          {change: func(l []string) []string { l[8] = l[8][:40]; return l[:9] }, line: 9},
		"signature replaced":         {change: func(l []string) []string { l[6] = strings.Replace(l[6], "vault:v1:", "vault:v1:AAAA", 1); return l }, line: 7},
		"signature removed": {change: func(l []string) []string {
			l[6] = l[6][:strings.Index(l[6], `,"signature"`)] + "}\n"
			return l
		}, line: 7},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := Verify(strings.NewReader(strings.Join(tc.change(written(t, signer)), "")), keys, false)
			broken, ok := errors.AsType[*BrokenError](err)
			if !ok || broken.Line != tc.line {
				t.Errorf("error %v, want line %d", err, tc.line)
			}
		})
	}
}

// edit changes a field of lines that have a user.
func edit(lines []string, numbers ...int) []string {
	for _, n := range numbers {
		lines[n] = strings.Replace(lines[n], `"u"`, `"v"`, 1)
	}
	return lines
}

// TestEditedNeighbours checks that the error names both of two lines that do not match if it cannot
// know which one was edited.
func TestEditedNeighbours(t *testing.T) {
	signer, keys := newSigner(t)
	for name, change := range map[string]func([]string) []string{
		"both":                          func(l []string) []string { return edit(l, 3, 4) },
		"the first, cut off afterwards": func(l []string) []string { return edit(l, 3)[:5] },
		"what the second says of the first": func(l []string) []string {
			l[4] = strings.Replace(l[4], `"prev":"`, `"prev":"0`, 1)
			return l
		},
		"the first, and the third is gone": func(l []string) []string { return append(edit(l, 3)[:5:5], l[6:]...) },
	} {
		_, err := Verify(strings.NewReader(strings.Join(change(written(t, signer)), "")), keys, true)
		broken, ok := errors.AsType[*BrokenError](err)
		if !ok || broken.Line != 4 || !strings.Contains(broken.Why, "or line 5") {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// TestFirstOfSeveralChains checks that the error names the first wrong line of the file, whichever
// chain finds it first.
func TestFirstOfSeveralChains(t *testing.T) {
	signer, keys := newSigner(t)
	a, b := edit(written(t, signer), 1), edit(written(t, signer), 1)
	// Line 2 of each chain is edited. That of b comes later in the file, but b continues before a
	// does.
	log := strings.Join(a[:2], "") + strings.Join(b, "") + "\n" + strings.Join(a[2:], "")
	_, err := Verify(strings.NewReader(log), keys, false)
	broken, ok := errors.AsType[*BrokenError](err)
	if !ok || broken.Line != 2 || broken.Why != "it was edited" {
		t.Errorf("error %v, want line 2", err)
	}
}

// TestForgedChain checks that a chain cannot be replaced without the key.
func TestForgedChain(t *testing.T) {
	_, keys := newSigner(t)
	forger, _ := newSigner(t)
	_, err := Verify(strings.NewReader(strings.Join(written(t, forger), "")), keys, false)
	broken, ok := errors.AsType[*BrokenError](err)
	if !ok || broken.Line != 7 {
		t.Errorf("error %v, want line 7, the first that is signed", err)
	}
}

// TestSignerAway checks that events are written while the signer is unavailable, and that the chain
// is open until it is signed.
func TestSignerAway(t *testing.T) {
	_, keys := newSigner(t)
	text := strings.Join(written(t, testSigner{}), "")
	if summary, err := Verify(strings.NewReader(text), keys, true); err != nil || summary.Lines != 11 {
		t.Errorf("%+v, %v", summary, err)
	}
	if _, err := Verify(strings.NewReader(text), keys, false); err == nil {
		t.Error("an open chain was accepted as complete")
	}
}

// slowSigner is a signer that answers when the test allows it.
type slowSigner struct {
	testSigner
	asked, answer chan struct{}
}

func (s slowSigner) Sign(ctx context.Context, message []byte) (string, error) {
	s.asked <- struct{}{}
	<-s.answer
	return s.testSigner.Sign(ctx, message)
}

// TestEventsDoNotWaitForTheSigner checks that events are written during a signature, and that they
// do not count as signed.
func TestEventsDoNotWaitForTheSigner(t *testing.T) {
	signer, keys := newSigner(t)
	slow := slowSigner{signer, make(chan struct{}), make(chan struct{})}
	var out bytes.Buffer
	l, err := New(&out, "d1", slow, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	var signing sync.WaitGroup
	signing.Go(func() { l.sign(context.Background(), actionCheckpoint) })
	<-slow.asked
	if err := l.Write(Event{Action: "meanwhile"}); err != nil {
		t.Fatal(err)
	}
	close(slow.answer)
	signing.Wait()
	if l.unsigned != 1 {
		t.Errorf("%d events are left to sign, want the one that came meanwhile", l.unsigned)
	}
	summary, err := Verify(strings.NewReader(out.String()), keys, true)
	want := Summary{Chains: 1, Lines: 3, Checkpoints: 1, Open: 1, Unsigned: 2, UnsignedFrom: summary.UnsignedFrom, UnsignedUntil: summary.UnsignedUntil}
	if err != nil || summary != want {
		t.Errorf("%+v, %v; want %+v", summary, err, want)
	}
	lines := strings.SplitAfter(out.String(), "\n")
	for name, changed := range map[string]string{
		"the line that is covered":     strings.Replace(out.String(), `"d1"`, `"d2"`, 1),
		"the number of covered lines":  strings.Replace(out.String(), `"covers":1`, `"covers":2`, 1),
		"covers more than there is":    strings.Replace(out.String(), `"covers":1`, `"covers":9`, 1),
		"a signature that comes again": out.String() + strings.Replace(lines[2], `"seq":2`, `"seq":3`, 1),
	} {
		if _, err := Verify(strings.NewReader(changed), keys, true); err == nil {
			t.Errorf("%s: not noticed", name)
		}
	}
}

// TestEndCoversAll checks that no line can be inserted before a signed end, and that no line is
// written during its signature.
func TestEndCoversAll(t *testing.T) {
	signer, keys := newSigner(t)
	slow := slowSigner{signer, make(chan struct{}), make(chan struct{})}
	var out bytes.Buffer
	l, err := New(&out, "d1", slow, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	var signing sync.WaitGroup
	signing.Go(func() { l.sign(context.Background(), actionEnd) })
	<-slow.asked
	if err := l.Write(Event{Action: "too late"}); !errors.Is(err, ErrEnded) {
		t.Errorf("an event during the end: %v", err)
	}
	close(slow.answer)
	signing.Wait()
	lines := strings.SplitAfter(strings.TrimSuffix(out.String(), "\n"), "\n")
	if _, err := Verify(strings.NewReader(out.String()), keys, false); err != nil || len(lines) != 2 {
		t.Fatalf("%d lines, %v", len(lines), err)
	}
	// An attacker who can edit the log can compute digests and numbers, but no signature.
	first, forged := strings.TrimSuffix(lines[0], "\n"), Record{Version: version, Chain: l.chain, Sequence: 1, Event: Event{Action: "session.login"}}
	forged.Previous = digest([]byte(first))
	inserted, err := json.Marshal(forged)
	if err != nil {
		t.Fatal(err)
	}
	end := strings.Replace(lines[1], `"seq":1`, `"seq":2`, 1)
	end = strings.Replace(end, forged.Previous, digest(inserted), 1)
	_, err = Verify(strings.NewReader(first+"\n"+string(inserted)+"\n"+end), keys, false)
	broken, ok := errors.AsType[*BrokenError](err)
	if !ok || broken.Line != 3 {
		t.Errorf("a line that was inserted before the end: %v", err)
	}
}

func TestConcurrentEvents(t *testing.T) {
	signer, keys := newSigner(t)
	var out bytes.Buffer
	l, err := New(&out, "d1", signer, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	var all, running sync.WaitGroup
	running.Go(func() { l.Run(ctx) })
	for range 8 {
		all.Go(func() {
			for range 500 {
				if err := l.Write(Event{Action: "login"}); err != nil {
					t.Error(err)
				}
			}
		})
	}
	all.Wait()
	cancel()
	running.Wait()
	summary, err := Verify(&out, keys, false)
	if err != nil || summary.Lines < 4002 || summary.Checkpoints < 2 {
		t.Errorf("%+v, %v", summary, err)
	}
}

// FuzzParsePublicKeys checks that a file is rejected, or that all of its keys are valid.
func FuzzParsePublicKeys(f *testing.F) {
	f.Add([]byte(`{"data":{"type":"ed25519","keys":{"1":{"public_key":"11qYAYKxCrfVS/7TyWQHOg7hcvPapiMlrwIaaPcHURo="}}}}`))
	f.Add([]byte(`{"data":{"keys":{"one":{"public_key":"YQ=="}}}}`))
	f.Fuzz(func(t *testing.T, raw []byte) {
		keys, err := ParsePublicKeys(raw)
		if (err == nil) != (len(keys) > 0) {
			t.Fatalf("%d keys, %v", len(keys), err)
		}
		for version, key := range keys {
			if len(key) != ed25519.PublicKeySize {
				t.Errorf("version %d has %d bytes", version, len(key))
			}
		}
		keys.verifies([]byte("m"), "vault:v1:"+string(raw))
	})
}

func FuzzVerify(f *testing.F) {
	signer, keys := newSigner(f)
	f.Add(strings.Join(written(f, signer), ""))
	f.Add(`{"audit":1}`)
	f.Add(`{"audit":2,"username_sha256":"x"}`)
	f.Add(`{"audit" :2,"action":"note.read"}`)
	f.Add(`{"\u0061udit":2,"action":"note.read"}`)
	f.Add(`{"level":"INFO"} {"AUDIT":2}`)
	f.Add(`{"level":"INFO","msg":"the audit log is written again"}`)
	old, _ := version1(f)
	f.Add(strings.Join(old, ""))
	f.Add(strings.Join(interleaved(old, written(f, signer)), ""))
	f.Fuzz(func(t *testing.T, text string) {
		summary, err := Verify(strings.NewReader(text), keys, false)
		if err == nil && summary.Lines > 0 && summary.Checkpoints < summary.Chains {
			t.Errorf("%+v: a chain without a signature passed", summary)
		}
		for line := range strings.Lines(text) {
			r, found, why := parse([]byte(line))
			if found && (why != "" || r.Version < 1 || r.Version > version) || !found && r.Version != 0 {
				t.Errorf("version %d, found %v, %q: %s", r.Version, found, why, line)
			}
			// encoding/json ignores the case of keys, like the most lenient parsers.
			var other struct {
				Audit json.RawMessage `json:"audit"`
			}
			if json.Unmarshal([]byte(line), &other) == nil && other.Audit != nil && !found && why == "" {
				t.Errorf("skipped, but another parser reads it as an audit line: %s", line)
			}
		}
	})
}
