package archive

import (
	"archive/tar"
	"bytes"
	"fmt"
	"strconv"
	"time"
)

// The first and the last member. Those between are named TABLE/NUMBER.ndjson.
const (
	contentsMember = "manifest.json"
	sealMember     = "seal.json"
)

const tarBlock = 512

// tarEnd is what ends a tar stream: two blocks of zeros.
var tarEnd [2 * tarBlock]byte

// partName returns the name of the member with the n-th part of a table's rows, from 1.
func partName(table string, n int) string { return fmt.Sprintf("%s/%06d.ndjson", table, n) }

// startOf returns the time in the id of a backup, which is the modification time of all members.
func startOf(id string) (time.Time, error) {
	return time.Parse("20060102T150405Z", id[:len("20060102T150405Z")])
}

// tarHeader returns the header block of a member.
func tarHeader(name string, size int64, at time.Time) ([]byte, error) {
	var block bytes.Buffer
	err := tar.NewWriter(&block).WriteHeader(&tar.Header{Typeflag: tar.TypeReg, Name: name, Size: size, Mode: 0o600, ModTime: at, Format: tar.FormatUSTAR})
	if err == nil && block.Len() != tarBlock {
		err = fmt.Errorf("the header of %s needs %d bytes", name, block.Len())
	}
	return block.Bytes(), err
}

// parseTarHeader returns the name and the size of the member that a header block begins. It refuses
// every block that tarHeader does not return, so links, sparse files, long names and the rest of
// what tar can express never reach the caller.
func parseTarHeader(block []byte, at time.Time) (name string, size int64, ok bool) {
	header, err := tar.NewReader(bytes.NewReader(block)).Next()
	if err != nil {
		return "", 0, false
	}
	again, err := tarHeader(header.Name, header.Size, at)
	return header.Name, header.Size, err == nil && bytes.Equal(block, again)
}

// tarPadding returns the number of zeros after a member of the given size.
func tarPadding(size int64) int64 { return -size & (tarBlock - 1) }

// seal is the text of seal.json, as far as the members are known.
type seal struct {
	text    []byte
	members int
}

// add adds a member.
func (s *seal) add(name string, content Digest, rows int64) {
	if s.members == 0 {
		s.text = append(s.text, `{"members":[`...)
	} else {
		s.text = append(s.text, ',')
	}
	s.members++
	s.text = append(s.text, "\n{\"name\":\""...)
	s.text = append(s.text, name...)
	s.text = append(s.text, `","size":`...)
	s.text = strconv.AppendInt(s.text, content.Size, 10)
	s.text = append(s.text, `,"sha256":"`...)
	s.text = append(s.text, content.SHA256...)
	s.text = append(s.text, `","rows":`...)
	s.text = strconv.AppendInt(s.text, rows, 10)
	s.text = append(s.text, '}')
}

// end returns the whole text.
func (s *seal) end() []byte { return append(s.text, "\n]}\n"...) }
