package archive_test

import (
	"archive/tar"
	"bytes"
	"encoding/binary"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/klauspost/compress/zstd"

	"github.com/securenotes/securenotes/app/internal/backup/archive"
)

// TestCraftedIsAccepted checks that what the tests below put together is accepted unless they
// change it.
func TestCraftedIsAccepted(t *testing.T) {
	c := craftSample(t)
	before := bytes.Clone(c.members[len(c.members)-1].content)
	c.reseal(t)
	if got := c.members[len(c.members)-1].content; !bytes.Equal(got, before) {
		t.Fatalf("got seal %s, want %s", got, before)
	}
	if err := c.read(c.pack(t, c.tar(t))); err != nil {
		t.Fatal(err)
	}
}

// TestMembersAreRefused checks tar streams that the writer does not write. Their digests are right,
// as if the attacker had the signing key.
func TestMembersAreRefused(t *testing.T) {
	const (
		notFollow = "so members are missing, added or reordered"
		unsealed  = "seal.json does not list the members as they are"
		noMember  = "there is no member as a backup writes it"
	)
	retype := func(typeflag byte, format tar.Format, change func(*tar.Header)) func(*testing.T, *crafted) {
		return func(_ *testing.T, c *crafted) {
			h := &c.members[1].header
			h.Typeflag, h.Format = typeflag, format
			if change != nil {
				change(h)
			}
			if typeflag != tar.TypeReg {
				c.members[1].content = nil
			}
		}
	}
	for name, tc := range map[string]struct {
		change func(*testing.T, *crafted)
		keep   bool // the list of members
		want   string
	}{
		"reordered":        {change: func(_ *testing.T, c *crafted) { c.members[1], c.members[3] = c.members[3], c.members[1] }, want: notFollow},
		"duplicated":       {change: func(_ *testing.T, c *crafted) { c.members = slices.Insert(c.members, 2, c.members[1]) }, want: notFollow},
		"missing":          {change: func(_ *testing.T, c *crafted) { c.members = slices.Delete(c.members, 2, 3) }, keep: true, want: unsealed},
		"contents missing": {change: func(_ *testing.T, c *crafted) { c.members = c.members[1:] }, want: "its first member is \"users/000001.ndjson\""},
		"contents twice":   {change: func(_ *testing.T, c *crafted) { c.members = slices.Insert(c.members, 1, c.members[0]) }, want: notFollow},
		"seal missing":     {change: func(_ *testing.T, c *crafted) { c.members = c.members[:len(c.members)-1] }, keep: true, want: noMember},
		"seal twice":       {change: func(_ *testing.T, c *crafted) { c.members = append(c.members, c.members[len(c.members)-1]) }, keep: true, want: "more members follow seal.json"},
		"seal first":       {change: func(_ *testing.T, c *crafted) { c.members = slices.Insert(c.members, 1, c.members[len(c.members)-1]) }, keep: true, want: unsealed},
		"extra": {change: func(_ *testing.T, c *crafted) {
			c.members = slices.Insert(c.members, 1, c.file("sessions/000001.ndjson", "{}\n"))
		}, want: notFollow},
		"extra after seal": {change: func(_ *testing.T, c *crafted) {
			c.members = append(c.members, c.file("recovery_codes/000001.ndjson", "{}\n"))
		}, keep: true, want: "more members follow seal.json"},
		"gap":               {change: func(_ *testing.T, c *crafted) { c.members[1].header.Name = "users/000002.ndjson" }, want: notFollow},
		"number 0":          {change: func(_ *testing.T, c *crafted) { c.members[1].header.Name = "users/000000.ndjson" }, want: notFollow},
		"other number form": {change: func(_ *testing.T, c *crafted) { c.members[1].header.Name = "users/1.ndjson" }, want: notFollow},
		"name with dots":    {change: func(_ *testing.T, c *crafted) { c.members[1].header.Name = "../users/000001.ndjson" }, want: notFollow},
		"absolute name":     {change: func(_ *testing.T, c *crafted) { c.members[1].header.Name = "/users/000001.ndjson" }, want: notFollow},
		"long name":         {change: func(_ *testing.T, c *crafted) { c.members[1].header.Name = strings.Repeat("d/", 60) + "x" }, want: notFollow},
		"member unlisted": {change: func(_ *testing.T, c *crafted) {
			c.members = slices.Insert(c.members, 4, c.file("recovery_codes/000001.ndjson", "{}\n"))
		}, keep: true, want: unsealed},
		"row edited": {change: func(_ *testing.T, c *crafted) {
			c.members[1].content = bytes.Replace(c.members[1].content, []byte("alice"), []byte("mallo"), 1)
		}, keep: true, want: unsealed},
		"seal edited": {change: func(t *testing.T, c *crafted) {
			i := c.find(t, "seal.json")
			c.members[i].content = bytes.Replace(c.members[i].content, []byte(`"rows":2`), []byte(`"rows":3`), 1)
		}, keep: true, want: unsealed},
		"seal longer": {change: func(t *testing.T, c *crafted) {
			i := c.find(t, "seal.json")
			c.members[i].content = append(c.members[i].content, '\n')
		}, keep: true, want: unsealed},
		"empty member": {change: func(_ *testing.T, c *crafted) { c.members[1].content = nil }, want: "has 0 bytes"},
		"large member": {change: func(_ *testing.T, c *crafted) { c.members[1].content = bytes.Repeat(c.members[1].content, 80_000) }, want: "and the limits are 100000 members and 8388608 bytes"},
		"large contents": {change: func(_ *testing.T, c *crafted) {
			c.members[0].content = append(bytes.Repeat([]byte(" "), 1<<20), c.members[0].content...)
		}, want: "and the limit is 1048576"},
		"other mode":    {change: retype(tar.TypeReg, tar.FormatUSTAR, func(h *tar.Header) { h.Mode = 0o644 }), want: noMember},
		"other time":    {change: retype(tar.TypeReg, tar.FormatUSTAR, func(h *tar.Header) { h.ModTime = started.AddDate(0, 0, 1) }), want: noMember},
		"other owner":   {change: retype(tar.TypeReg, tar.FormatUSTAR, func(h *tar.Header) { h.Uname = "root" }), want: noMember},
		"directory":     {change: retype(tar.TypeDir, tar.FormatUSTAR, nil), want: noMember},
		"hard link":     {change: retype(tar.TypeLink, tar.FormatUSTAR, func(h *tar.Header) { h.Linkname = "manifest.json" }), want: noMember},
		"symbolic link": {change: retype(tar.TypeSymlink, tar.FormatUSTAR, func(h *tar.Header) { h.Linkname = "/etc/passwd" }), want: noMember},
		"device":        {change: retype(tar.TypeChar, tar.FormatUSTAR, func(h *tar.Header) { h.Devmajor = 1 }), want: noMember},
		"pipe":          {change: retype(tar.TypeFifo, tar.FormatUSTAR, nil), want: noMember},
		"pax record":    {change: retype(tar.TypeReg, tar.FormatPAX, func(h *tar.Header) { h.PAXRecords = map[string]string{"comment": "x"} }), want: noMember},
		"pax global record": {change: func(_ *testing.T, c *crafted) {
			c.members = slices.Insert(c.members, 1, member{header: tar.Header{Typeflag: tar.TypeXGlobalHeader, Name: "g", PAXRecords: map[string]string{"comment": "x"}, Format: tar.FormatPAX}})
		}, want: noMember},
		"GNU format":         {change: retype(tar.TypeReg, tar.FormatGNU, nil), want: noMember},
		"GNU long name":      {change: retype(tar.TypeReg, tar.FormatGNU, func(h *tar.Header) { h.Name = strings.Repeat("n", 300) }), want: noMember},
		"end missing":        {change: func(_ *testing.T, c *crafted) { c.end = nil }, want: "more than the"},
		"end of one block":   {change: func(_ *testing.T, c *crafted) { c.end = c.end[:512] }, want: "more than the"},
		"end of three":       {change: func(_ *testing.T, c *crafted) { c.end = make([]byte, 1536) }, want: "goes on for 512 bytes after its end"},
		"text after the end": {change: func(_ *testing.T, c *crafted) { c.end = append(c.end, 'x') }, want: "goes on for 1 bytes after its end"},
	} {
		t.Run(name, func(t *testing.T) {
			c := craftSample(t)
			tc.change(t, c)
			if !tc.keep {
				c.reseal(t)
			}
			refused(t, c.read(c.pack(t, c.tar(t))), archive.ErrDamaged, tc.want)
		})
	}
}

