package release

import (
	"io"
	"log"
	"net/http/httptest"
	"os"
	"regexp"
	"strings"
	"testing"

	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/registry"
	"github.com/google/go-containerregistry/pkg/v1/random"
	"github.com/google/go-containerregistry/pkg/v1/remote"
)

// TestPin asks a registry for the digests, and fails rather than leave an image without one.
func TestPin(t *testing.T) {
	server := httptest.NewServer(registry.New(registry.Logger(log.New(io.Discard, "", 0))))
	defer server.Close()
	host := strings.TrimPrefix(server.URL, "http://")
	base := host + "/library/golang:1.2.3-bookworm"
	tag, err := name.NewTag(base)
	if err != nil {
		t.Fatal(err)
	}
	index, err := random.Index(64, 1, 2)
	if err != nil {
		t.Fatal(err)
	}
	if err := remote.WriteIndex(tag, index); err != nil {
		t.Fatal(err)
	}
	digest, err := index.Digest()
	if err != nil {
		t.Fatal(err)
	}
	pinned := base + "@" + digest.String()
	tests := map[string]struct{ dockerfile, want, wantErr string }{
		"a tag":             {dockerfile: "FROM " + base + "\nRUN true\n", want: "FROM " + pinned + "\nRUN true\n"},
		"with a platform":   {dockerfile: "FROM --platform=$BUILDPLATFORM " + base + " AS build\nFROM scratch\n", want: "FROM --platform=$BUILDPLATFORM " + pinned + " AS build\nFROM scratch\n"},
		"stages":            {dockerfile: "FROM scratch AS base\nFROM base AS one\nfrom one as two\n", want: "FROM scratch AS base\nFROM base AS one\nfrom one as two\n"},
		"a digest":          {dockerfile: "FROM " + pinned + "\n", want: "FROM " + pinned + "\n"},
		"another tag":       {dockerfile: "FROM " + host + "/library/golang:9.9.9\n", wantErr: "golang:9.9.9"},
		"no tag":            {dockerfile: "RUN true\nFROM " + host + "/library/golang\n", wantErr: "line 2"},
		"a comment, a COPY": {dockerfile: "# FROM nowhere:1\nCOPY --from=build /a /a\n", want: "# FROM nowhere:1\nCOPY --from=build /a /a\n"},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			got, _, err := Pin(t.Context(), tc.dockerfile)
			if tc.wantErr == "" && err != nil || tc.wantErr != "" && (err == nil || !strings.Contains(err.Error(), tc.wantErr)) {
				t.Fatalf("error %v, want %q", err, tc.wantErr)
			}
			if got != tc.want {
				t.Errorf("got %q, want %q", got, tc.want)
			}
		})
	}
}

// TestBaseImagesAreExact: the Dockerfile names a patch version, so that a build changes only with
// it.
func TestBaseImagesAreExact(t *testing.T) {
	raw, err := os.ReadFile("../../../../Dockerfile")
	if err != nil {
		t.Fatal(err)
	}
	images := baseImages(strings.Split(string(raw), "\n"))
	if len(images) == 0 {
		t.Error("no base image was found")
	}
	exact := regexp.MustCompile(`:\d+\.\d+\.\d+(-[a-z0-9.]+)?(@sha256:[0-9a-f]{64})?$`)
	for _, image := range images {
		if !exact.MatchString(image.name) {
			t.Errorf("%s has no exact patch version", image.name)
		}
	}
}
