//go:build integration

package main

import (
	"archive/tar"
	"compress/gzip"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// TestChart packages the chart twice, with different file times, reads it as helm does, and renders
// it.
func TestChart(t *testing.T) {
	helm := os.Getenv("SECURENOTES_TEST_HELM")
	if helm == "" {
		t.Fatal("SECURENOTES_TEST_HELM must be the path of helm: `bin/kind tools --path helm` prints it")
	}
	const version = "1.2.3-rc.4+build"
	root := t.TempDir()
	if err := os.CopyFS(filepath.Join(root, chartDir), os.DirFS(filepath.Join("../..", chartDir))); err != nil {
		t.Fatal(err)
	}
	var packages [2]string
	for i := range packages {
		r := &release{root: root, out: t.TempDir(), version: version, helm: helm, time: time.Unix(0, 0).UTC(), log: io.Discard}
		if err := r.chart(t.Context(), t.TempDir()); err != nil {
			t.Fatal(err)
		}
		packages[i] = r.file("securenotes-operator-" + version + ".tgz")
		if err := os.Chtimes(filepath.Join(root, chartDir, "values.yaml"), time.Time{}, time.Unix(1_000_000_000, 0)); err != nil {
			t.Fatal(err)
		}
	}
	if read(t, "", packages[0]) != read(t, "", packages[1]) {
		t.Error("two packages of the chart differ")
	}
	raw, err := os.Open(packages[0])
	if err != nil {
		t.Fatal(err)
	}
	defer raw.Close()
	unzipped, err := gzip.NewReader(raw)
	if err != nil {
		t.Fatal(err)
	}
	eachFile(t, unzipped, func(header *tar.Header, data []byte) {
		if header.Name != "securenotes-operator/Chart.yaml" {
			return
		}
		meta, err := parseChart(data)
		if want := (chartMeta{Version: version, AppVersion: version}); err != nil || meta != want {
			t.Errorf("Chart.yaml says %+v, error %v, want %+v", meta, err, want)
		}
	})
	out, err := exec.CommandContext(t.Context(), helm, "template", "release", packages[0], "--namespace", "somewhere").CombinedOutput()
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	for _, want := range []string{
		`app.kubernetes.io/version: "1.2.3-rc.4_build"`, "securenotes.dev/securenotes-operator:1.2.3-rc.4_build", "securenotes.dev/securenotes:1.2.3-rc.4_build",
	} {
		if !strings.Contains(string(out), want) {
			t.Errorf("the rendered chart does not contain %s", want)
		}
	}
}
