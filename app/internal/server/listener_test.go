package server

import (
	"errors"
	"os"
	"path/filepath"
	"testing"
)

// TestListenRefusesABadCertificate: the error differs from that of a port that is in use.
func TestListenRefusesABadCertificate(t *testing.T) {
	directory := t.TempDir()
	cert, key := filepath.Join(directory, "tls.crt"), filepath.Join(directory, "tls.key")
	listen := func() error {
		_, err := Listen(t.Context(), "127.0.0.1:0", cert, key, Options{})
		return err
	}
	if err := listen(); !errors.Is(err, ErrCertificate) || !errors.Is(err, os.ErrNotExist) {
		t.Errorf("without files: %v", err)
	}
	for _, file := range []string{cert, key} {
		if err := os.WriteFile(file, []byte("no PEM"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if err := listen(); !errors.Is(err, ErrCertificate) {
		t.Errorf("without PEM: %v", err)
	}
}
