//go:build integration

package chaos_test

import (
	"fmt"
	"os"
	"sync"
	"testing"

	"github.com/securenotes/securenotes/hack/testenv"
)

// built is the service's binary, which is built once for all tests that do not change it.
var built struct {
	sync.Mutex
	directory string
	program   *testenv.Program
}

func TestMain(m *testing.M) {
	directory, err := os.MkdirTemp("", "sn-chaos-")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	built.directory = directory
	code := m.Run()
	_ = os.RemoveAll(directory)
	os.Exit(code)
}

func program(t testing.TB) testenv.Program {
	t.Helper()
	built.Lock()
	defer built.Unlock()
	if built.program == nil {
		p := testenv.BuildProgram(t, built.directory)
		built.program = &p
	}
	return *built.program
}
