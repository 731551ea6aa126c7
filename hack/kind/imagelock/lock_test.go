package imagelock

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestRead checks that a lock with missing or unknown fields is rejected.
func TestRead(t *testing.T) {
	tests := map[string]struct{ content, wantErr string }{
		"whole":         {"images: {vault: {name: example.com/vault, tag: '1.2', digest: 'sha256:ab'}}\n", ""},
		"no digest":     {"images: {vault: {name: example.com/vault, tag: '1.2', digest: ''}}\n", ""},
		"no tag":        {"images: {vault: {name: example.com/vault, digest: 'sha256:ab'}}\n", "no tag"},
		"unknown field": {"images: {vault: {name: example.com/vault, tag: '1.2', sha: 'ab'}}\n", "sha"},
		"no YAML":       {"images: [", "yaml"},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "lock.yaml")
			if err := os.WriteFile(path, []byte(tc.content), 0o600); err != nil {
				t.Fatal(err)
			}
			lock, err := Read(path)
			if tc.wantErr != "" {
				if err == nil || !strings.Contains(err.Error(), tc.wantErr) {
					t.Fatalf("error %v, want %q", err, tc.wantErr)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if _, err := lock.Get(Vault); err != nil {
				t.Error(err)
			}
			if _, err := lock.Get(Postgres); err == nil {
				t.Error("an image was found that the lock does not have")
			}
		})
	}
}

func TestPinned(t *testing.T) {
	tests := map[string]struct {
		image Image
		want  string
	}{
		"with a digest": {Image{"example.com/vault", "1.2", "sha256:ab"}, "example.com/vault@sha256:ab"},
		"without":       {Image{"example.com/vault", "1.2", ""}, "example.com/vault:1.2"},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			if got := tc.image.Pinned(); got != tc.want {
				t.Errorf("got %s, want %s", got, tc.want)
			}
		})
	}
}
