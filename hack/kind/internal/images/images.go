// Package images packs static binaries into container images without a container builder, and puts
// them on the cluster's nodes.
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

	"github.com/google/go-containerregistry/pkg/compression"
	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
)

// Image says what to pack.
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
	From string // file of this machine; symbolic links are followed
	Data []byte // used when From is empty
	Mode int64  // zero: 0755
}

// Ref is the image's name with its tag. Two images with the same content have the same name, so what
// is already on a node need not be loaded and what runs it need not be restarted.
func (i Image) Ref() (string, error) {
	if i.Tag != "" {
		return i.Repository + ":" + i.Tag, nil
	}
	h := sha256.New()
	_, _ = fmt.Fprintf(h, "%q %q %q\n", i.Entrypoint, i.User, i.Env)
	for _, f := range i.sorted() {
		_, _ = fmt.Fprintf(h, "%q %o\n", f.To, f.mode())
		if err := f.copyTo(h); err != nil {
			return "", err
		}
	}
	return i.Repository + ":" + i.TagPrefix + hex.EncodeToString(h.Sum(nil))[:12], nil
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
		if all[tag], err = i.build(filepath.Join(dir, fmt.Sprintf("%d.tar", n))); err != nil {
			return fmt.Errorf("pack %s: %w", ref, err)
		}
	}
	return tarball.MultiWriteToFile(to, all)
}

func (i Image) build(layerPath string) (v1.Image, error) {
	if err := i.writeLayer(layerPath); err != nil {
		return nil, err
	}
	// Uncompressed: the archive never leaves this machine.
	layer, err := tarball.LayerFromFile(layerPath, tarball.WithCompression(compression.None))
	if err != nil {
		return nil, err
	}
	img, err := mutate.AppendLayers(empty.Image, layer)
	if err != nil {
		return nil, err
	}
	cfg, err := img.ConfigFile()
	if err != nil {
		return nil, err
	}
	cfg = cfg.DeepCopy()
	cfg.OS, cfg.Architecture = "linux", runtime.GOARCH
	cfg.Config.Entrypoint, cfg.Config.User = i.Entrypoint, i.User
	cfg.Config.Env = append([]string{"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"}, i.Env...)
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
	// No time stamps: the same content makes the same layer.
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
