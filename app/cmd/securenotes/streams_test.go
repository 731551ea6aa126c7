package main

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// TestLogsGoWhereTheDocumentsSay checks that standard output has the audit log and nothing else,
// and standard error the service's own log.
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
	response, err := client.Get(url + "/api/openapi.yaml") // the service's log records it
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

// TestServiceOutlastsAStalledReader checks that requests are rejected at once while nobody reads
// standard output, and that they succeed again, without a restart, once somebody reads it.
func TestServiceOutlastsAStalledReader(t *testing.T) {
	read, write, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer read.Close()
	before := os.Stdout
	os.Stdout = write
	client, url, stop := devServer(t, filepath.Join(t.TempDir(), "data"))
	os.Stdout = before
	defer write.Close()
	defer stop()
	status := func() int {
		t.Helper()
		response, err := client.Get(url + "/api/notes")
		if err != nil {
			t.Fatal(err)
		}
		defer response.Body.Close()
		if _, err := io.Copy(io.Discard, response.Body); err != nil {
			t.Fatal(err)
		}
		return response.StatusCode
	}
	for range 1000 {
		if status() == http.StatusServiceUnavailable {
			break
		}
	}
	start := time.Now()
	for range 20 {
		if got := status(); got != http.StatusServiceUnavailable {
			t.Fatalf("status %d although the line cannot be written", got)
		}
	}
	if took := time.Since(start); took > 5*time.Second {
		t.Errorf("20 refusals took %s", took)
	}
	go func() { _, _ = io.Copy(io.Discard, read) }()
	for deadline := time.Now().Add(10 * time.Second); status() != http.StatusUnauthorized; {
		if time.Now().After(deadline) {
			t.Fatal("the service does not recover")
		}
	}
}

// TestServiceEndsWithoutAReader checks that the process ends when standard output is closed, so
// that it is restarted with a reader.
func TestServiceEndsWithoutAReader(t *testing.T) {
	read, write, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	go func() { _, _ = io.Copy(io.Discard, read) }()
	before := os.Stdout
	os.Stdout = write
	client, url, cancel, ended := startDev(t, filepath.Join(t.TempDir(), "data"), serveCheaply)
	os.Stdout = before
	defer cancel()
	defer write.Close()
	read.Close()
	response, err := client.Get(url + "/api/notes")
	if err != nil {
		t.Fatal(err)
	}
	response.Body.Close()
	if response.StatusCode != http.StatusServiceUnavailable {
		t.Errorf("status %d although nobody reads the audit log", response.StatusCode)
	}
	select {
	case code := <-ended:
		if code == 0 {
			t.Error("the process ended as if nothing were wrong")
		}
	case <-time.After(30 * time.Second):
		t.Error("the process continues although nobody reads the audit log")
	}
}

// TestReadiness checks that a service that cannot write its audit log is not ready, and says why.
func TestReadiness(t *testing.T) {
	broken := errors.New("broken")
	for name, tc := range map[string]struct{ database, log, want error }{
		"well":     {want: nil},
		"database": {database: broken, want: broken},
		"log":      {log: broken, want: broken},
	} {
		check := readiness(func(context.Context) error { return tc.database }, func() error { return tc.log })
		if err := check(t.Context()); !errors.Is(err, tc.want) {
			t.Errorf("%s: %v, want %v", name, err, tc.want)
		}
	}
}
