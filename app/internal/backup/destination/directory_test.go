package destination

import (
	"cmp"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/securenotes/securenotes/app/config"
)

func openDirectory(t *testing.T, path string) Destination {
	t.Helper()
	d, err := New(config.Destination{Directory: &config.Directory{Path: path}})
	if err != nil {
		t.Fatal(err)
	}
	return d
}

func TestDirectoryConforms(t *testing.T) {
	t.Parallel()
	conforms(t, func(t *testing.T) (Destination, func(string)) {
		path := t.TempDir()
		return openDirectory(t, path), func(name string) {
			if err := os.WriteFile(filepath.Join(path, name), []byte("foreign"), 0o600); err != nil {
				t.Fatal(err)
			}
		}
	})
}

func TestDirectoryFilesAreForTheirOwner(t *testing.T) {
	t.Parallel()
	path := t.TempDir()
	create(t, openDirectory(t, path), archiveName(firstID), content(10))
	info, err := os.Stat(filepath.Join(path, archiveName(firstID)))
	if err != nil {
		t.Fatal(err)
	}
	if got := info.Mode(); got != 0o600 {
		t.Errorf("got mode %s, want 0600", got)
	}
}

// TestDirectoryFollowsNothing checks that what is no regular file is neither followed, written,
// read, listed nor removed.
func TestDirectoryFollowsNothing(t *testing.T) {
	t.Parallel()
	name := archiveName(firstID)
	for kind, make := range map[string]func(path, inside string) error{
		"symbolic link to a file elsewhere": func(path, _ string) error {
			elsewhere := filepath.Join(t.TempDir(), "elsewhere")
			return errors.Join(os.WriteFile(elsewhere, []byte("secret"), 0o600), os.Symlink(elsewhere, path))
		},
		"symbolic link to a file of the directory": func(path, inside string) error { return os.Symlink(inside, path) },
		"symbolic link to nothing":                 func(path, _ string) error { return os.Symlink("nothing", path) },
		"pipe":                                     func(path, _ string) error { return syscall.Mkfifo(path, 0o600) },
		"directory":                                func(path, _ string) error { return os.Mkdir(path, 0o700) },
	} {
		t.Run(kind, func(t *testing.T) {
			path := t.TempDir()
			if err := os.WriteFile(filepath.Join(path, "inside"), []byte("inside"), 0o600); err != nil {
				t.Fatal(err)
			}
			if err := make(filepath.Join(path, name), "inside"); err != nil {
				t.Fatal(err)
			}
			d := openDirectory(t, path)
			if err := d.Create(t.Context(), name, strings.NewReader("new")); !errors.Is(err, ErrExists) {
				t.Errorf("Create: got %v, want %v", err, ErrExists)
			}
			if _, _, err := d.Open(t.Context(), name); !errors.Is(err, errIrregular) {
				t.Errorf("Open: got %v, want %v", err, errIrregular)
			}
			if err := d.Delete(t.Context(), name); !errors.Is(err, errIrregular) {
				t.Errorf("Delete: got %v, want %v", err, errIrregular)
			}
			if got := list(t, d); len(got) != 0 {
				t.Errorf("List: got %q, want nothing", got)
			}
			if n, err := d.Sweep(t.Context(), inAnHour()); n != 0 || err != nil {
				t.Errorf("Sweep: got %d, %v, want nothing", n, err)
			}
			if _, err := os.Lstat(filepath.Join(path, name)); err != nil {
				t.Errorf("it was removed: %v", err)
			}
		})
	}
}

