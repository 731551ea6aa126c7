// Package addons brings up what SecureNotes expects of a cluster: storage, cert-manager, Vault and
// PostgreSQL. Every part can be applied again and again; a part that is there stays as it is.
package addons

import (
	"bytes"
	"context"
	"embed"
	"fmt"
	"text/template"

	"github.com/securenotes/securenotes/hack/kind/internal/images"
	"github.com/securenotes/securenotes/hack/kind/internal/kube"
	"github.com/securenotes/securenotes/hack/kind/internal/layout"
	"github.com/securenotes/securenotes/hack/kind/internal/toolchain"
)

//go:embed manifests
var manifests embed.FS

// Addons shares what its parts need.
type Addons struct {
	Say    func(string, ...any)
	Layout layout.Layout
	Kube   kube.Client
	Tools  *toolchain.Chain
}

// Repositories of the images packed here; the host name keeps them from being looked for anywhere.
const repository = "securenotes.dev/hack/"

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

// applyImage applies a manifest whose only variable is the image it runs.
func (a Addons) applyImage(ctx context.Context, file string, image images.Image) error {
	ref, err := image.Ref()
	if err != nil {
		return err
	}
	return a.apply(ctx, file, map[string]string{"Image": ref})
}

// static packs one program that needs nothing but itself.
func (a Addons) static(p toolchain.Program, user string) images.Image {
	path := "/usr/local/bin/" + string(p)
	return images.Image{
		Repository: repository + string(p), Entrypoint: []string{path}, User: user,
		Files: append(images.Users("nonroot", images.NonRoot), images.File{To: path, From: a.Tools.Path(p)}),
	}
}

// nonRoot is the user of images that need no other.
var nonRoot = fmt.Sprintf("%d:%d", images.NonRoot, images.NonRoot)
