package testenv

import (
	"os/exec"
	"testing"
)

// Programs checks that programs of Debian packages are in PATH. `make test-integration` installs
// them.
func Programs(t testing.TB, names ...string) {
	t.Helper()
	for _, name := range names {
		if _, err := exec.LookPath(name); err != nil {
			t.Fatalf("%v: install the Debian package, or run `make test-integration`, which does", err)
		}
	}
}
