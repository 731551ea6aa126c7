package destination

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
)

// Names of the files of two backups.
const (
	firstID  = "20261130T134200Z-abcdefghijklmnop"
	secondID = "20261201T134200Z-qrstuvwxyz234567"
)

func archiveName(id string) string { return id + ".tar.zst.age" }

func manifestName(id string) string { return id + ".manifest.json" }

// conforms checks what every destination must do. open returns an empty destination, and a function
// that puts a file of any name into it, as another program would.
func conforms(t *testing.T, open func(t *testing.T) (d Destination, foreign func(name string))) {
	t.Helper()
	t.Run("a file of any size comes back", func(t *testing.T) {
		d, _ := open(t)
		// Sizes around the limits of requests and parts.
		for i, size := range []int{0, 1, smallFile - 1, smallFile, smallFile + 1, testPart, testPart + 1, 2*testPart + 17} {
			name := archiveName(numberedID(i))
			want := content(size)
			create(t, d, name, want)
			if got := read(t, d, name); !bytes.Equal(got, want) {
				t.Errorf("a file of %d bytes came back with %d other bytes", size, len(got))
			}
		}
	})
	t.Run("a file is never overwritten", func(t *testing.T) {
		d, _ := open(t)
		for name, size := range map[string]int{manifestName(firstID): 10, archiveName(firstID): testPart + 1} {
			want := content(size)
			create(t, d, name, want)
			err := d.Create(t.Context(), name, strings.NewReader("other"))
			if !errors.Is(err, ErrExists) {
				t.Errorf("%s: got %v, want %v", name, err, ErrExists)
			}
			if got := read(t, d, name); !bytes.Equal(got, want) {
				t.Errorf("%s was overwritten", name)
			}
		}
	})
	t.Run("of two writers one succeeds", func(t *testing.T) {
		d, _ := open(t)
		for _, size := range []int{10, testPart + 1} {
			name := archiveName(numberedID(size))
			var (
				writers  sync.WaitGroup
				contents = [2][]byte{content(size), content(size)}
				errs     [2]error
				// both holds a writer at the end of its content until the other is there.
				both sync.WaitGroup
			)
			both.Add(2)
			for i := range 2 {
				writers.Go(func() {
					meets := &meeting{Reader: bytes.NewReader(contents[i]), with: &both}
					errs[i] = d.Create(t.Context(), name, meets)
					meets.arrive()
				})
			}
			writers.Wait()
			winner := slices.Index(errs[:], nil)
			if winner < 0 || !errors.Is(errs[1-winner], ErrExists) {
				t.Fatalf("%d bytes: got %v, want one success and %v", size, errs, ErrExists)
			}
			if got := read(t, d, name); !bytes.Equal(got, contents[winner]) {
				t.Errorf("%d bytes: the file is not that of the writer that succeeded", size)
			}
		}
	})
	t.Run("a file that is not there", func(t *testing.T) {
		d, _ := open(t)
		if _, _, err := d.Open(t.Context(), archiveName(firstID)); !errors.Is(err, ErrNotFound) {
			t.Errorf("got %v, want %v", err, ErrNotFound)
		}
	})
	t.Run("names that are not a backup's are refused", func(t *testing.T) {
		d, _ := open(t)
		for _, name := range []string{"", ".", "notes.txt", "../" + archiveName(firstID), "a/" + archiveName(firstID), archiveName(firstID) + "\n"} {
			if err := d.Create(t.Context(), name, strings.NewReader("")); err == nil {
				t.Errorf("Create accepted %q", name)
			}
			if _, _, err := d.Open(t.Context(), name); err == nil {
				t.Errorf("Open accepted %q", name)
			}
			if err := d.Delete(t.Context(), name); err == nil {
				t.Errorf("Delete accepted %q", name)
			}
		}
	})
	t.Run("a list has the files of backups by name", func(t *testing.T) {
		d, foreign := open(t)
		if got := list(t, d); len(got) != 0 {
			t.Fatalf("an empty destination lists %q", got)
		}
		foreign("notes.txt")
		foreign(archiveName(firstID) + ".part")
		want := []string{
			firstID + ".escrow.tar.zst.age", firstID + ".manifest.json", firstID + ".rekeyed.escrow.tar.zst.age",
			firstID + ".rekeyed.tar.zst.age", firstID + ".tar.zst.age", secondID + ".tar.zst.age",
		}
		before := time.Now().Add(-time.Minute)
		for i, name := range slices.Backward(want) {
			create(t, d, name, content(i))
		}
		if got := list(t, d); !slices.Equal(got, want) {
			t.Fatalf("got %q, want %q", got, want)
		}
		entries, err := d.List(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		for i, e := range entries {
			if e.Size != int64(i) || e.ModTime.Before(before) || e.ModTime.After(time.Now().Add(time.Minute)) {
				t.Errorf("got %+v, want the size %d and the time of now", e, i)
			}
		}
	})
	t.Run("a file is deleted", func(t *testing.T) {
		d, foreign := open(t)
		foreign("notes.txt")
		for _, name := range []string{manifestName(firstID), archiveName(firstID), archiveName(secondID)} {
			create(t, d, name, content(10))
		}
		for range 2 { // the second time there is none
			if err := d.Delete(t.Context(), archiveName(firstID)); err != nil {
				t.Error(err)
			}
		}
		if got, want := list(t, d), []string{manifestName(firstID), archiveName(secondID)}; !slices.Equal(got, want) {
			t.Errorf("left %q, want %q", got, want)
		}
		want := content(20)
		create(t, d, archiveName(firstID), want)
		if got := read(t, d, archiveName(firstID)); !bytes.Equal(got, want) {
			t.Error("a deleted file could not be stored again")
		}
	})
	t.Run("a content that fails is not stored", func(t *testing.T) {
		d, _ := open(t)
		broken := errors.New("the snapshot has ended")
		for _, size := range []int{10, testPart + 1} {
			for _, want := range []error{broken, io.ErrUnexpectedEOF} {
				err := d.Create(t.Context(), archiveName(firstID), io.MultiReader(bytes.NewReader(content(size)), failing{want}))
				if !errors.Is(err, want) || classOf(err) != nil {
					t.Errorf("%d bytes: got %v, want %v without a class", size, err, want)
				}
			}
		}
		if got := list(t, d); len(got) != 0 {
			t.Errorf("it lists %q", got)
		}
	})
	t.Run("a context that ends is obeyed", func(t *testing.T) {
		d, _ := open(t)
		for _, size := range []int{10, testPart + 1} {
			ctx, cancel := context.WithCancel(t.Context())
			err := d.Create(ctx, archiveName(firstID), io.MultiReader(bytes.NewReader(content(size)), calling(cancel), bytes.NewReader(content(testPart))))
			if !errors.Is(err, context.Canceled) || classOf(err) != nil {
				t.Errorf("%d bytes: got %v, want %v without a class", size, err, context.Canceled)
			}
		}
		if got := list(t, d); len(got) != 0 {
			t.Errorf("it lists %q", got)
		}
	})
	t.Run("a sweep removes what failed backups left", func(t *testing.T) {
		d, foreign := open(t)
		foreign("notes.txt")
		foreign(archiveName(numberedID(3)) + ".part")
		kept := []string{firstID + ".manifest.json", firstID + ".tar.zst.age"}
		for _, name := range kept {
			create(t, d, name, content(10))
		}
		create(t, d, firstID+".rekeyed.tar.zst.age", content(10))
		create(t, d, secondID+".tar.zst.age", content(10))
		create(t, d, secondID+".escrow.tar.zst.age", content(10))
		// A manifest that was emptied is a damaged backup, and not a failed one.
		emptied := []string{manifestName(numberedID(4)), archiveName(numberedID(4))}
		for _, name := range emptied {
			create(t, d, name, nil)
		}
		all := list(t, d)

		if n, err := d.Sweep(t.Context(), time.Now().Add(-time.Hour)); n != 0 || err != nil {
			t.Errorf("a sweep of what is an hour old: got %d, %v, want nothing", n, err)
		}
		if got := list(t, d); !slices.Equal(got, all) {
			t.Errorf("left %q, want %q", got, all)
		}
		if n, err := d.Sweep(t.Context(), time.Now().Add(time.Hour)); n != 2 || err != nil {
			t.Errorf("got %d, %v, want 2 files", n, err)
		}
		if got, want := list(t, d), append([]string{kept[0], firstID + ".rekeyed.tar.zst.age", kept[1]}, emptied...); !slices.Equal(got, want) {
			t.Errorf("left %q, want %q", got, want)
		}
	})
}

// testPart is the size of parts in tests, the least that S3 allows.
const testPart = 5 << 20

// numberedID returns an ID that differs for each number.
func numberedID(n int) string {
	return fmt.Sprintf("20261202T000000Z-%s", strings.Map(func(r rune) rune { return 'a' + r - '0' }, fmt.Sprintf("%016d", n)))
}

func content(size int) []byte {
	random := rand.NewChaCha8([32]byte{byte(size), byte(rand.Uint32())})
	made := make([]byte, size)
	_, _ = random.Read(made)
	return made
}

func create(t *testing.T, d Destination, name string, content []byte) {
	t.Helper()
	if err := d.Create(t.Context(), name, bytes.NewReader(content)); err != nil {
		t.Fatalf("create %s: %v", name, err)
	}
}

func read(t *testing.T, d Destination, name string) []byte {
	t.Helper()
	r, size, err := d.Open(t.Context(), name)
	if err != nil {
		t.Fatalf("open %s: %v", name, err)
	}
	defer r.Close()
	got, err := io.ReadAll(r)
	if err != nil {
		t.Fatalf("read %s: %v", name, err)
	}
	if int64(len(got)) != size {
		t.Errorf("%s has %d bytes, and Open returned %d", name, len(got), size)
	}
	return got
}

func list(t *testing.T, d Destination) []string {
	t.Helper()
	entries, err := d.List(t.Context())
	if err != nil {
		t.Fatalf("list: %v", err)
	}
	var names []string
	for _, e := range entries {
		names = append(names, e.Name)
	}
	return names
}

// classOf returns the class of an error.
func classOf(err error) error {
	for _, class := range []error{ErrNotFound, ErrExists, ErrDenied, ErrFull, ErrUnavailable} {
		if errors.Is(err, class) {
			return class
		}
	}
	return nil
}

// failing is a reader that fails.
type failing struct{ error }

func (f failing) Read([]byte) (int, error) { return 0, f.error }

// calling is an empty reader that calls a function.
type calling func()

func (c calling) Read([]byte) (int, error) {
	c()
	return 0, io.EOF
}

// meeting is a reader that waits for another one before it ends.
type meeting struct {
	io.Reader
	with    *sync.WaitGroup
	arrived bool
}

func (m *meeting) arrive() {
	if !m.arrived {
		m.arrived = true
		m.with.Done()
	}
}

func (m *meeting) Read(p []byte) (int, error) {
	n, err := m.Reader.Read(p)
	if errors.Is(err, io.EOF) {
		m.arrive()
		m.with.Wait()
	}
	return n, err
}
