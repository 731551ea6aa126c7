//go:build integration

package destination

import (
	"bytes"
	"errors"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/securenotes/securenotes/app/config"
	"github.com/securenotes/securenotes/hack/testenv"
)

func TestDirectoryThatIsFull(t *testing.T) {
	t.Parallel()
	d := openDirectory(t, testenv.SmallFilesystem(t, 1<<20))
	err := d.Create(t.Context(), archiveName(firstID), bytes.NewReader(content(2<<20)))
	if !errors.Is(err, ErrFull) || !strings.Contains(err.Error(), "enlarge the volume") {
		t.Errorf("got %v, want %v and what to do", err, ErrFull)
	}
	if got := list(t, d); len(got) != 0 {
		t.Errorf("it lists %q, and its space is lost", got)
	}
	create(t, d, archiveName(secondID), content(1<<19))
}

func TestDirectoryThatIsReadOnly(t *testing.T) {
	t.Parallel()
	path := testenv.SmallFilesystem(t, 1<<20)
	d := openDirectory(t, path)
	create(t, d, archiveName(firstID), content(10))
	if err := syscall.Mount("", path, "", syscall.MS_REMOUNT|syscall.MS_RDONLY, ""); err != nil {
		t.Fatal(err)
	}
	if err := d.Create(t.Context(), archiveName(secondID), strings.NewReader("")); !errors.Is(err, ErrDenied) {
		t.Errorf("Create: got %v, want %v", err, ErrDenied)
	}
	if got := read(t, d, archiveName(firstID)); len(got) != 10 {
		t.Errorf("Open: got %d bytes, want 10", len(got))
	}
	if n, err := d.Sweep(t.Context(), inAnHour()); n != 0 || !errors.Is(err, ErrDenied) {
		t.Errorf("Sweep: got %d, %v, want %v", n, err, ErrDenied)
	}
	if err := d.Delete(t.Context(), archiveName(firstID)); !errors.Is(err, ErrDenied) || !strings.Contains(err.Error(), archiveName(firstID)) {
		t.Errorf("Delete: got %v, want %v and the file", err, ErrDenied)
	}
	if err := Prepare(config.Destination{Directory: &config.Directory{Path: filepath.Join(path, "below")}}); !errors.Is(err, ErrDenied) {
		t.Errorf("Prepare: got %v, want %v", err, ErrDenied)
	}
}
