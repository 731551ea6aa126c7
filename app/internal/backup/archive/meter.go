package archive

import (
	"crypto/sha256"
	"encoding/hex"
	"hash"
	"io"
)

// meter computes the digest of a stream.
type meter struct {
	hash hash.Hash
	size int64
}

func newMeter() *meter { return &meter{hash: sha256.New()} }

func (m *meter) add(p []byte) {
	m.hash.Write(p)
	m.size += int64(len(p))
}

func (m *meter) digest() Digest {
	return Digest{SHA256: hex.EncodeToString(m.hash.Sum(nil)), Size: m.size}
}

// meteredWriter measures what it writes to out.
type meteredWriter struct {
	*meter
	out io.Writer
}

func (w meteredWriter) Write(p []byte) (int, error) {
	n, err := w.out.Write(p)
	w.add(p[:n])
	return n, err
}
