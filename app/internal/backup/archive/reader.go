package archive

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"time"

	"filippo.io/age"
	"github.com/klauspost/compress/zstd"
)

// Reader reads an archive or an escrow file. Its methods must not be called concurrently.
type Reader struct {
	name     string
	want     File
	start    time.Time
	file     *ageReader
	zstd     *zstd.Decoder
	position int64 // in the tar stream

	contents Contents
	codecs   []*rowCodec
	seal     seal
	// member is the one that is being read, with the part number of the table. left is how much of
	// its content is not read yet, and content measures what is. Of its rows, line are returned.
	member        string
	table, number int
	left          int64
	content       *meter
	line          int64
	// rest is what is read and not returned yet. It is in buffer.
	rest, buffer []byte

	block [tarBlock]byte
	err   error
}

const (
	// readAhead is how many blocks of zstd are decompressed ahead. A block has at most 128 KiB.
	readAhead = 8
	// rowBuffer is how many bytes of rows are read at once. A longer row doubles it.
	rowBuffer = 256 << 10
)

// Open reads the beginning of the file of the given kind, of the backup with the given id. want is
// what the signed manifest says of the file. If rekeyed, the file is a copy for other recipients,
// so only its content can be compared with want.
func Open(in io.Reader, identities []age.Identity, want File, kind Kind, id string, rekeyed bool) (*Reader, error) {
	r := &Reader{name: Name(id, kind, rekeyed), want: want}
	var err error
	if r.start, err = startOf(id); err != nil {
		return nil, damaged(r.name, fmt.Sprintf("%s is not the id of a backup", id))
	}
	if r.file, err = openAge(in, identities, want, r.name, rekeyed); err != nil {
		return nil, err
	}
	// It decrypts and decompresses in goroutines, while this one parses what is before.
	if r.zstd, err = zstd.NewReader(&zstdFrame{in: r.file}, zstd.WithDecoderConcurrency(readAhead), zstd.WithDecoderLowmem(true), zstd.WithDecoderMaxWindow(maxWindow)); err != nil {
		return nil, err
	}
	if err := r.open(kind, id); err != nil {
		r.Close()
		return nil, err
	}
	return r, nil
}

// open reads manifest.json.
func (r *Reader) open(kind Kind, id string) error {
	name, size, err := r.readHeader()
	if err != nil {
		return err
	}
	if name != contentsMember {
		return damaged(r.name, fmt.Sprintf("its first member is %q, not %s", name, contentsMember))
	}
	if size > maxContents {
		return damaged(r.name, fmt.Sprintf("%s has %d bytes, and the limit is %d", contentsMember, size, maxContents))
	}
	raw, err := r.readContent(size)
	if err != nil {
		return err
	}
	text, ok := bytes.CutSuffix(raw, []byte("\n"))
	if !ok {
		return damaged(r.name, fmt.Sprintf("%s does not end with a line feed", contentsMember))
	}
	if r.contents, err = parseContents(r.name, text); err != nil {
		return err
	}
	if r.contents.ID != id || r.contents.Kind != kind {
		return damaged(r.name, fmt.Sprintf("it is the %s of the backup %s, so it was renamed or exchanged", r.contents.Kind, r.contents.ID))
	}
	for _, table := range r.contents.Tables {
		r.codecs = append(r.codecs, newRowCodec(table))
	}
	r.member = name
	r.seal.add(name, r.content.digest(), 0)
	return nil
}

// Contents returns the first member.
func (r *Reader) Contents() Contents { return r.contents }

// Next returns the next row: the index of its table in the Contents, and its values as [Writer.Row]
// takes them. The values are valid until the next call. The error is io.EOF only after the whole
// file was read, and is the one that the manifest describes. Until then, even a file that was
// changed may return rows.
func (r *Reader) Next() (table int, values []any, err error) {
	if r.err == nil {
		values, r.err = r.next()
	}
	if r.err != nil {
		return 0, nil, r.err
	}
	return r.table, values, nil
}

func (r *Reader) next() ([]any, error) {
	for len(r.rest) == 0 && r.left == 0 {
		if err := r.nextPart(); err != nil {
			return nil, err
		}
	}
	r.line++
	line, err := r.readLine()
	if err != nil {
		return nil, err
	}
	values, err := r.codecs[r.table].decode(line)
	if err != nil {
		refusal := damaged(r.name, fmt.Sprintf("row %d of %s is not as a backup writes it", r.line, r.member))
		refusal.Err = err
		return nil, refusal
	}
	if len(r.rest) == 0 && r.left == 0 {
		err = r.endContent()
		r.seal.add(r.member, r.content.digest(), r.line)
	}
	return values, err
}

// readLine reads a line of the member. It is valid until the next call.
func (r *Reader) readLine() ([]byte, error) {
	for {
		line, rest, ended := bytes.Cut(r.rest, []byte("\n"))
		if len(line) >= maxRow || !ended && r.left == 0 {
			return nil, damaged(r.name, fmt.Sprintf("row %d of %s does not end, or has more than %d bytes", r.line, r.member, maxRow))
		}
		if ended {
			r.rest = rest
			return line, nil
		}
		if err := r.readRest(); err != nil {
			return nil, err
		}
	}
}

// readRest reads more of the member, after rest.
func (r *Reader) readRest() error {
	if len(r.rest) == len(r.buffer) {
		r.buffer = make([]byte, max(2*len(r.buffer), rowBuffer))
	}
	n := copy(r.buffer, r.rest)
	r.rest = r.buffer[:min(int64(len(r.buffer)), int64(n)+r.left)]
	return r.readMember(r.rest[n:])
}

