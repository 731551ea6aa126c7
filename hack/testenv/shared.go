package testenv

import (
	"os"
	"path/filepath"
	"slices"
	"sync"
	"testing"
)

// shared is what the tests of one binary share.
var shared struct {
	// running is true while Main runs the tests.
	running  bool
	postgres sharedValue[*Postgres]
	// cluster is the directory of a PostgreSQL server that has not been started yet.
	cluster sharedValue[string]

	sync.Mutex
	cleanups []func()
}

// Main runs the tests of a package and then ends the servers that they shared. A package with
// shared servers calls it in its TestMain.
func Main(m *testing.M) {
	shared.running = true
	code := m.Run()
	for _, end := range slices.Backward(shared.cleanups) {
		end()
	}
	os.Exit(code)
}

// SharedPostgres returns a server for all tests of the binary. Its commits do not wait for the
// disk. Each test must use a database of its own, and must not change settings or roles.
func SharedPostgres(t testing.TB) *Postgres {
	t.Helper()
	if !shared.running {
		t.Fatal("the tests of this package share servers: its TestMain must call testenv.Main, which ends them")
	}
	return shared.postgres.get(t, func(t testing.TB) *Postgres { return startPostgres(t, "-c", "fsync=off") })
}

// newCluster creates the files of a server in dir/data. If Main runs the tests, they are created
// once and then copied.
func newCluster(t testing.TB, dir string) {
	t.Helper()
	if !shared.running {
		initialise(t, dir)
		return
	}
	cluster := shared.cluster.get(t, func(t testing.TB) string {
		dir := temporaryDirectory(t)
		initialise(t, dir)
		return filepath.Join(dir, "data")
	})
	copyTree(t, cluster, filepath.Join(dir, "data"))
}

// sharedValue is a value that the first test that needs it creates.
type sharedValue[V any] struct {
	sync.Mutex
	asked, made bool
	value       V
}

func (s *sharedValue[V]) get(t testing.TB, make func(testing.TB) V) V {
	t.Helper()
	s.Lock()
	defer s.Unlock()
	if !s.asked {
		s.asked = true
		s.value = make(outliving{t})
		s.made = true
	}
	if !s.made {
		t.Fatal("the shared server could not be started: see the first test that needed it")
	}
	return s.value
}

// outliving is a test whose cleanups wait until the test binary ends.
type outliving struct{ testing.TB }

// Cleanup registers f to be called when the test binary ends.
func (outliving) Cleanup(f func()) {
	shared.Lock()
	defer shared.Unlock()
	shared.cleanups = append(shared.cleanups, f)
}
