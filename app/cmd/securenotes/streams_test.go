package main

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestLogsGoWhereTheDocumentsSay: the audit log, and nothing else, to standard output; the service's own log to
// standard error.
func TestLogsGoWhereTheDocumentsSay(t *testing.T) {
	dir := t.TempDir()
	redirected := func(stream **os.File, name string) (restored func() string) {
		t.Helper()
		file, err := os.Create(filepath.Join(dir, name))
		if err != nil {
			t.Fatal(err)
		}
		before := *stream
		*stream = file
		return func() string {
			*stream = before
			file.Close()
			raw, err := os.ReadFile(file.Name())
			if err != nil {
				t.Fatal(err)
			}
			return string(raw)
		}
	}
	restoreOut, restoreErr := redirected(&os.Stdout, "stdout"), redirected(&os.Stderr, "stderr")
	client, url, stop := devServer(t, filepath.Join(dir, "data"))
	response, err := client.Get(url + "/api/openapi.yaml") // which has a line in the service's log
	if err == nil {
		response.Body.Close()
	}
	stop()
	stdout, stderr := restoreOut(), restoreErr()
	if err != nil {
		t.Fatal(err)
	}
	lines := 0
	for line := range strings.Lines(stdout) {
		var record struct{ Audit int }
		if err := json.Unmarshal([]byte(line), &record); err != nil || record.Audit != 2 {
			t.Errorf("no audit line on standard output: %s", line)
		}
		lines++
	}
	if lines < 3 { // the start, a refused request and the end
		t.Errorf("%d audit lines on standard output:\n%s", lines, stdout)
	}
	if !strings.Contains(stderr, `"msg":"request"`) || strings.Contains(stderr, `"audit":`) {
		t.Errorf("standard error:\n%s", stderr)
	}
}