// nextPart reads the next member with rows. At the end of the stream, it returns io.EOF.
func (r *Reader) nextPart() error {
	name, size, err := r.readHeader()
	if err != nil {
		return err
	}
	if name == sealMember {
		return r.readSeal(size)
	}
	if previous := r.member; !r.follows(name) {
		return damaged(r.name, fmt.Sprintf("the member %q does not follow %s, so members are missing, added or reordered", name, previous))
	}
	if size < 1 || size > maxPart || r.seal.members > maxMembers {
		return damaged(r.name, fmt.Sprintf("the member %s is number %d and has %d bytes, and the limits are %d members and %d bytes", name, r.seal.members, size, maxMembers, maxPart))
	}
	r.line, r.member = 0, name
	r.content, r.left = newMeter(), size
	return nil
}

// readSeal reads the last member, and then the end of the file.
func (r *Reader) readSeal(size int64) error {
	want := r.seal.end()
	wrong := damaged(r.name, fmt.Sprintf("%s does not list the members as they are, so one is edited, missing or added", sealMember))
	if size != int64(len(want)) {
		return wrong
	}
	got, err := r.readContent(size)
	if err != nil {
		return err
	}
	if !bytes.Equal(got, want) {
		return wrong
	}
	end := make([]byte, len(tarEnd))
	if err := r.read(end); err != nil {
		return err
	}
	if !bytes.Equal(end, tarEnd[:]) {
		return damaged(r.name, fmt.Sprintf("more members follow %s", sealMember))
	}
	switch n, err := r.zstd.Read(end); {
	case n > 0:
		return r.refuseStream(n, nil)
	case !errors.Is(err, io.EOF):
		return r.refuseStream(0, err)
	}
	if r.position != r.want.TarSize {
		return damaged(r.name, fmt.Sprintf("its tar stream has %d bytes, and the signed manifest says %d", r.position, r.want.TarSize))
	}
	// The decompressor may end early, so the last word has the reader below it.
	if err := r.below().drain(); err != nil {
		return err
	}
	return io.EOF
}

// follows reports whether a member with rows may have the given name, and records which it is.
func (r *Reader) follows(name string) bool {
	if r.number > 0 && name == partName(r.codecs[r.table].table.Name, r.number+1) {
		r.number++
		return true
	}
	first := r.table
	if r.number > 0 {
		first++
	}
	for i := first; i < len(r.codecs); i++ {
		if name == partName(r.codecs[i].table.Name, 1) {
			r.table, r.number = i, 1
			return true
		}
	}
	return false
}

// readHeader reads the header of the next member.
func (r *Reader) readHeader() (name string, size int64, err error) {
	if err := r.read(r.block[:]); err != nil {
		return "", 0, err
	}
	name, size, ok := parseTarHeader(r.block[:], r.start)
	if !ok {
		return "", 0, damaged(r.name, fmt.Sprintf("at byte %d of its tar stream, there is no member as a backup writes it", r.position-tarBlock))
	}
	return name, size, nil
}

// readContent reads the whole content of a member.
func (r *Reader) readContent(size int64) ([]byte, error) {
	r.content, r.left = newMeter(), size
	content := make([]byte, size)
	if err := r.readMember(content); err != nil {
		return nil, err
	}
	return content, r.endContent()
}

// readMember fills p from the content of a member.
func (r *Reader) readMember(p []byte) error {
	err := r.read(p)
	r.content.add(p)
	r.left -= int64(len(p))
	return err
}

// endContent reads what follows the content of a member.
func (r *Reader) endContent() error {
	padding := r.block[:tarPadding(r.content.size)]
	if err := r.read(padding); err != nil {
		return err
	}
	if !bytes.Equal(padding, tarEnd[:len(padding)]) {
		return damaged(r.name, fmt.Sprintf("at byte %d of its tar stream, there is more than the content of a member", r.position))
	}
	return nil
}

// read fills p from the tar stream.
func (r *Reader) read(p []byte) error {
	if r.position+int64(len(p)) > r.want.TarSize {
		return damaged(r.name, fmt.Sprintf("its tar stream has more than the %d bytes of the signed manifest", r.want.TarSize))
	}
	n, err := io.ReadFull(r.zstd, p)
	r.position += int64(n)
	if err != nil {
		return r.refuseStream(n, err)
	}
	return nil
}

// refuseStream returns the error for a decompressed stream that goes on, or that does not.
func (r *Reader) refuseStream(n int, err error) error {
	switch below := r.below().err; {
	case below != nil && !errors.Is(below, io.EOF):
		return below
	case errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF):
		return damaged(r.name, fmt.Sprintf("its tar stream ends after %d bytes, so it is truncated", r.position))
	case err == nil:
		return damaged(r.name, fmt.Sprintf("its tar stream goes on for %d bytes after its end", n))
	}
	refusal := damaged(r.name, fmt.Sprintf("zstd cannot decompress it after %d bytes", r.position))
	refusal.Err = err
	return refusal
}

// below returns the reader below the decompressor. It ends that, whose goroutines use it, too.
func (r *Reader) below() *ageReader {
	r.zstd.Close()
	return r.file
}

// Close releases what the Reader holds. It waits for a read from the underlying io.Reader that is
// under way. It does not close the underlying io.Reader.
func (r *Reader) Close() error {
	r.zstd.Close()
	return nil
}
