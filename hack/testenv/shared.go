package testenv

import (
	"fmt"
	"os"
	"slices"
	"sync"
	"testing"
)

// shared holds the servers that the tests of one binary share.
var shared struct {
	sync.Mutex
	// running is true while Main runs the tests.
	running  bool
	cleanups []func()
	postgres sharedServer[*Postgres]
}

// sharedServer is started by the first test that asks for it.
type sharedServer[S any] struct {
	asked, started bool
	server         S
}

// Main runs the tests of a package and then ends the servers that they shared. The TestMain of a
// package with shared servers calls it.
func Main(m *testing.M) {
	shared.running = true
	code := m.Run()
	for _, end := range slices.Backward(shared.cleanups) {
		end()
	}
	os.Exit(code)
}

// SharedPostgres returns a server for all tests of the binary, whose commits do not wait for the
// disk. A test has a database of its own on it, and changes neither settings nor roles.
func SharedPostgres(t testing.TB) *Postgres {
	t.Helper()
	return share(t, &shared.postgres, func(t testing.TB) *Postgres { return startPostgres(t, "-c", "fsync=off") })
}

func share[S any](t testing.TB, s *sharedServer[S], start func(testing.TB) S) S {
	t.Helper()
	shared.Lock()
	defer shared.Unlock()
	if !shared.running {
		t.Fatal("this package's tests share servers: its TestMain must call testenv.Main, which ends them")
	}
	if !s.asked {
		s.asked = true
		s.server = start(outliving{t})
		s.started = true
	}
	if !s.started {
		t.Fatal("the shared server did not start: see the first test that asked for it")
	}
	return s.server
}

// outliving is a test whose cleanups and directories last until the test binary ends.
type outliving struct{ testing.TB }

// Cleanup is called while shared is locked.
func (outliving) Cleanup(f func()) { shared.cleanups = append(shared.cleanups, f) }

func (o outliving) TempDir() string {
	o.Helper()
	dir, err := os.MkdirTemp("", "sn-shared-")
	if err != nil {
		o.Fatal(fmt.Errorf("directory of a shared server: %w", err))
	}
	o.Cleanup(func() { _ = os.RemoveAll(dir) })
	return dir
}
