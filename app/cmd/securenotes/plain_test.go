package main

import (
	"net/http"
	"path/filepath"
	"strings"
	"testing"
)

// TestPlainHTTPIsRefused: who forgets the s in https is told, and not sent on, so that the mistake is
// found before a token has crossed the network many times.
func TestPlainHTTPIsRefused(t *testing.T) {
	_, url, stop := devServer(t, filepath.Join(t.TempDir(), "data"))
	defer stop()
	response, err := http.Get(strings.Replace(url, "https://", "http://", 1) + "/api/notes")
	if err != nil {
		t.Fatal(err)
	}
	response.Body.Close()
	if response.StatusCode != http.StatusBadRequest || response.Header.Get("Location") != "" {
		t.Errorf("answered %s, to %q", response.Status, response.Header.Get("Location"))
	}
}
