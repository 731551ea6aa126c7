// Package images packs static binaries into container images without a container builder, pulls the
// images of a lock, and loads both on the cluster's nodes.
package images

import (
	"archive/tar"
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"os"
	"path"
	"path/filepath"
	"runtime"
	"slices"
	"strings"

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
	"github.com/google/go-containerregistry/pkg/v1/types"
)

// Source is an image that can be loaded on nodes. It was packed here or pulled.
type Source interface {
	// Ref returns the image's name with its tag.
	Ref() (string, error)
	// archive returns the path of a docker archive of the image. It may write it below dir.
	archive(dir string) (path string, err error)
}

// Image is an image to pack.
type Image struct {
	Repository string // such as securenotes.dev/securenotes
	Tag        string // fixed; empty: TagPrefix and a digest of the content
	TagPrefix  string
	Entrypoint []string
	User       string // uid:gid; empty: root
	Env        []string
	Files      []File
}

// File is one entry of the image's only layer.
type File struct {
	To   string // absolute path in the image
	From string // file on this machine; symbolic links are followed
	Data []byte // used when From is empty
	Mode int64  // zero: 0755
}

// Ref returns the image's name with its tag. Images with the same content have the same name, so
// that an unchanged image is not loaded again and restarts nothing.
func (i Image) Ref() (string, error) {
	if i.Tag != "" {
		return i.Repository + ":" + i.Tag, nil
	}
	tag, err := i.ContentTag()
	return i.Repository + ":" + tag, err
}

// ContentTag returns TagPrefix and a digest of the content.
func (i Image) ContentTag() (string, error) {
	h := sha256.New()
	_, _ = fmt.Fprintf(h, "%q %q %q\n", i.Entrypoint, i.User, i.Env)
	for _, f := range i.sorted() {
		_, _ = fmt.Fprintf(h, "%q %o\n", f.To, f.mode())
		if err := f.copyTo(h); err != nil {
			return "", err
		}
	}
	return i.TagPrefix + hex.EncodeToString(h.Sum(nil))[:12], nil
}

// Save writes images into one docker archive.
func Save(to string, list ...Image) error {
	dir, err := os.MkdirTemp(filepath.Dir(to), ".layers-*")
	if err != nil {
		return err
	}
	defer func() { _ = os.RemoveAll(dir) }()
	all := map[name.Tag]v1.Image{}
	for n, i := range list {
		ref, err := i.Ref()
		if err != nil {
			return err
		}
		tag, err := name.NewTag(ref)
		if err != nil {
			return err
		}
		if all[tag], err = i.Build(filepath.Join(dir, fmt.Sprintf("%d.tar", n))); err != nil {
			return fmt.Errorf("pack %s: %w", ref, err)
		}
	}
	return tarball.MultiWriteToFile(to, all)
}

func (i Image) archive(dir string) (string, error) {
	path := filepath.Join(dir, filepath.Base(i.Repository)+".tar")
	return path, Save(path, i)
}

// Build packs the image. The image reads its layer from the file layerPath.
func (i Image) Build(layerPath string) (v1.Image, error) {
	if err := i.writeLayer(layerPath); err != nil {
		return nil, err
	}
	return FromLayer(layerPath, v1.Config{Entrypoint: i.Entrypoint, User: i.User, Env: i.Env})
}

// FromLayer returns an image with one layer, which is a tar file.
func FromLayer(layerPath string, config v1.Config) (v1.Image, error) {
	layer, err := newTarLayer(layerPath)
	if err != nil {
		return nil, err
	}
	base := mutate.ConfigMediaType(mutate.MediaType(empty.Image, types.OCIManifestSchema1), types.OCIConfigJSON)
	img, err := mutate.AppendLayers(base, layer)
	if err != nil {
		return nil, err
	}
	cfg, err := img.ConfigFile()
	if err != nil {
		return nil, err
	}
	cfg = cfg.DeepCopy()
	cfg.OS, cfg.Architecture, cfg.Config = "linux", runtime.GOARCH, config
	cfg.Config.Env = append([]string{"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"}, config.Env...)
	return mutate.ConfigFile(img, cfg)
}

func (i Image) writeLayer(to string) (err error) {
	f, err := os.Create(to)
	if err != nil {
		return err
	}
	defer func() {
		if cerr := f.Close(); err == nil {
			err = cerr
		}
	}()
	w := tar.NewWriter(f)
	made := map[string]bool{"/": true}
	for _, file := range i.sorted() {
		if err := writeParents(w, made, path.Dir(file.To)); err != nil {
			return err
		}
		if err := file.writeTo(w); err != nil {
			return err
		}
	}
	return w.Close()
}

func writeParents(w *tar.Writer, made map[string]bool, dir string) error {
	if made[dir] {
		return nil
	}
	if err := writeParents(w, made, path.Dir(dir)); err != nil {
		return err
	}
	made[dir] = true
	return w.WriteHeader(&tar.Header{Typeflag: tar.TypeDir, Name: strings.TrimPrefix(dir, "/") + "/", Mode: 0o755})
}

func (f File) writeTo(w *tar.Writer) error {
	size := int64(len(f.Data))
	if f.From != "" {
		st, err := os.Stat(f.From)
		if err != nil {
			return err
		}
		size = st.Size()
	}
	// No time stamps, so that the same content gives the same layer.
	if err := w.WriteHeader(&tar.Header{Typeflag: tar.TypeReg, Name: strings.TrimPrefix(f.To, "/"), Size: size, Mode: f.mode()}); err != nil {
		return err
	}
	return f.copyTo(w)
}

func (f File) copyTo(w io.Writer) error {
	if f.From == "" {
		_, err := io.Copy(w, bytes.NewReader(f.Data))
		return err
	}
	in, err := os.Open(f.From)
	if err != nil {
		return err
	}
	defer func() { _ = in.Close() }()
	_, err = io.Copy(w, in)
	return err
}

func (f File) mode() int64 {
	if f.Mode == 0 {
		return 0o755
	}
	return f.Mode
}

func (i Image) sorted() []File {
	return slices.SortedFunc(slices.Values(i.Files), func(a, b File) int { return strings.Compare(a.To, b.To) })
}