// TestTarHeadersAreRefused edits header blocks in ways that a tar writer does not offer.
func TestTarHeadersAreRefused(t *testing.T) {
	// checksummed returns the stream with a header block edited and its checksum right.
	checksummed := func(stream []byte, at int, edit func(block []byte)) []byte {
		block := stream[at : at+512]
		edit(block)
		copy(block[148:156], "        ")
		sum := 0
		for _, b := range block {
			sum += int(b)
		}
		copy(block[148:156], fmt.Sprintf("%06o\x00 ", sum))
		return stream
	}
	second := func(stream []byte) int { // the header of the second member
		var size int
		fmt.Sscanf(string(stream[124:135]), "%o", &size)
		return 512 + (size+511)/512*512
	}
	for name, tc := range map[string]struct {
		edit func(block []byte)
		want string
	}{
		"largest size":   {func(b []byte) { copy(b[124:136], "77777777777\x00") }, "has 8589934591 bytes, and the limits are"},
		"base-256 size":  {func(b []byte) { copy(b[124:136], "\x80\x00\x00\x00\x01\x00\x00\x00\x00\x00\x00\x00") }, "there is no member"},
		"negative size":  {func(b []byte) { copy(b[124:136], bytes.Repeat([]byte{0xff}, 12)) }, "there is no member"},
		"sparse":         {func(b []byte) { b[156] = tar.TypeGNUSparse; copy(b[257:265], "ustar  \x00") }, "there is no member"},
		"old type":       {func(b []byte) { b[156] = 0 }, "there is no member"},
		"contiguous":     {func(b []byte) { b[156] = '7' }, "there is no member"},
		"unknown type":   {func(b []byte) { b[156] = 'Z' }, "there is no member"},
		"no magic":       {func(b []byte) { copy(b[257:265], make([]byte, 8)) }, "there is no member"},
		"other padding":  {func(b []byte) { b[511] = 1 }, "there is no member"},
		"spaces in size": {func(b []byte) { b[124] = ' ' }, "there is no member"},
		"text after NUL": {func(b []byte) { b[99] = 'x' }, "there is no member"},
	} {
		t.Run(name, func(t *testing.T) {
			c := craftSample(t)
			stream := c.tar(t)
			refused(t, c.read(c.pack(t, checksummed(stream, second(stream), tc.edit))), archive.ErrDamaged, tc.want)
		})
	}
	t.Run("padding of a member", func(t *testing.T) {
		c := craftSample(t)
		stream := c.tar(t)
		stream[second(stream)-1] = 'x'
		refused(t, c.read(c.pack(t, stream)), archive.ErrDamaged, "there is more than the content of a member")
	})
}

