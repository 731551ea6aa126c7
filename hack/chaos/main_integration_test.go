//go:build integration

package chaos_test

import (
	"flag"
	"fmt"
	"os"
	"runtime"
	"strconv"
	"sync"
	"testing"

	"github.com/securenotes/securenotes/hack/testenv"
)

// built is the service's binary, built once for all tests that do not modify it.
var built struct {
	sync.Mutex
	directory string
	program   *testenv.Program
}

// parallelTests is how many tests run at a time. They mostly wait for servers that fail and
// recover.
const parallelTests = 4

func TestMain(m *testing.M) {
	flag.Parse()
	if parallel := flag.Lookup("test.parallel"); parallel.Value.String() == parallel.DefValue {
		if err := parallel.Value.Set(strconv.Itoa(max(parallelTests, runtime.GOMAXPROCS(0)))); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
	}
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
