package archive_test

import (
	"bytes"
	"errors"
	"io"
	"runtime"
	"sync/atomic"
	"testing"

	"filippo.io/age"
	"github.com/klauspost/compress/zstd"

	"github.com/securenotes/securenotes/app/internal/backup/archive"
)

// maxHeap is what a writer and a reader together may add to the heap, in bytes.
const maxHeap = 48 << 20

// peakHeap returns how much the heap grew at most while run ran. run calls sample now and then.
func peakHeap(run func(sample func())) int64 {
	var before, now runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	var peak atomic.Int64
	run(func() {
		runtime.GC()
		runtime.ReadMemStats(&now)
		peak.Store(max(peak.Load(), int64(now.HeapAlloc)-int64(before.HeapAlloc)))
	})
	return peak.Load()
}

// TestMemoryIsFlat writes and reads 120 MB through a pipe, more than twice what the heap may have.
func TestMemoryIsFlat(t *testing.T) {
	const total = 120_000_000
	identity, rows := newIdentity(t), noteRows(1000)
	c := archiveContents(archive.NewID(started))
	c.Tables = []archive.Table{noteTable}
	n, size := 0, 0
	for size < total {
		size += 1500 // a line, roughly
		n++
	}
	want := archive.File{Size: 1 << 40, Content: archive.Digest{Size: 1 << 40}, TarSize: 1 << 40} // known only at the end
	got := peakHeap(func(sample func()) {
		pipe, out := io.Pipe()
		written := make(chan archive.Written, 1)
		go func() {
			w, err := archive.NewWriter(out, []age.Recipient{identity.Recipient()}, c)
			for i := 0; err == nil && i < n; i++ {
				err = w.Row(0, rows[i%len(rows)])
			}
			var done archive.Written
			if err == nil {
				done, err = w.Close()
			}
			written <- done
			out.CloseWithError(err)
		}()
		r, err := archive.Open(pipe, []age.Identity{identity}, want, archive.KindArchive, c.ID, false)
		if err != nil {
			t.Fatal(err)
		}
		read := 0
		for ; err == nil; read++ {
			if read%20_000 == 0 {
				sample()
			}
			_, _, err = r.Next()
		}
		// The digests are refused at the very end: everything else was read.
		if done := <-written; read-1 != n || !errors.Is(err, archive.ErrDamaged) || done.TarSize < total {
			t.Errorf("got %d of %d rows, then %v; %d bytes were written", read-1, n, err, done.TarSize)
		}
	})
	t.Logf("the heap grew by %d KiB", got>>10)
	if got > maxHeap {
		t.Errorf("the heap grew by %d bytes, want at most %d", got, maxHeap)
	}
}

// zeros is a stream of zeros.
type zeros struct{}

func (zeros) Read(p []byte) (int, error) {
	clear(p)
	return len(p), nil
}

// TestBombs checks that files which decompress to gigabytes are refused early, in little memory.
func TestBombs(t *testing.T) {
	const size = 2 << 30
	c := craftSample(t)
	var bomb bytes.Buffer
	w, err := zstd.NewWriter(&bomb, zstd.WithWindowSize(8<<20))
	if err != nil {
		t.Fatal(err)
	}
	stream := c.tar(t)
	if _, err := w.Write(stream[:512]); err != nil { // begins as an archive does
		t.Fatal(err)
	}
	if _, err := io.CopyN(w, zeros{}, size); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	for name, tarSize := range map[string]int{"beyond the announced size": len(stream), "announced": size + 512} {
		t.Run(name, func(t *testing.T) {
			raw, want := c.packContent(t, bomb.Bytes(), tarSize)
			got := peakHeap(func(sample func()) {
				err := c.read(raw, want)
				sample()
				refused(t, err, archive.ErrDamaged, "")
			})
			if got > maxHeap {
				t.Errorf("the heap grew by %d bytes, want at most %d", got, maxHeap)
			}
		})
	}
}
