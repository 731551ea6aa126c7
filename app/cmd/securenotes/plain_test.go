package main

import (
	"net/http"
	"path/filepath"
	"strings"
	"testing"
)

// TestPlainHTTPIsRefused checks that a request by http is rejected, and not redirected. A client
// with such a mistake must not send its token in the clear again and again.
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
