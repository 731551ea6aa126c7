package images

import (
	"fmt"
	"io"
	"log"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/registry"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/tarball"

	"github.com/securenotes/securenotes/hack/kind/imagelock"
)

// TestPull pulls an image from the lock's registry, and checks its name and that a second pull does
// not use the registry.
func TestPull(t *testing.T) {
	server := httptest.NewServer(registry.New(registry.Logger(log.New(io.Discard, "", 0))))
	defer server.Close()
	host := strings.TrimPrefix(server.URL, "http://")
	made, err := Image{Repository: "example.com/hack/vault", Files: []File{{To: "/bin/vault", Data: []byte("a program")}}}.
		Build(filepath.Join(t.TempDir(), "layer.tar"))
	if err != nil {
		t.Fatal(err)
	}
	tag, err := name.NewTag(host + "/hack/vault:1.2")
	if err != nil {
		t.Fatal(err)
	}
	if err := remote.Write(tag, made); err != nil {
		t.Fatal(err)
	}
	digest, err := made.Digest()
	if err != nil {
		t.Fatal(err)
	}
	other := strings.Repeat("0", len(digest.Hex))
	tests := map[string]struct {
		tag, digest string
		says        string
		wantErr     string
	}{
		"by its digest":  {"1.2", digest.String(), "pulling", ""},
		"by its tag":     {"1.2", "", "bin/kind lock", ""},
		"another digest": {"1.2", "sha256:" + other, "", "example.com/hack/vault:1.2"},
		"another tag":    {"9.9", "", "", "example.com/hack/vault:9.9"},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			var said strings.Builder
			p := Puller{
				Say: func(format string, args ...any) { _, _ = fmt.Fprintf(&said, format+"\n", args...) }, Cache: t.TempDir(),
				Lock: imagelock.Lock{Registry: host, Images: map[imagelock.Use]imagelock.Image{
					imagelock.Vault: {Name: "example.com/hack/vault", Tag: tc.tag, Digest: tc.digest},
				}},
			}
			note, err := p.Pull(t.Context())
			if tc.wantErr != "" {
				if err == nil || !strings.Contains(err.Error(), tc.wantErr) {
					t.Fatalf("error %v, want %q", err, tc.wantErr)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if !strings.Contains(said.String(), tc.says) || !strings.Contains(note, "1 pulled") {
				t.Errorf("said %q and %q, want %q and one image", said.String(), note, tc.says)
			}
			pulled, err := p.Get(imagelock.Vault)
			if err != nil {
				t.Fatal(err)
			}
			path, err := pulled.archive(t.TempDir())
			if err != nil {
				t.Fatal(err)
			}
			manifest, err := tarball.LoadManifest(func() (io.ReadCloser, error) { return os.Open(path) })
			if err != nil {
				t.Fatal(err)
			}
			if got, want := fmt.Sprint(manifest[0].RepoTags), "[example.com/hack/vault:1.2]"; got != want {
				t.Errorf("the archive names %s, want %s", got, want)
			}
			p.Lock.Registry = "127.0.0.1:1" // nothing answers there
			if note, err := p.Pull(t.Context()); err != nil || !strings.Contains(note, "1 were here") {
				t.Errorf("the second time: %q, %v; want the image to be here", note, err)
			}
		})
	}
}
