package main

import (
	"bytes"
	"strings"
	"testing"
)

// TestLogLevels: info holds the changes, and debug also the requeues.
func TestLogLevels(t *testing.T) {
	t.Parallel()
	for level, want := range map[string][]string{
		"info":  {`"level":"INFO","msg":"applied an object"`},
		"debug": {`"level":"INFO","msg":"applied an object"`, `"level":"DEBUG","msg":"requeued"`},
	} {
		out := &bytes.Buffer{}
		logger := newLogger(out, level)
		logger.Info("applied an object")
		logger.V(1).Info("requeued")
		logger.V(2).Info("too detailed")
		lines := strings.Split(strings.TrimSpace(out.String()), "\n")
		if len(lines) != len(want) {
			t.Errorf("%s: got lines %q, want %q", level, lines, want)
			continue
		}
		for i, line := range lines {
			if !strings.Contains(line, want[i]) {
				t.Errorf("%s: got line %q, want %q", level, line, want[i])
			}
		}
	}
}
