package main

import (
	"archive/tar"
	"bytes"
	"errors"
	"io"
	"log"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/registry"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/layout"
	"github.com/google/go-containerregistry/pkg/v1/remote"
)

// given returns binaries for both architectures: a small program, which differs between them by one
// byte at its end.
func given(t *testing.T) map[string]string {
	t.Helper()
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "main.go"), []byte("package main\n\nfunc main() {}\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	program := filepath.Join(dir, "program")
	if out, err := exec.CommandContext(t.Context(), "go", "build", "-o", program, filepath.Join(dir, "main.go")).CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	raw, err := os.ReadFile(program)
	if err != nil {
		t.Fatal(err)
	}
	binaries := map[string]string{}
	for i, architecture := range architectures {
		binaries[architecture] = filepath.Join(t.TempDir(), "program")
		if err := os.WriteFile(binaries[architecture], append(slices.Clone(raw), byte(i)), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	return binaries
}

func packed(t *testing.T, binaries map[string]string) (dir string) {
	t.Helper()
	r := &release{root: "../..", out: t.TempDir(), version: "1.2.3+build", time: time.Unix(1_800_000_000, 0).UTC(), log: io.Discard}
	digests, err := r.pack(programs[0], binaries)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(r.file("digests.txt"), digests, 0o644); err != nil {
		t.Fatal(err)
	}
	if err := r.crds(t.Context(), ""); err != nil {
		t.Fatal(err)
	}
	if err := writeChecksums(r.out); err != nil {
		t.Fatal(err)
	}
	return r.out
}

// TestTwoRunsAreEqual packs the same binaries twice, and different ones once.
func TestTwoRunsAreEqual(t *testing.T) {
	binaries := given(t)
	first, second := read(t, packed(t, binaries), "SHA256SUMS"), read(t, packed(t, binaries), "SHA256SUMS")
	if first != second {
		t.Errorf("two runs differ:\n%s\n%s", first, second)
	}
	f, err := os.OpenFile(binaries["arm64"], os.O_APPEND|os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.Write([]byte{0}); err != nil {
		t.Fatal(err)
	}
	f.Close()
	other := packed(t, binaries)
	if read(t, other, "SHA256SUMS") == first {
		t.Error("another binary has the same checksums")
	}
}

// TestChecksumsVerify checks the files with sha256sum, before and after one of them is changed.
func TestChecksumsVerify(t *testing.T) {
	dir := packed(t, given(t))
	verify := func() (string, error) {
		cmd := exec.CommandContext(t.Context(), "sha256sum", "--check", "--strict", "SHA256SUMS")
		cmd.Dir = dir
		out, err := cmd.CombinedOutput()
		return string(out), err
	}
	out, err := verify()
	if err != nil {
		t.Fatalf("sha256sum: %v\n%s", err, out)
	}
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	if got, want := strings.Count(out, ": OK\n"), len(entries)-1; got != want {
		t.Errorf("%d files verified, want all %d:\n%s", got, want, out)
	}
	if err := os.WriteFile(filepath.Join(dir, "digests.txt"), []byte("sha256:0  other\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	if out, err := verify(); err == nil || !strings.Contains(out, "digests.txt: FAILED") {
		t.Errorf("a changed file: error %v\n%s", err, out)
	}
}

// TestArchive pushes an archive to a registry, pulls it for each platform, as a user does, and
// compares the digests with digests.txt.
func TestArchive(t *testing.T) {
	binaries := given(t)
	dir := packed(t, binaries)
	server := httptest.NewServer(registry.New(registry.Logger(log.New(io.Discard, "", 0))))
	defer server.Close()
	index, annotations := unpacked(t, filepath.Join(dir, "securenotes-1.2.3+build.oci.tar"))
	if got, want := annotations["org.opencontainers.image.ref.name"], "1.2.3_build"; got != want {
		t.Errorf("tag %q, want %q", got, want)
	}
	tag, err := name.NewTag(strings.TrimPrefix(server.URL, "http://") + "/securenotes:1.2.3_build")
	if err != nil {
		t.Fatal(err)
	}
	if err := remote.WriteIndex(tag, index); err != nil {
		t.Fatal(err)
	}
	head, err := remote.Head(tag)
	if err != nil {
		t.Fatal(err)
	}
	want := head.Digest.String() + "  securenotes:1.2.3_build\n"
	for _, architecture := range architectures {
		image, err := remote.Image(tag, remote.WithPlatform(v1.Platform{OS: "linux", Architecture: architecture}))
		if err != nil {
			t.Fatal(err)
		}
		digest, err := image.Digest()
		if err != nil {
			t.Fatal(err)
		}
		want += digest.String() + "  securenotes:1.2.3_build linux/" + architecture + "\n"
		checkImage(t, image, architecture, binaries[architecture])
	}
	if got := read(t, dir, "digests.txt"); got != want {
		t.Errorf("digests.txt\n%swant\n%s", got, want)
	}
}

func checkImage(t *testing.T, image v1.Image, architecture, binary string) {
	t.Helper()
	config, err := image.ConfigFile()
	if err != nil {
		t.Fatal(err)
	}
	if config.Architecture != architecture || config.OS != "linux" {
		t.Errorf("the configuration says %s/%s, want linux/%s", config.OS, config.Architecture, architecture)
	}
	if got, want := config.Config.Labels["org.opencontainers.image.version"], "1.2.3+build"; got != want {
		t.Errorf("%s: version %q, want %q", architecture, got, want)
	}
	got, want := files(t, image)["usr/local/bin/securenotes"], read(t, filepath.Dir(binary), filepath.Base(binary))
	if string(got) != want {
		t.Errorf("%s: the image contains another program", architecture)
	}
}

// files returns the regular files of an image, by path.
func files(t *testing.T, image v1.Image) map[string][]byte {
	t.Helper()
	found := map[string][]byte{}
	layers, err := image.Layers()
	if err != nil {
		t.Fatal(err)
	}
	for _, l := range layers {
		content, err := l.Uncompressed()
		if err != nil {
			t.Fatal(err)
		}
		eachFile(t, content, func(header *tar.Header, data []byte) { found[header.Name] = data })
		content.Close()
	}
	return found
}

// unpacked returns the only image index of an OCI archive, and the annotations of its descriptor.
func unpacked(t *testing.T, archive string) (v1.ImageIndex, map[string]string) {
	t.Helper()
	dir := t.TempDir()
	f, err := os.Open(archive)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	eachFile(t, f, func(header *tar.Header, data []byte) {
		path := filepath.Join(dir, header.Name)
		if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o755), os.WriteFile(path, data, 0o644)); err != nil {
			t.Fatal(err)
		}
	})
	all, err := layout.ImageIndexFromPath(dir)
	if err != nil {
		t.Fatal(err)
	}
	manifest, err := all.IndexManifest()
	if err != nil {
		t.Fatal(err)
	}
	if len(manifest.Manifests) != 1 {
		t.Fatalf("the archive has %d images, want one index", len(manifest.Manifests))
	}
	index, err := all.ImageIndex(manifest.Manifests[0].Digest)
	if err != nil {
		t.Fatal(err)
	}
	return index, manifest.Manifests[0].Annotations
}

func eachFile(t *testing.T, archive io.Reader, do func(*tar.Header, []byte)) {
	t.Helper()
	r := tar.NewReader(archive)
	for {
		header, err := r.Next()
		if errors.Is(err, io.EOF) {
			return
		}
		if err != nil {
			t.Fatal(err)
		}
		if header.Typeflag != tar.TypeReg {
			continue
		}
		var data bytes.Buffer
		if _, err := io.Copy(&data, r); err != nil {
			t.Fatal(err)
		}
		do(header, data.Bytes())
	}
}

func read(t *testing.T, dir, name string) string {
	t.Helper()
	raw, err := os.ReadFile(filepath.Join(dir, name))
	if err != nil {
		t.Fatal(err)
	}
	return string(raw)
}

// TestOutputMustBeEmpty checks that a release refuses a directory with files, because SHA256SUMS
// would include them.
func TestOutputMustBeEmpty(t *testing.T) {
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "left"), nil, 0o644); err != nil {
		t.Fatal(err)
	}
	err := run(t.Context(), []string{"-out", dir, "-version", "1.2.3"}, io.Discard)
	if err == nil || !strings.Contains(err.Error(), "is not empty") {
		t.Errorf("error %v", err)
	}
}

func TestVersionIsChecked(t *testing.T) {
	tests := map[string]bool{
		"0.1.0": true, "1.20.300": true, "0.2.0-rc.1": true, "0.1.0+build.5": true, "0.2.0-rc.1+5": true,
		"": false, "v0.1.0": false, "1": false, "1.2": false, "1.2.3.4": false, "01.2.3": false, "1.2.3-": false, "latest": false, "1.2.3 ": false,
	}
	for version, valid := range tests {
		t.Run(version, func(t *testing.T) {
			if err := checkVersion(version); (err == nil) != valid {
				t.Errorf("error %v, want valid %t", err, valid)
			}
		})
	}
}

func TestSourceDate(t *testing.T) {
	tests := map[string]struct {
		want  int64
		fails bool
	}{
		"": {}, "0": {}, "1800000000": {want: 1_800_000_000}, "-1": {fails: true}, "today": {fails: true},
	}
	for epoch, tc := range tests {
		t.Run(epoch, func(t *testing.T) {
			got, err := sourceDate(epoch)
			if (err != nil) != tc.fails || err == nil && got.Unix() != tc.want {
				t.Errorf("got %v, error %v", got, err)
			}
		})
	}
}