func TestDirectoryThatIsNotThere(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "unmounted")
	d := openDirectory(t, path)
	_, _, openErr := d.Open(t.Context(), archiveName(firstID))
	_, listErr := d.List(t.Context())
	_, sweepErr := d.Sweep(t.Context(), inAnHour())
	for what, err := range map[string]error{
		"Create": d.Create(t.Context(), archiveName(firstID), strings.NewReader("")), "Open": openErr, "List": listErr, "Sweep": sweepErr,
		"Delete":  d.Delete(t.Context(), archiveName(firstID)),
		"Prepare": Prepare(config.Destination{Directory: &config.Directory{Path: filepath.Join(path, "backups")}}),
	} {
		if !errors.Is(err, ErrNotFound) || !strings.Contains(err.Error(), path) || !strings.Contains(err.Error(), "create the directory, or check that its volume is mounted") {
			t.Errorf("%s: got %v, want %v with the path and what to do", what, err, ErrNotFound)
		}
	}
}

// TestPrepare checks that only the directory itself is created, for its owner, and that one that is
// there is not changed.
func TestPrepare(t *testing.T) {
	t.Parallel()
	volume := t.TempDir()
	path := filepath.Join(volume, "securenotes-backups")
	for range 2 {
		if err := Prepare(config.Destination{Directory: &config.Directory{Path: path}}); err != nil {
			t.Fatal(err)
		}
		info, err := os.Stat(path)
		if err != nil || info.Mode() != fs.ModeDir|0o700 {
			t.Errorf("got mode %v, %v, want a directory with 0700", info, err)
		}
		d := openDirectory(t, path)
		if len(list(t, d)) == 0 {
			create(t, d, archiveName(firstID), content(10))
		}
	}
	if got := list(t, openDirectory(t, path)); len(got) != 1 {
		t.Errorf("it lists %q, want the file", got)
	}
	if err := Prepare(config.Destination{ObjectStore: &config.ObjectStore{}}); err != nil {
		t.Errorf("a bucket: %v", err)
	}
}

// TestAManifestAppearsWhole checks that a manifest has no name before it has its whole content, so
// that a process that is killed leaves none.
func TestAManifestAppearsWhole(t *testing.T) {
	t.Parallel()
	path := t.TempDir()
	d := openDirectory(t, path)
	name := manifestName(firstID)
	err := d.Create(t.Context(), name, io.MultiReader(strings.NewReader("first half, "), calling(func() {
		if got := list(t, d); len(got) != 0 {
			t.Errorf("with half of its content it lists %q", got)
		}
		if got := names(t, path); len(got) != 1 || !isTemporary(got[0]) {
			t.Errorf("the directory has %q, want a temporary file", got)
		}
	}), strings.NewReader("second half")))
	if err != nil {
		t.Fatal(err)
	}
	if got := string(read(t, d, name)); got != "first half, second half" {
		t.Errorf("got %q", got)
	}
	if got := names(t, path); len(got) != 1 {
		t.Errorf("the directory has %q, want the manifest", got)
	}
}

// TestAManifestWithoutLinks checks manifests where the system call that gives a file another name
// fails.
func TestAManifestWithoutLinks(t *testing.T) {
	t.Parallel()
	name := manifestName(firstID)
	for what, tc := range map[string]struct {
		link func(root *os.Root, from, to string) error
		// already is what the file has before.
		already string
		want    error
	}{
		"a file system without links":       {link: fails(syscall.EPERM)},
		"another file system without links": {link: fails(syscall.EOPNOTSUPP)},
		"no links, and the file is there":   {fails(syscall.ENOSYS), "already", ErrExists},
		"no space":                          {link: fails(syscall.ENOSPC), want: ErrFull},
		"the file is there":                 {(*os.Root).Link, "already", ErrExists},
		"its answer was lost and is repeated": {link: func(root *os.Root, from, to string) error {
			return errors.Join(root.Link(from, to), root.Link(from, to))
		}},
	} {
		t.Run(what, func(t *testing.T) {
			t.Parallel()
			path := t.TempDir()
			if tc.already != "" {
				if err := os.WriteFile(filepath.Join(path, name), []byte(tc.already), 0o600); err != nil {
					t.Fatal(err)
				}
			}
			d := openDirectory(t, path)
			d.(*directory).link = tc.link
			err := d.Create(t.Context(), name, strings.NewReader("new"))
			if !errors.Is(classOf(err), tc.want) {
				t.Fatalf("got %v, want %v", err, tc.want)
			}
			want := cmp.Or(tc.already, "new")
			if errors.Is(tc.want, ErrFull) {
				if got := names(t, path); len(got) != 0 {
					t.Errorf("the directory has %q, want nothing", got)
				}
				return
			}
			if got := string(read(t, d, name)); got != want {
				t.Errorf("got %q, want %q", got, want)
			}
			if got := names(t, path); len(got) != 1 {
				t.Errorf("the directory has %q, want the manifest", got)
			}
		})
	}
}