// TestRowsAreRefused checks lines that the writer does not write, in members that seal.json lists.
func TestRowsAreRefused(t *testing.T) {
	const order = "it does not have the columns of users in their order"
	for name, tc := range map[string]struct{ content, want string }{
		"duplicate name":      {`{"id":"a","id":"b"}` + "\n", order},
		"other order":         {`{"username":"a","id":"b"}` + "\n", order},
		"unknown name":        {`{"id":"a","role":"admin"}` + "\n", order},
		"name in other case":  {`{"ID":"a"}` + "\n", order},
		"escaped name":        {`{"\u0069d":"a"}` + "\n", order},
		"null":                {`{"id":null}` + "\n", "column id is not of type text"},
		"nested object":       {`{"id":{"id":"a"}}` + "\n", "column id is not of type text"},
		"nested array":        {`{"id":` + strings.Repeat("[", 100_000) + "\n", "column id is not of type text"},
		"array":               {"[]\n", order},
		"spaces":              {`{ "id":"a"}` + "\n", order},
		"space at the end":    {`{"id":"a"} ` + "\n", order},
		"carriage return":     {`{"id":"a"}` + "\r\n", order},
		"byte order mark":     {"\ufeff" + `{"id":"a"}` + "\n", order},
		"trailing comma":      {`{"id":"a",}` + "\n", order},
		"leading comma":       {`{,"id":"a"}` + "\n", order},
		"two objects":         {`{"id":"a"}{"id":"b"}` + "\n", order},
		"empty line":          {"\n", order},
		"not JSON":            {"id\n", order},
		"no end":              {`{"id":"a"` + "\n", order},
		"no end of text":      {`{"id":"a` + "\n", "column id is not of type text"},
		"no end of escape":    {`{"id":"a\` + "\n", "column id is not of type text"},
		"no line feed":        {`{"id":"a"}`, "row 1 of users/000001.ndjson does not end"},
		"invalid UTF-8":       {"{\"id\":\"\xff\"}\n", "column id is not of type text"},
		"surrogate":           {`{"id":"\ud800"}` + "\n", "column id is not of type text"},
		"control character":   {"{\"id\":\"\x01\"}\n", "column id is not of type text"},
		"other escape":        {`{"id":"\u0061"}` + "\n", "column id is not of type text"},
		"unknown escape":      {`{"id":"\x"}` + "\n", "column id is not of type text"},
		"number for text":     {`{"id":1}` + "\n", "column id is not of type text"},
		"text for number":     {`{"created_at":"1"}` + "\n", "column created_at is not of type integer"},
		"fraction":            {`{"created_at":1.5}` + "\n", order},
		"exponent":            {`{"created_at":1e3}` + "\n", order},
		"leading zero":        {`{"created_at":01}` + "\n", "column created_at is not of type integer"},
		"negative zero":       {`{"created_at":-0}` + "\n", "column created_at is not of type integer"},
		"plus":                {`{"created_at":+1}` + "\n", "column created_at is not of type integer"},
		"no digits":           {`{"created_at":-}` + "\n", "column created_at is not of type integer"},
		"beyond int64":        {`{"created_at":9223372036854775808}` + "\n", "column created_at is not of type integer"},
		"a million digits":    {`{"created_at":` + strings.Repeat("9", 1_000_000) + "}\n", "column created_at is not of type integer"},
		"a line of 3 MiB":     {`{"id":"` + strings.Repeat("a", 3<<20) + `"}` + "\n", "has more than 2097152 bytes"},
		"a line without end":  {strings.Repeat("a", 8<<20), "has more than 2097152 bytes"},
		"the second is wrong": {`{"id":"a"}` + "\n" + `{"id":1}` + "\n", "row 2 of users/000001.ndjson"},
	} {
		t.Run(name, func(t *testing.T) {
			c := craftSample(t)
			c.members[1].content = []byte(tc.content)
			c.reseal(t)
			refused(t, c.read(c.pack(t, c.tar(t))), archive.ErrDamaged, tc.want)
		})
	}
	for name, content := range map[string]string{
		"unpadded":              "YQ",
		"URL-safe":              "-_-_",
		"other trailing bits":   "YR==",
		"line feed in base64":   "YWJj\\nYWJj",
		"carriage return in it": "YWJj\rYWJj",
		"not base64":            "!!!!",
	} {
		t.Run(name, func(t *testing.T) {
			c := craftSample(t)
			c.members[3].content = []byte(`{"content":"` + content + `"}` + "\n")
			c.reseal(t)
			refused(t, c.read(c.pack(t, c.tar(t))), archive.ErrDamaged, "column content is not of type bytes")
		})
	}
}

// TestContentsAreRefused checks first members that the writer does not write.
func TestContentsAreRefused(t *testing.T) {
	manyTables := strings.Repeat(`{"name":"t","columns":[{"name":"c","type":"text"}]},`, 65)
	manyColumns := strings.Repeat(`{"name":"c","type":"text"},`, 65)
	for name, tc := range map[string]struct {
		old, new string
		reason   error
		want     string
	}{
		"newer format":       {`{"format":1,`, `{"format":2,"novelty":{},`, archive.ErrNewerFormat, "it has format 2, and this program reads up to format 1"},
		"format 0":           {`"format":1`, `"format":0`, archive.ErrDamaged, "format is 0"},
		"unknown name":       {`"schema":9`, `"schema":9,"x":1`, archive.ErrDamaged, "unknown object member name \"x\""},
		"duplicate name":     {`"schema":9`, `"schema":9,"schema":9`, archive.ErrDamaged, "duplicate object member name \"schema\""},
		"spaces":             {`"schema":9`, `"schema": 9`, archive.ErrDamaged, "would be written differently"},
		"other escape":       {`"text"`, `"\u0074ext"`, archive.ErrDamaged, "would be written differently"},
		"huge number":        {`"schema":9`, `"schema":` + strings.Repeat("9", 40), archive.ErrDamaged, "manifest.json is not as a backup writes it"},
		"schema 0":           {`"schema":9`, `"schema":0`, archive.ErrDamaged, "schema is 0"},
		"negative fence":     {`"fence":3`, `"fence":-3`, archive.ErrDamaged, "fence is -3"},
		"nested":             {`"tables":[`, `"tables":[` + strings.Repeat("[", 20_000), archive.ErrDamaged, "manifest.json is not as a backup writes it"},
		"invalid UTF-8":      {`"key":`, "\"\xff\":", archive.ErrDamaged, "manifest.json is not as a backup writes it"},
		"no canary":          {`"canary":{"id":"canary-key"`, `"canary":{"id":""`, archive.ErrDamaged, "an archive needs a canary"},
		"an escrow's field":  {`"tables":`, `"currentPepper":"p","tables":`, archive.ErrDamaged, "an archive needs a canary, and has no currentPepper"},
		"the other kind":     {`"kind":"archive"`, `"kind":"escrow"`, archive.ErrDamaged, "an escrow file needs currentPepper"},
		"an unknown kind":    {`"kind":"archive"`, `"kind":"other"`, archive.ErrDamaged, "kind is neither archive nor escrow"},
		"another deployment": {`"deploymentID":"` + deploymentID, `"deploymentID":"`, archive.ErrDamaged, "deploymentID must have 1 to 512 bytes"},
		"a table twice":      {`"name":"owner_keys"`, `"name":"users"`, archive.ErrDamaged, "table users is listed twice"},
		"a column twice":     {`"name":"username"`, `"name":"id"`, archive.ErrDamaged, "column id of table users is listed twice"},
		"a name with dots":   {`"name":"users"`, `"name":"../users"`, archive.ErrDamaged, "a table has a name"},
		"an unknown type":    {`"type":"integer"`, `"type":"float"`, archive.ErrDamaged, "has an unknown type"},
		"65 tables":          {`"tables":[`, `"tables":[` + manyTables, archive.ErrDamaged, "it has 69 tables, and the limit is 64"},
		"65 columns":         {`"columns":[`, `"columns":[` + manyColumns, archive.ErrDamaged, "has 69 columns, and the limit is 64"},
		"no line feed":       {"}]}]}\n", "}]}]}", archive.ErrDamaged, "manifest.json does not end with a line feed"},
	} {
		t.Run(name, func(t *testing.T) {
			c := craftSample(t)
			before := c.members[0].content
			c.members[0].content = bytes.Replace(before, []byte(tc.old), []byte(tc.new), 1)
			if name == "invalid UTF-8" {
				c.members[0].content = bytes.Replace(before, []byte("users"), []byte("us\xffrs"), 1)
			}
			if bytes.Equal(before, c.members[0].content) {
				t.Fatalf("%s has no %s", before, tc.old)
			}
			c.reseal(t)
			refused(t, c.read(c.pack(t, c.tar(t))), tc.reason, tc.want)
		})
	}
}

// TestCompressionIsRefused checks zstd streams that the writer does not write.
func TestCompressionIsRefused(t *testing.T) {
	skippable := append(binary.LittleEndian.AppendUint32(nil, 0x184D2A50), 4, 0, 0, 0, 'j', 'u', 'n', 'k')
	c := craftSample(t)
	stream := c.tar(t)
	frame := compress(t, stream)
	edited := func(at int, xor byte) []byte {
		content := bytes.Clone(frame)
		content[(at+len(content))%len(content)] ^= xor
		return content
	}
	for name, tc := range map[string]struct {
		content []byte
		tarSize int
		want    string
	}{
		"empty":                     {[]byte{}, len(stream), "not exactly one zstd frame"},
		"not zstd":                  {stream, len(stream), "not exactly one zstd frame"},
		"skippable frame before":    {slices.Concat(skippable, frame), len(stream), "not exactly one zstd frame"},
		"skippable frame after":     {slices.Concat(frame, skippable), len(stream), "not exactly one zstd frame"},
		"empty frame after":         {slices.Concat(frame, compress(t, nil, zstd.WithZeroFrames(true))), len(stream), "not exactly one zstd frame"},
		"a byte after":              {append(bytes.Clone(frame), 0), len(stream), "not exactly one zstd frame"},
		"two frames":                {slices.Concat(compress(t, stream[:1024]), compress(t, stream[1024:])), len(stream), "not exactly one zstd frame"},
		"truncated by a byte":       {frame[:len(frame)-1], len(stream), "not exactly one zstd frame"},
		"truncated in the header":   {frame[:5], len(stream), "not exactly one zstd frame"},
		"without checksum":          {compress(t, stream, zstd.WithEncoderCRC(false)), len(stream), "with a checksum and without a dictionary"},
		"with a dictionary":         {compress(t, stream, zstd.WithEncoderDictRaw(7, stream[:2048])), len(stream), "with a checksum and without a dictionary"},
		"window of 16 MiB":          {compress(t, append(bytes.Clone(stream), make([]byte, 20<<20)...), zstd.WithWindowSize(16<<20)), len(stream), "zstd cannot decompress it after 0 bytes: window size exceeded"},
		"checksum edited":           {edited(-1, 1), len(stream), "zstd cannot decompress it"},
		"reserved bit":              {edited(4, 1<<3), len(stream), "zstd cannot decompress it"},
		"longer than announced":     {frame, len(stream) - 1, fmt.Sprintf("more than the %d bytes of the signed manifest", len(stream)-1)},
		"shorter than announced":    {frame, len(stream) + 1, fmt.Sprintf("its tar stream has %d bytes, and the signed manifest says %d", len(stream), len(stream)+1)},
		"tar truncated":             {compress(t, stream[:len(stream)-600]), len(stream), "its tar stream ends after"},
		"tar truncated in a member": {compress(t, stream[:1500]), len(stream), "its tar stream ends after 1500 bytes"},
		"empty tar":                 {compress(t, nil, zstd.WithZeroFrames(true)), len(stream), "its tar stream ends after 0 bytes"},
	} {
		t.Run(name, func(t *testing.T) {
			refused(t, c.read(c.packContent(t, tc.content, tc.tarSize)), archive.ErrDamaged, tc.want)
		})
	}
}
