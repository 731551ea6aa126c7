package images

import (
	"io"
	"os"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/types"
)

// tarLayer is an uncompressed layer in a tar file. The layers of go-containerregistry are
// compressed, which takes longer than to copy them within this machine.
type tarLayer struct {
	path   string
	digest v1.Hash
	size   int64
}

func newTarLayer(path string) (tarLayer, error) {
	f, err := os.Open(path)
	if err != nil {
		return tarLayer{}, err
	}
	defer func() { _ = f.Close() }()
	digest, size, err := v1.SHA256(f)
	return tarLayer{path: path, digest: digest, size: size}, err
}

// Digest returns the digest of the file.
func (l tarLayer) Digest() (v1.Hash, error) { return l.digest, nil }

// DiffID returns the digest of the file.
func (l tarLayer) DiffID() (v1.Hash, error) { return l.digest, nil }

// Compressed opens the file.
func (l tarLayer) Compressed() (io.ReadCloser, error) { return os.Open(l.path) }

// Uncompressed opens the file.
func (l tarLayer) Uncompressed() (io.ReadCloser, error) { return os.Open(l.path) }

// Size returns the size of the file.
func (l tarLayer) Size() (int64, error) { return l.size, nil }

// MediaType returns that of a tar archive.
func (l tarLayer) MediaType() (types.MediaType, error) { return types.OCIUncompressedLayer, nil }
