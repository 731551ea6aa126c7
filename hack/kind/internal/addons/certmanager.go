package addons

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/securenotes/securenotes/hack/kind/imagelock"
	"github.com/securenotes/securenotes/hack/kind/internal/kube"
	"github.com/securenotes/securenotes/hack/kind/layout"
	"github.com/securenotes/securenotes/hack/kind/proc"
	"github.com/securenotes/securenotes/hack/kind/toolchain"
)

// CertManager installs cert-manager and a certificate authority of this cluster, the ClusterIssuer
// securenotes-ca. It writes the authority's certificate to a file for clients on this machine.
func (a Addons) CertManager(ctx context.Context) (string, error) {
	install := a.certManagerChart
	if a.Lock.Offline {
		install = a.certManagerManifests
	}
	if err := install(ctx); err != nil {
		return "", err
	}
	// The webhook of the chart answers only some time after it is ready, when its certificate is
	// known.
	if err := kube.Until(ctx, time.Minute, time.Second, func(ctx context.Context) error { return a.apply(ctx, "issuer.yaml", nil) }); err != nil {
		return "", err
	}
	if err := a.Kube.WaitFor(ctx, "cert-manager", "clusterissuer/securenotes-ca", "Ready", 2*time.Minute); err != nil {
		return "", err
	}
	return "issuer securenotes-ca", a.writeCA(ctx)
}

func (a Addons) certManagerChart(ctx context.Context) error {
	if err := a.apply(ctx, "namespace.yaml", map[string]string{"Name": "cert-manager"}); err != nil {
		return err
	}
	dir, flags, err := a.arguments(ctx, certManagerChart)
	if err != nil {
		return err
	}
	return a.Install(ctx, "cert-manager", dir, "cert-manager", append(flags, "--wait", "--timeout", "3m")...)
}

func (a Addons) certManagerManifests(ctx context.Context) error {
	crds, err := a.certManagerCRDs(ctx)
	if err != nil {
		return err
	}
	if err := a.Kube.Apply(ctx, crds); err != nil {
		return err
	}
	if err := a.Kube.Command("wait", "--for=condition=Established", "--timeout=60s",
		"crd/certificates.cert-manager.io", "crd/clusterissuers.cert-manager.io").Run(ctx); err != nil {
		return err
	}
	if err := a.applyImage(ctx, "cert-manager.yaml", imagelock.CertManager); err != nil {
		return err
	}
	return a.Kube.Rollout(ctx, "cert-manager", "deployment/cert-manager", 2*time.Minute)
}

// certManagerCRDs reads the definitions from the module that the controllers are built from.
func (a Addons) certManagerCRDs(ctx context.Context) (string, error) {
	dir, err := proc.New("go", "list", "-mod=readonly", "-m", "-f", "{{.Dir}}", "github.com/cert-manager/cert-manager").
		In(a.Tools.Source(toolchain.CertManager)).WithEnv(toolchain.BuildEnv()...).Output(ctx)
	if err == nil && dir == "" {
		// The binary came from the cache and the module cache is empty.
		dir, err = proc.New("go", "mod", "download", "-json", "github.com/cert-manager/cert-manager").
			In(a.Tools.Source(toolchain.CertManager)).WithEnv(toolchain.BuildEnv()...).Output(ctx)
		if err == nil {
			dir, err = downloadedDir(dir)
		}
	}
	if err != nil {
		return "", err
	}
	paths, err := filepath.Glob(filepath.Join(dir, "deploy", "crds", "*.yaml"))
	if err != nil {
		return "", err
	}
	if len(paths) == 0 {
		return "", fmt.Errorf("no custom resource definitions in %s/deploy/crds", dir)
	}
	var all strings.Builder
	for _, p := range paths {
		b, err := os.ReadFile(p)
		if err != nil {
			return "", err
		}
		all.WriteString("---\n")
		all.Write(b)
	}
	return all.String(), nil
}

func (a Addons) writeCA(ctx context.Context) error {
	return kube.Until(ctx, time.Minute, time.Second, func(ctx context.Context) error {
		var secret struct {
			Data map[string]string `json:"data"`
		}
		if _, err := a.Kube.Get(ctx, "cert-manager", "secret", "securenotes-ca", &secret); err != nil {
			return err
		}
		pem, err := base64.StdEncoding.DecodeString(secret.Data["tls.crt"])
		if err != nil {
			return err
		}
		if len(pem) == 0 {
			return errors.New("the certificate authority has no certificate yet")
		}
		return layout.WriteFile(a.Layout.CA(), pem, 0o644)
	})
}
