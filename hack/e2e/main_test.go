//go:build e2e

package e2e

import (
	"flag"
	"fmt"
	"os"
	"testing"
)

// parallel is the default of -parallel: how many tests with a namespace of their own run at once.
// They mostly wait, and a small machine has two processors.
const parallel = "3"

func TestMain(m *testing.M) {
	flag.Parse()
	given := false
	flag.Visit(func(f *flag.Flag) { given = given || f.Name == "test.parallel" })
	if !given {
		if err := flag.Set("test.parallel", parallel); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
	}
	os.Exit(m.Run())
}
