package archive_test

import (
	"bytes"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"testing"

	"filippo.io/age"
	"github.com/google/uuid"

	"github.com/securenotes/securenotes/app/internal/backup/archive"
)

// noteTable is the table notes of the store.
var noteTable = archive.Table{Name: "notes", Columns: []archive.Column{
	{Name: "owner", Type: archive.Text}, {Name: "id", Type: archive.Text}, {Name: "key_id", Type: archive.Text}, {Name: "revision", Type: archive.Integer},
	{Name: "content", Type: archive.Bytes}, {Name: "title", Type: archive.Bytes}, {Name: "tags", Type: archive.Bytes},
	{Name: "created_at", Type: archive.Integer}, {Name: "updated_at", Type: archive.Integer},
}}

// noteRows returns n rows with sealed notes of 1 KiB, a hundred of each owner.
func noteRows(n int) [][]any {
	rows := make([][]any, n)
	owner, key := "", ""
	for i := range rows {
		if i%100 == 0 {
			owner, key = uuid.NewString(), rand.Text()
		}
		content, title := make([]byte, 1024+28), make([]byte, 20+28)
		rand.Read(content)
		rand.Read(title)
		rows[i] = []any{owner, uuid.NewString(), key, int64(1), content, title, nil, int64(1764510120000 + i), int64(1764510120000 + i)}
	}
	return rows
}

const benchRows = 100_000

func benchContents() archive.Contents {
	c := archiveContents("20261130T134200Z-aaaaaaaaaaaaaaaa")
	c.Tables = []archive.Table{noteTable}
	return c
}

func writeBench(b *testing.B, out io.Writer, identity *age.X25519Identity, rows [][]any) archive.Written {
	w, err := archive.NewWriter(out, []age.Recipient{identity.Recipient()}, benchContents())
	if err != nil {
		b.Fatal(err)
	}
	for i := range benchRows {
		if err := w.Row(0, rows[i%len(rows)]); err != nil {
			b.Fatal(err)
		}
	}
	written, err := w.Close()
	if err != nil {
		b.Fatal(err)
	}
	return written
}

func report(b *testing.B, written archive.Written) {
	b.ReportMetric(float64(benchRows*b.N)/b.Elapsed().Seconds(), "rows/s")
	b.ReportMetric(float64(written.TarSize*int64(b.N))/b.Elapsed().Seconds()/1e6, "MB/s")
	b.ReportMetric(float64(written.Size)/float64(written.TarSize), "ratio")
}

// BenchmarkWrite writes notes of 1 KiB.
func BenchmarkWrite(b *testing.B) {
	identity, rows := newIdentity(b), noteRows(10_000)
	var written archive.Written
	for b.Loop() {
		written = writeBench(b, io.Discard, identity, rows)
	}
	report(b, written)
}

// BenchmarkRead reads what BenchmarkWrite writes.
func BenchmarkRead(b *testing.B) {
	identity, rows := newIdentity(b), noteRows(10_000)
	var out bytes.Buffer
	written := writeBench(b, &out, identity, rows)
	for b.Loop() {
		r, err := archive.Open(bytes.NewReader(out.Bytes()), []age.Identity{identity}, written.File, archive.KindArchive, benchContents().ID, false)
		if err != nil {
			b.Fatal(err)
		}
		n := 0
		for ; err == nil; n++ {
			_, _, err = r.Next()
		}
		if n--; !errors.Is(err, io.EOF) || n != benchRows {
			b.Fatal(fmt.Errorf("%d rows, then %w", n, err))
		}
		r.Close()
	}
	report(b, written)
}