// TestSweepRemovesTemporaryFiles checks that a sweep removes what a process left that was killed
// while it wrote a manifest, also beside the manifest that it had linked.
func TestSweepRemovesTemporaryFiles(t *testing.T) {
	t.Parallel()
	path := t.TempDir()
	d := openDirectory(t, path)
	create(t, d, manifestName(firstID), content(10))
	alone, linked := temporaryName(manifestName(secondID)), temporaryName(manifestName(firstID))
	if err := os.WriteFile(filepath.Join(path, alone), []byte("half"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Link(filepath.Join(path, manifestName(firstID)), filepath.Join(path, linked)); err != nil {
		t.Fatal(err)
	}
	if n, err := d.Sweep(t.Context(), time.Now().Add(-time.Hour)); n != 0 || err != nil {
		t.Errorf("a sweep of what is an hour old: got %d, %v, want nothing", n, err)
	}
	if n, err := d.Sweep(t.Context(), inAnHour()); n != 2 || err != nil {
		t.Errorf("got %d, %v, want 2 files", n, err)
	}
	if got := names(t, path); !slices.Equal(got, []string{manifestName(firstID)}) {
		t.Errorf("the directory has %q, want the manifest", got)
	}
}

// TestFilesWithoutAManifestDoNotStopBackups checks that a sweep removes more files than maxBackups,
// and that a list does not fail before.
func TestFilesWithoutAManifestDoNotStopBackups(t *testing.T) {
	t.Parallel()
	path := t.TempDir()
	d := openDirectory(t, path)
	create(t, d, manifestName(firstID), content(10))
	for n := range maxBackups + 1 {
		if err := os.WriteFile(filepath.Join(path, archiveName(numberedID(n))), nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if got := list(t, d); len(got) != maxBackups+2 {
		t.Errorf("it lists %d files, want %d", len(got), maxBackups+2)
	}
	if n, err := d.Sweep(t.Context(), inAnHour()); n != maxBackups+1 || err != nil {
		t.Errorf("got %d, %v, want %d files", n, err, maxBackups+1)
	}
	if got := list(t, d); !slices.Equal(got, []string{manifestName(firstID)}) {
		t.Errorf("left %q, want the manifest", got)
	}
}

// TestAFileThatIsThere checks that the error fits a backup and a copy.
func TestAFileThatIsThere(t *testing.T) {
	t.Parallel()
	d := openDirectory(t, t.TempDir())
	for _, name := range []string{archiveName(firstID), manifestName(firstID)} {
		create(t, d, name, content(10))
		err := d.Create(t.Context(), name, strings.NewReader("other"))
		for _, want := range []string{"never overwritten", "empty output directory", "start a new backup"} {
			if !errors.Is(err, ErrExists) || !strings.Contains(err.Error(), want) {
				t.Errorf("got %v, want %v and %q", err, ErrExists, want)
			}
		}
	}
}

func fails(err error) func(*os.Root, string, string) error {
	return func(*os.Root, string, string) error { return err }
}

// names returns the names of everything in a directory.
func names(t *testing.T, path string) []string {
	t.Helper()
	entries, err := os.ReadDir(path)
	if err != nil {
		t.Fatal(err)
	}
	var found []string
	for _, e := range entries {
		found = append(found, e.Name())
	}
	return found
}
