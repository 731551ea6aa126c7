// Package addons installs what SecureNotes needs in a cluster: storage, cert-manager, Vault and
// PostgreSQL. Every part can be applied again and leaves an existing part unchanged.
package addons

import (
	"bytes"
	"context"
	"embed"
	"fmt"
	"text/template"

	"github.com/securenotes/securenotes/hack/kind/imagelock"
	"github.com/securenotes/securenotes/hack/kind/internal/kube"
	"github.com/securenotes/securenotes/hack/kind/layout"
	"github.com/securenotes/securenotes/hack/kind/toolchain"
)

//go:embed manifests
var manifests embed.FS

//go:embed charts
var charts embed.FS

// Addons is the common state of the parts.
type Addons struct {
	Say    func(string, ...any)
	Layout layout.Layout
	Kube   kube.Client
	Tools  *toolchain.Chain
	Lock   imagelock.Lock // of the images that the parts run
}

func (a Addons) apply(ctx context.Context, file string, values any) error {
	t, err := template.New(file).Option("missingkey=error").ParseFS(manifests, "manifests/"+file)
	if err != nil {
		return err
	}
	var b bytes.Buffer
	if err := t.ExecuteTemplate(&b, file, values); err != nil {
		return fmt.Errorf("manifest %s: %w", file, err)
	}
	return a.Kube.Apply(ctx, b.String())
}

// applyImage applies a manifest with one variable, the image.
func (a Addons) applyImage(ctx context.Context, file string, use imagelock.Use) error {
	image, err := a.Lock.Get(use)
	if err != nil {
		return err
	}
	return a.apply(ctx, file, map[string]string{"Image": image.Ref()})
}
