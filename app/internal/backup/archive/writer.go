package archive

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"slices"
	"time"

	"filippo.io/age"
	"github.com/klauspost/compress/zstd"
)

// Writer writes an archive or an escrow file. Its methods must not be called concurrently.
type Writer struct {
	name  string
	start time.Time
	// out writes the tar stream, of which size bytes are written.
	out     *zstd.Encoder
	size    int64
	content meteredWriter
	age     io.WriteCloser
	file    meteredWriter

	codecs []*rowCodec
	counts []int64
	// part has rows of a table that are not written yet.
	part     []byte
	partRows int64
	table    int
	number   int
	row      []byte
	seal     seal
	err      error
}

// Written is what a [Writer] wrote.
type Written struct {
	File
	// Rows is the number of rows of each table, of empty ones too.
	Rows map[string]int64
}

// encoderWindow is how far back zstd looks for what repeats: the names in a row, and ids of the
// rows before. Sealed values do not repeat, so a larger window would only cost memory.
const encoderWindow = 1 << 20

// initialPart is the first capacity for the rows of a part, in bytes.
const initialPart = 64 << 10

// NewWriter returns a Writer to out. It sets c.Format.
func NewWriter(out io.Writer, recipients []age.Recipient, c Contents) (*Writer, error) {
	c.Format = Format
	w := &Writer{name: Name(c.ID, c.Kind, false), counts: make([]int64, len(c.Tables))}
	if err := c.validate(); err != nil {
		return nil, notArchived(w.name, err.Error())
	}
	var err error
	if w.start, err = startOf(c.ID); err != nil {
		return nil, notArchived(w.name, err.Error())
	}
	for _, table := range c.Tables {
		w.codecs = append(w.codecs, newRowCodec(table))
	}
	first, err := encode(c)
	if err != nil {
		return nil, notArchived(w.name, err.Error())
	}
	w.file = meteredWriter{newMeter(), out}
	if w.age, err = age.Encrypt(w.file, recipients...); err != nil {
		return nil, w.failed(err)
	}
	w.content = meteredWriter{newMeter(), w.age}
	w.out, err = zstd.NewWriter(w.content, zstd.WithEncoderLevel(zstd.SpeedFastest), zstd.WithWindowSize(encoderWindow),
		zstd.WithEncoderConcurrency(1), zstd.WithLowerEncoderMem(true), zstd.WithAllLitEntropyCompression(true))
	if err != nil {
		return nil, w.failed(err)
	}
	if len(first) >= maxContents {
		return nil, notArchived(w.name, fmt.Sprintf("%s has more than %d bytes", contentsMember, maxContents))
	}
	if err := w.member(contentsMember, append(first, '\n'), 0); err != nil {
		return nil, w.failed(err)
	}
	return w, nil
}

// failed returns an error of the output.
func (w *Writer) failed(err error) error { return fmt.Errorf("%s: write: %w", w.name, err) }

// member writes a member, and adds it to the seal.
func (w *Writer) member(name string, content []byte, rows int64) error {
	if len(content) > maxMember {
		return notArchived(w.name, fmt.Sprintf("%s has %d bytes, and the limit is %d", name, len(content), maxMember))
	}
	header, err := tarHeader(name, int64(len(content)), w.start)
	if err != nil {
		return err
	}
	for _, p := range [][]byte{header, content, tarEnd[:tarPadding(int64(len(content)))]} {
		if _, err := w.out.Write(p); err != nil {
			return err
		}
		w.size += int64(len(p))
	}
	digest := sha256.Sum256(content)
	w.seal.add(name, Digest{hex.EncodeToString(digest[:]), int64(len(content))}, rows)
	return nil
}

// Row adds a row. table is an index into the tables of [Contents], and never less than in the call
// before. Each value is nil, string, int64 or []byte, in the order of the columns. Row does not
// retain values.
func (w *Writer) Row(table int, values []any) error {
	if w.err == nil {
		w.err = w.add(table, values)
	}
	return w.err
}

func (w *Writer) add(table int, values []any) error {
	if table < w.table || table >= len(w.codecs) {
		return notArchived(w.name, fmt.Sprintf("a row of table %d follows one of table %d", table, w.table))
	}
	var err error
	if w.row, err = w.codecs[table].append(w.row[:0], values); err != nil {
		return notArchived(w.name, err.Error())
	}
	if table > w.table || len(w.part)+len(w.row) > maxPart {
		if err := w.flush(); err != nil {
			return err
		}
	}
	if table > w.table {
		w.table, w.number = table, 0
	}
	if need := len(w.part) + len(w.row); need > cap(w.part) { // append would grow beyond what a part may have
		w.part = slices.Grow(w.part, min(max(2*need, initialPart), maxPart)-len(w.part))
	}
	w.part = append(w.part, w.row...)
	w.partRows++
	w.counts[table]++
	return nil
}

// flush writes the collected rows as a member.
func (w *Writer) flush() error {
	if len(w.part) == 0 {
		return nil
	}
	if w.seal.members > maxMembers {
		return notArchived(w.name, fmt.Sprintf("the rows need more than %d members", maxMembers))
	}
	w.number++
	err := w.member(partName(w.codecs[w.table].table.Name, w.number), w.part, w.partRows)
	w.part, w.partRows = w.part[:0], 0
	if err != nil {
		return w.failed(err)
	}
	return nil
}

var errClosed = errors.New("the archive is complete")

// Close completes the file. It does not close the underlying io.Writer.
func (w *Writer) Close() (Written, error) {
	if w.err != nil {
		return Written{}, w.err
	}
	if w.err = w.end(); w.err != nil {
		return Written{}, w.err
	}
	w.err = errClosed
	file := w.file.digest()
	written := Written{File: File{SHA256: file.SHA256, Size: file.Size, Content: w.content.digest(), TarSize: w.size}, Rows: map[string]int64{}}
	for i, codec := range w.codecs {
		written.Rows[codec.table.Name] = w.counts[i]
	}
	return written, nil
}

func (w *Writer) end() error {
	if err := w.flush(); err != nil {
		return err
	}
	if err := w.member(sealMember, w.seal.end(), 0); err != nil {
		return w.failed(err)
	}
	if _, err := w.out.Write(tarEnd[:]); err != nil {
		return w.failed(err)
	}
	w.size += int64(len(tarEnd))
	if err := w.out.Close(); err != nil {
		return w.failed(err)
	}
	if err := w.age.Close(); err != nil {
		return w.failed(err)
	}
	return nil
}
