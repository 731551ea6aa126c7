package main

import (
	"io"
	"log"
	"net/http/httptest"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/registry"
	"github.com/google/go-containerregistry/pkg/v1/random"
	"github.com/google/go-containerregistry/pkg/v1/remote"
)

// pushIndex pushes an image index of random bytes and returns its digest.
func pushIndex(t *testing.T, ref string) string {
	t.Helper()
	tag, err := name.NewTag(ref)
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
	return digest.String()
}

// TestPin checks that pin gets the digests from a registry, and fails if it cannot get one.
func TestPin(t *testing.T) {
	server := httptest.NewServer(registry.New(registry.Logger(log.New(io.Discard, "", 0))))
	defer server.Close()
	host := strings.TrimPrefix(server.URL, "http://")
	base := host + "/library/golang:1.2.3-bookworm"
	digest := pushIndex(t, base)
	pinned := base + "@" + digest
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
			got, _, err := pin(t.Context(), tc.dockerfile)
			if tc.wantErr == "" && err != nil || tc.wantErr != "" && (err == nil || !strings.Contains(err.Error(), tc.wantErr)) {
				t.Fatalf("error %v, want %q", err, tc.wantErr)
			}
			if got != tc.want {
				t.Errorf("got %q, want %q", got, tc.want)
			}
		})
	}
}

// TestBaseImagesAreExact checks that the Dockerfile names a patch version, so that a build changes
// only when the Dockerfile does.
func TestBaseImagesAreExact(t *testing.T) {
	raw, err := os.ReadFile("../../Dockerfile")
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

func TestExactTag(t *testing.T) {
	tests := map[string]struct{ want, wantErr string }{
		"golang:1.26.8-bookworm":             {want: "index.docker.io/library/golang:1.26.8-bookworm"},
		"registry.example.com:5000/go:1.2.3": {want: "registry.example.com:5000/go:1.2.3"},
		"registry.example.com:5000/go":       {wantErr: "needs an exact tag"},
		"golang":                             {wantErr: "needs an exact tag"},
	}
	for image, tc := range tests {
		t.Run(image, func(t *testing.T) {
			got, err := exactTag(image)
			if tc.wantErr != "" {
				if err == nil || !strings.Contains(err.Error(), tc.wantErr) {
					t.Fatalf("error %v, want %q", err, tc.wantErr)
				}
				return
			}
			if err != nil || got.Name() != tc.want {
				t.Errorf("got %s, error %v, want %s", got.Name(), err, tc.want)
			}
		})
	}
}

// TestDockerfile checks that the release's Dockerfile has the version and, if a registry answers,
// the digest of its base image. An image that the registry does not have is an error; an
// unreachable registry is not.
func TestDockerfile(t *testing.T) {
	server := httptest.NewServer(registry.New(registry.Logger(log.New(io.Discard, "", 0))))
	defer server.Close()
	host := strings.TrimPrefix(server.URL, "http://")
	away := httptest.NewServer(nil)
	nowhere := strings.TrimPrefix(away.URL, "http://")
	away.Close()
	digest := pushIndex(t, host+"/golang:1.2.3-bookworm")
	tests := map[string]struct{ from, want, wantLog, wantErr string }{
		"a registry":            {from: host + "/golang:1.2.3-bookworm", want: host + "/golang:1.2.3-bookworm@" + digest, wantLog: digest},
		"no registry":           {from: nowhere + "/golang:1.2.3-bookworm", want: nowhere + "/golang:1.2.3-bookworm", wantLog: "keep their tags"},
		"a registry without it": {from: host + "/golang:9.9.9-bookworm", wantErr: "golang:9.9.9-bookworm"},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			var said strings.Builder
			r := &release{root: t.TempDir(), out: t.TempDir(), version: "1.2.3", log: &said}
			dockerfile := func(from, version string) string { return "FROM " + from + "\nARG VERSION=" + version + "\nRUN true\n" }
			if err := os.WriteFile(filepath.Join(r.root, "Dockerfile"), []byte(dockerfile(tc.from, "devel")), 0o644); err != nil {
				t.Fatal(err)
			}
			err := r.dockerfile(t.Context(), "")
			if tc.wantErr != "" {
				if err == nil || !strings.Contains(err.Error(), tc.wantErr) {
					t.Fatalf("error %v, want %q", err, tc.wantErr)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if got, want := read(t, r.out, "Dockerfile"), dockerfile(tc.want, "1.2.3"); got != want {
				t.Errorf("got %q, want %q", got, want)
			}
			if !strings.Contains(said.String(), tc.wantLog) {
				t.Errorf("logged %q, want %q", said.String(), tc.wantLog)
			}
		})
	}
}

// TestDockerfileTakesTheVersion checks that the checkout's Dockerfile has the argument that a
// release sets, and passes it to the variable that a release's binaries have.
func TestDockerfileTakesTheVersion(t *testing.T) {
	dockerfile := read(t, "../..", "Dockerfile")
	if got := strings.Count(dockerfile, versionArgument); got != 1 {
		t.Errorf("got %d times %q, want once", got, versionArgument)
	}
	if want := "-X " + versionVariable + "=$VERSION"; !strings.Contains(dockerfile, want) {
		t.Errorf("the Dockerfile does not build with %s", want)
	}
}
