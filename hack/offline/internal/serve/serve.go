// Package serve is a container registry on the loopback interface, for the images of a store.
package serve

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log"
	"net"
	"net/http"
	"os"
	"strings"
	"time"

	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/registry"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/remote"

	"github.com/securenotes/securenotes/hack/offline/internal/store"
)

// Server is a running registry.
type Server struct {
	Address string // host and port
	server  *http.Server
}

// Start serves images on a free port. Their names have no host.
func Start(images []store.Image) (*Server, error) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	quiet := registry.Logger(log.New(io.Discard, "", 0))
	s := &Server{Address: listener.Addr().String(), server: &http.Server{
		Handler: registry.New(quiet, registry.WithBlobHandler(blobs(images))), ReadHeaderTimeout: 10 * time.Second,
	}}
	go func() { _ = s.server.Serve(listener) }()
	for _, image := range images {
		_, path, _ := strings.Cut(image.Ref(), "/")
		tag, err := name.NewTag(s.Address + "/" + path)
		if err == nil {
			err = remote.Put(tag, image) // the blobs are served from the store
		}
		if err != nil {
			return nil, errors.Join(fmt.Errorf("serve %s: %w", image.Ref(), err), s.Stop())
		}
	}
	return s, nil
}

// Stop ends the registry.
func (s *Server) Stop() error { return s.server.Close() }

// blobs reads blobs from the images' directories. The pulling client verifies the digests.
type blobs []store.Image

func (b blobs) find(h v1.Hash) (string, fs.FileInfo, error) {
	for _, image := range b {
		path := image.Blob(h)
		if info, err := os.Stat(path); err == nil {
			return path, info, nil
		}
	}
	return "", nil, registry.ErrNotFound
}

// Get opens a blob.
func (b blobs) Get(_ context.Context, _ string, h v1.Hash) (io.ReadCloser, error) {
	path, _, err := b.find(h)
	if err != nil {
		return nil, err
	}
	return os.Open(path)
}

// Stat returns the size of a blob.
func (b blobs) Stat(_ context.Context, _ string, h v1.Hash) (int64, error) {
	_, info, err := b.find(h)
	if err != nil {
		return 0, err
	}
	return info.Size(), nil
}
