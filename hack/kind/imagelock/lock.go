// Package imagelock reads and writes image locks. A lock has name, tag and digest of every image of
// a cluster. hack/kind/images.lock.yaml is the lock of upstream's images. hack/offline writes a
// lock of the images that it builds. Both are used in the same way.
package imagelock

import (
	"bytes"
	"fmt"
	"maps"
	"os"
	"slices"

	"go.yaml.in/yaml/v3"

	"github.com/securenotes/securenotes/hack/kind/layout"
)

// A Use is the purpose of an image.
type Use string

// The uses. An offline lock has CertManager instead of the three images of cert-manager's chart.
const (
	Node                  Use = "node"
	CertManagerController Use = "cert-manager-controller"
	CertManagerWebhook    Use = "cert-manager-webhook"
	CertManagerCAInjector Use = "cert-manager-cainjector"
	CertManager           Use = "cert-manager"
	Vault                 Use = "vault"
	Postgres              Use = "postgres"
)

// OfflineNode is the name of the node images that hack/offline builds.
const OfflineNode = "securenotes.dev/node"

// UpstreamHeader is the comment above the committed lock.
const UpstreamHeader = `# Upstream's images of the cluster of ` + "`make run`" + `, and the charts of two of them. ` + "`bin/kind lock`" + ` looks
# up the digests of the tags and writes this file. An image with an empty digest, which has not been
# looked up yet, is pulled by its tag, and the run prints that.
`

// Lock is the content of one file.
type Lock struct {
	// Offline is set in locks of hack/offline. Its node image has no pod network, and manifests of
	// hack/kind install cert-manager and Vault instead of their charts.
	Offline bool `yaml:"offline,omitempty"`
	// Registry, if set, replaces the registries in the images' names.
	Registry string           `yaml:"registry,omitempty"`
	Images   map[Use]Image    `yaml:"images"`
	Charts   map[string]Chart `yaml:"charts,omitempty"`
}

// Image is one image.
type Image struct {
	Name   string `yaml:"name"`
	Tag    string `yaml:"tag"`
	Digest string `yaml:"digest"` // empty until it is looked up
}

// Chart is a Helm chart in a Go module.
type Chart struct {
	Module  string `yaml:"module"`
	Version string `yaml:"version"`
	Sum     string `yaml:"sum"` // of the module, as in go.sum
	Path    string `yaml:"path"`
}

// Ref returns name and tag.
func (i Image) Ref() string { return i.Name + ":" + i.Tag }

// Pinned returns the name with the digest, or with the tag if there is no digest.
func (i Image) Pinned() string {
	if i.Digest == "" {
		return i.Ref()
	}
	return i.Name + "@" + i.Digest
}

// Get returns the image of one use.
func (l Lock) Get(use Use) (Image, error) {
	i, ok := l.Images[use]
	if !ok {
		return i, fmt.Errorf("the image lock has no image %q", use)
	}
	return i, nil
}

// Uses returns the uses of the lock's images in a fixed order.
func (l Lock) Uses() []Use { return slices.Sorted(maps.Keys(l.Images)) }

// Read reads a lock. Unknown fields are errors.
func Read(path string) (Lock, error) {
	var l Lock
	b, err := os.ReadFile(path)
	if err != nil {
		return l, err
	}
	d := yaml.NewDecoder(bytes.NewReader(b))
	d.KnownFields(true)
	if err := d.Decode(&l); err != nil {
		return l, fmt.Errorf("image lock %s: %w", path, err)
	}
	for _, use := range l.Uses() {
		if i := l.Images[use]; i.Name == "" || i.Tag == "" {
			return l, fmt.Errorf("image lock %s: image %q has no name or no tag", path, use)
		}
	}
	return l, nil
}

// Write replaces a lock. header is a comment above it.
func (l Lock) Write(path, header string) error {
	b := bytes.NewBufferString(header)
	e := yaml.NewEncoder(b)
	e.SetIndent(2)
	if err := e.Encode(l); err != nil {
		return err
	}
	return layout.WriteFile(path, b.Bytes(), 0o644)
}
