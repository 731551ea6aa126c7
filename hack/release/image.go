package main

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"io"
	"os"
	"path"
	"strings"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
	"github.com/google/go-containerregistry/pkg/v1/types"
)

// These are the base of the images, as in the Dockerfile: TestImagesAreThoseOfTheDockerfile
// compares both.
const (
	user      = "65532:65532"
	passwd    = "root:x:0:0:root:/root:/sbin/nologin\nnonroot:x:65532:65532:nonroot:/:/sbin/nologin\n"
	group     = "root:x:0:\nnonroot:x:65532:\n"
	searchFor = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
)

// entry is a file of a layer.
type entry struct {
	path string // in the image, without the leading slash
	mode int64
	data []byte
}

func baseFiles() []entry {
	return []entry{
		{"etc/group", 0o644, []byte(group)},
		{"etc/passwd", 0o644, []byte(passwd)},
		{"etc/ssl/certs/ca-certificates.crt", 0o644, roots()},
	}
}

// imageIndex packs one binary for each architecture into an image index. images are the index's
// images by architecture.
func imageIndex(p program, binaries map[string]string, version string, created time.Time) (index v1.ImageIndex, images map[string]v1.Image, err error) {
	base, err := layer(created, baseFiles()...)
	if err != nil {
		return nil, nil, err
	}
	images = map[string]v1.Image{}
	index = mutate.IndexMediaType(empty.Index, types.OCIImageIndex)
	for _, architecture := range architectures {
		data, err := os.ReadFile(binaries[architecture])
		if err != nil {
			return nil, nil, err
		}
		top, err := layer(created, entry{"usr/local/bin/" + p.binary, 0o755, data})
		if err != nil {
			return nil, nil, err
		}
		image, err := platformImage(p, architecture, version, created, base, top)
		if err != nil {
			return nil, nil, err
		}
		images[architecture] = image
		index = mutate.AppendManifests(index, mutate.IndexAddendum{
			Add: image, Descriptor: v1.Descriptor{Platform: &v1.Platform{OS: "linux", Architecture: architecture}},
		})
	}
	return index, images, nil
}

func platformImage(p program, architecture, version string, created time.Time, layers ...v1.Layer) (v1.Image, error) {
	image := mutate.ConfigMediaType(mutate.MediaType(empty.Image, types.OCIManifestSchema1), types.OCIConfigJSON)
	image, err := mutate.ConfigFile(image, &v1.ConfigFile{
		OS: "linux", Architecture: architecture, Created: v1.Time{Time: created}, RootFS: v1.RootFS{Type: "layers"},
		Config: v1.Config{
			Entrypoint: []string{"/usr/local/bin/" + p.binary}, User: user, Env: []string{searchFor}, WorkingDir: "/",
			Labels: map[string]string{
				"org.opencontainers.image.title":    p.title,
				"org.opencontainers.image.version":  version,
				"org.opencontainers.image.source":   "https://github.com/securenotes/securenotes",
				"org.opencontainers.image.licenses": "Apache-2.0",
			},
		},
	})
	if err != nil {
		return nil, err
	}
	for _, l := range layers {
		if image, err = mutate.Append(image, mutate.Addendum{Layer: l, History: v1.History{Created: v1.Time{Time: created}, CreatedBy: "make release"}}); err != nil {
			return nil, err
		}
	}
	return image, nil
}

// layer returns a compressed tar file of entries and of their directories. The entries must be
// sorted by path.
func layer(created time.Time, entries ...entry) (v1.Layer, error) {
	var compressed bytes.Buffer
	zipped := gzip.NewWriter(&compressed)
	w := tar.NewWriter(zipped)
	made := map[string]bool{".": true}
	for _, e := range entries {
		if err := writeParents(w, made, path.Dir(e.path), created); err != nil {
			return nil, err
		}
		if err := w.WriteHeader(&tar.Header{Typeflag: tar.TypeReg, Name: e.path, Mode: e.mode, Size: int64(len(e.data)), ModTime: created}); err != nil {
			return nil, err
		}
		if _, err := w.Write(e.data); err != nil {
			return nil, err
		}
	}
	if err := w.Close(); err != nil {
		return nil, err
	}
	if err := zipped.Close(); err != nil {
		return nil, err
	}
	return tarball.LayerFromOpener(func() (io.ReadCloser, error) {
		return io.NopCloser(bytes.NewReader(compressed.Bytes())), nil
	}, tarball.WithMediaType(types.OCILayer))
}

func writeParents(w *tar.Writer, made map[string]bool, dir string, created time.Time) error {
	if made[dir] {
		return nil
	}
	if err := writeParents(w, made, path.Dir(dir), created); err != nil {
		return err
	}
	made[dir] = true
	return w.WriteHeader(&tar.Header{Typeflag: tar.TypeDir, Name: strings.TrimSuffix(dir, "/") + "/", Mode: 0o755, ModTime: created})
}
