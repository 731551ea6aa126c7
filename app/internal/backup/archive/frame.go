package archive

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
)

// zstdFrame passes on exactly one zstd frame (RFC 8878, section 3.1.1), and then reads the end of
// the stream. Decoders accept more: several frames, and frames that they skip.
type zstdFrame struct {
	in io.Reader
	// rest is the number of bytes up to the next header, and last whether they end the frame.
	rest     int
	last     bool
	checksum bool
	// header is read and not passed on yet.
	header  []byte
	storage [largestFrameHeader]byte
	started bool
	err     error
}

const (
	frameMagic = 0xFD2FB528
	// largestFrameHeader is the size of the largest frame header.
	largestFrameHeader = 18
	checksumSize       = 4
	blockHeader        = 3
	blockRLE           = 1
)

var errNotOneFrame = errors.New("it is not exactly one zstd frame")

func (f *zstdFrame) Read(p []byte) (int, error) {
	if len(p) == 0 {
		return 0, nil
	}
	for f.err == nil && f.rest == 0 && len(f.header) == 0 {
		f.err = f.next()
	}
	switch {
	case f.err != nil:
		return 0, f.err
	case len(f.header) > 0:
		n := copy(p, f.header)
		f.header = f.header[n:]
		return n, nil
	}
	n, err := f.in.Read(p[:min(len(p), f.rest)])
	f.rest -= n
	if err == io.EOF {
		err = nil
		if f.rest > 0 {
			err = errNotOneFrame
		}
	}
	f.err = err
	return n, err
}

// next reads the header of the frame or of a block, or checks that the stream ends.
func (f *zstdFrame) next() error {
	if f.last {
		if n, err := io.ReadFull(f.in, f.storage[:1]); n == 0 {
			return err
		}
		return errNotOneFrame
	}
	if !f.started {
		f.started = true
		return f.frameHeader()
	}
	header, err := f.read(0, blockHeader)
	if err != nil {
		return err
	}
	bits := int(header[0]) | int(header[1])<<8 | int(header[2])<<16
	f.header, f.last, f.rest = header, bits&1 == 1, bits>>3
	if bits>>1&3 == blockRLE {
		f.rest = 1
	}
	if f.last && f.checksum {
		f.rest += checksumSize
	}
	return nil
}

// frameHeader reads the header of the frame.
func (f *zstdFrame) frameHeader() error {
	header, err := f.read(0, 5)
	if err != nil {
		return err
	}
	if binary.LittleEndian.Uint32(header) != frameMagic {
		return errNotOneFrame
	}
	descriptor := header[4]
	single := descriptor>>5&1 == 1
	f.checksum = descriptor>>2&1 == 1
	if !f.checksum || descriptor&3 != 0 {
		return fmt.Errorf("%w with a checksum and without a dictionary", errNotOneFrame)
	}
	size := []int{0, 2, 4, 8}[descriptor>>6]
	if single && size == 0 {
		size = 1
	}
	if !single {
		size++ // the window's
	}
	f.header, err = f.read(len(header), size)
	return err
}

// read reads n bytes into the storage after those that are there.
func (f *zstdFrame) read(after, n int) ([]byte, error) {
	if _, err := io.ReadFull(f.in, f.storage[after:after+n]); err != nil {
		if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
			err = errNotOneFrame
		}
		return nil, err
	}
	return f.storage[:after+n], nil
}
