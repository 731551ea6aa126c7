package audit

import (
	"context"
	"errors"
	"os"
	"strings"
	"testing"
)

// version1 returns a chain in version 1 of the format, and its keys.
func version1(t testing.TB) ([]string, PublicKeys) {
	t.Helper()
	log, err := os.ReadFile("testdata/version1.log")
	if err != nil {
		t.Fatal(err)
	}
	raw, err := os.ReadFile("testdata/version1-keys.json")
	if err != nil {
		t.Fatal(err)
	}
	keys, err := ParsePublicKeys(raw)
	if err != nil {
		t.Fatal(err)
	}
	return strings.SplitAfter(strings.TrimSuffix(string(log), "\n"), "\n"), keys
}

// TestVersions verifies chains of both versions, also interleaved in one file.
func TestVersions(t *testing.T) {
	for name, tc := range map[string]struct {
		log func(first, second []string) []string
		// line is the first wrong one; 0: none.
		line int
		want Summary
	}{
		"version 1":           {log: func(a, _ []string) []string { return a }, want: Summary{Chains: 1, Lines: 6, Checkpoints: 2}},
		"one after the other": {log: func(a, b []string) []string { return append(append(a, "\n"), b...) }, want: Summary{Chains: 2, Lines: 19, Checkpoints: 4}},
		"version 2 first":     {log: func(a, b []string) []string { return append(append(b, "\n"), a...) }, want: Summary{Chains: 2, Lines: 19, Checkpoints: 4}},
		"interleaved":         {log: interleaved, want: Summary{Chains: 2, Lines: 19, Checkpoints: 4}},
		"version 1 edited": {log: func(a, b []string) []string {
			a[2] = strings.Replace(a[2], `"u"`, `"v"`, 1)
			return append(append(a, "\n"), b...)
		}, line: 3, want: Summary{}},
		"version 2 edited":          {log: func(a, b []string) []string { return append(append(a, "\n"), edit(b, 3)...) }, line: 10, want: Summary{}},
		"version of one line":       {log: func(a, _ []string) []string { a[4] = strings.Replace(a[4], `"audit":1`, `"audit":2`, 1); return a }, line: 5, want: Summary{}},
		"version of all lines":      {log: func(a, _ []string) []string { return replaced(a, `"audit":1`, `"audit":2`) }, line: 2, want: Summary{}},
		"older than it is":          {log: func(_, b []string) []string { return replaced(b, `"audit":2`, `"audit":1`) }, line: 1, want: Summary{}},
		"field of the other":        {log: func(a, _ []string) []string { return replaced(a, "username_sha256", "username_digest") }, line: 2, want: Summary{}},
		"version that is unknown":   {log: func(_, b []string) []string { return replaced(b, `"audit":2`, `"audit":3`) }, line: 1, want: Summary{}},
		"version 1 without a start": {log: func(a, _ []string) []string { return a[1:] }, line: 1, want: Summary{}},
		"version 1 cut off":         {log: func(a, _ []string) []string { return a[:5] }, line: 5, want: Summary{}},
	} {
		t.Run(name, func(t *testing.T) {
			first, keys := version1(t)
			signer, newer := newSigner(t)
			// Vault keeps old versions of a key.
			keys[2] = newer[1]
			summary, err := Verify(strings.NewReader(strings.Join(tc.log(first, written(t, secondKey{signer})), "")), keys, false)
			broken, ok := errors.AsType[*BrokenError](err)
			switch {
			case tc.line == 0 && (err != nil || summary != tc.want):
				t.Errorf("%+v, %v; want %+v", summary, err, tc.want)
			case tc.line != 0 && (!ok || broken.Line != tc.line):
				t.Errorf("error %v, want line %d", err, tc.line)
			}
		})
	}
}

// secondKey signs with version 2 of the key.
type secondKey struct{ testSigner }

// Sign implements Signer.
func (s secondKey) Sign(ctx context.Context, message []byte) (string, error) {
	signature, err := s.testSigner.Sign(ctx, message)
	return strings.Replace(signature, "vault:v1:", "vault:v2:", 1), err
}

func interleaved(a, b []string) []string {
	var all []string
	for i := range max(len(a), len(b)) {
		for _, lines := range [][]string{a, b} {
			if i < len(lines) {
				all = append(all, strings.TrimSuffix(lines[i], "\n")+"\n")
			}
		}
	}
	return all
}

func replaced(lines []string, before, after string) []string {
	for i := range lines {
		lines[i] = strings.Replace(lines[i], before, after, 1)
	}
	return lines
}

// TestVersion1Username checks that the field of version 1 is read as the present one.
func TestVersion1Username(t *testing.T) {
	lines, _ := version1(t)
	r, found, why := parse([]byte(lines[1]))
	if !found || why != "" || r.Username != "2bd806c97f0e00af1a1fc3328fa763a9" {
		t.Errorf("username %q; found %v, %s", r.Username, found, why)
	}
}
