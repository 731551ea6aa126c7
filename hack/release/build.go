package main

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
)

// program is one of the two released programs.
type program struct {
	binary, pkg, image, title string
}

var programs = []program{
	{"securenotes", "./app/cmd/securenotes", "securenotes", "SecureNotes: the notes service and its Jobs"},
	{"operator", "./controllers/cmd/operator", "securenotes-operator", "SecureNotes: the operator"},
}

// architectures of the images, in the order of the image index.
var architectures = []string{"amd64", "arm64"}

type buildOptions struct {
	root, dir, version, compiler, os, architecture string
}

// versionVariable is set at link time; see app/config/version.go.
const versionVariable = "github.com/securenotes/securenotes/app/config.version"

// build compiles a program as the Dockerfile does, with the same version of Go, and returns the
// binary's path. It overrides settings of the caller's environment that would change the bytes.
func build(ctx context.Context, o buildOptions, p program) (string, error) {
	binary, err := filepath.Abs(filepath.Join(o.dir, p.binary))
	if err != nil {
		return "", err
	}
	cmd := exec.CommandContext(ctx, "go", "build", "-mod=readonly", "-trimpath", "-buildvcs=false",
		"-ldflags", "-s -w -X "+versionVariable+"="+o.version, "-o", binary, p.pkg)
	cmd.Dir = o.root
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0", "GOWORK=off", "GOFLAGS=-trimpath", "GOTOOLCHAIN="+o.compiler,
		"GOOS="+o.os, "GOARCH="+o.architecture, "GOAMD64=v1", "GOARM64=v8.0", "GOFIPS140=off")
	var complaints bytes.Buffer
	cmd.Stdout, cmd.Stderr = &complaints, &complaints
	if err := cmd.Run(); err != nil {
		return "", fmt.Errorf("build %s for %s/%s: %w\n%s", p.pkg, o.os, o.architecture, err, complaints.Bytes())
	}
	return binary, nil
}
