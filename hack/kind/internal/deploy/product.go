// Package deploy builds SecureNotes, loads its images on the nodes, and installs it like a platform
// team: vault-setup as Vault's administrator, then the chart, then an object.
package deploy

import (
	"context"
	"fmt"
	"os"
	"path/filepath"

	"github.com/securenotes/securenotes/hack/kind/images"
	"github.com/securenotes/securenotes/hack/kind/internal/addons"
	"github.com/securenotes/securenotes/hack/kind/internal/kube"
	"github.com/securenotes/securenotes/hack/kind/layout"
	"github.com/securenotes/securenotes/hack/kind/proc"
	"github.com/securenotes/securenotes/hack/kind/toolchain"
)

// Names of the sample, its namespace and the chart's release.
const (
	Namespace         = "demo"
	Name              = "notes"
	OperatorNamespace = "securenotes-system"
	Release           = "securenotes-operator"
)

// Deploy is the common state of the steps.
type Deploy struct {
	Layout layout.Layout
	Kube   kube.Client
	Tools  *toolchain.Chain
	Addons addons.Addons
}

// product is one of the two binaries and its image.
type product struct{ binary, pkg, repository string }

var (
	service  = product{"securenotes", "./app/cmd/securenotes", "securenotes.dev/securenotes"}
	operator = product{"operator", "./controllers/cmd/operator", "securenotes.dev/securenotes-operator"}
)

func (d Deploy) binary(p product) string { return filepath.Join(d.Layout.Root, "bin", p.binary) }

// Build builds the two static binaries of the images in bin/.
func (d Deploy) Build(ctx context.Context) (string, error) {
	for _, p := range []product{service, operator} {
		cmd := proc.New("go", "build", "-mod=readonly", "-trimpath", "-ldflags", "-s -w", "-o", d.binary(p), p.pkg)
		if err := cmd.In(d.Layout.Root).WithEnv(toolchain.BuildEnv()...).Run(ctx); err != nil {
			return "", err
		}
	}
	return "bin/securenotes, bin/operator", nil
}

// Images returns the images of the two binaries. Their tags are digests of the content, so that an
// unchanged image restarts nothing.
func (d Deploy) Images() []images.Source {
	return []images.Source{d.image(service), d.image(operator)}
}

// NextRelease returns another image of the service with the same behaviour, like that of a later
// release.
func (d Deploy) NextRelease() images.Image {
	i := d.image(service)
	i.TagPrefix = "next-"
	i.Files = append(i.Files, images.File{To: "/etc/securenotes-release", Data: []byte("next\n"), Mode: 0o644})
	return i
}

func (d Deploy) image(p product) images.Image {
	path := "/usr/local/bin/" + p.binary
	user := fmt.Sprintf("%d:%d", images.NonRoot, images.NonRoot)
	files := append(images.Users("nonroot", images.NonRoot), images.File{To: path, From: d.binary(p)})
	for _, bundle := range []string{"/etc/ssl/certs/ca-certificates.crt", "/etc/pki/tls/certs/ca-bundle.crt", "/etc/ssl/cert.pem"} {
		if _, err := os.Stat(bundle); err == nil {
			files = append(files, images.File{To: "/etc/ssl/certs/ca-certificates.crt", From: bundle, Mode: 0o644})
			break
		}
	}
	return images.Image{Repository: p.repository, TagPrefix: "dev-", Entrypoint: []string{path}, User: user, Files: files}
}

// Prepare creates the namespaces of the sample and of the operator, and the sample's database.
func (d Deploy) Prepare(ctx context.Context) (string, error) {
	// Both namespaces enforce the restricted Pod Security Standard.
	err := d.Kube.Apply(ctx, fmt.Sprintf(`apiVersion: v1
kind: Namespace
metadata:
  name: %s
  labels: {pod-security.kubernetes.io/enforce: restricted}
---
apiVersion: v1
kind: Namespace
metadata:
  name: %s
  labels: {pod-security.kubernetes.io/enforce: restricted}
`, Namespace, OperatorNamespace))
	if err != nil {
		return "", err
	}
	return d.Addons.EnsureDatabase(ctx, addons.Database{Name: "notes", Namespace: Namespace, Secret: "notes-database", CASecret: "notes-database-ca"})
}

// VaultSetup runs `operator vault-setup` as Vault's administrator.
func (d Deploy) VaultSetup(ctx context.Context) (string, error) {
	err := d.Addons.Administrator(ctx, func(env []string) error {
		return proc.New(d.binary(operator), "vault-setup",
			"--operator-namespace", OperatorNamespace, "--operator-service-account", Release,
			"--kubernetes-host", "https://kubernetes.default.svc", "--database-mount", "database", "--allow-shred", "--allow-trim").
			WithEnv(append(env, "KUBECONFIG="+d.Kube.Kubeconfig)...).Run(ctx)
	})
	return "mounts, policies and roles", err
}
