package testrun

import (
	"context"
	"slices"
	"strings"

	"github.com/securenotes/securenotes/hack/kind/internal/proc"
)

// NeedingServers finds the packages whose tests start real servers under the build tag: those that
// depend on the package that starts them, directly or through helpers of their own. A suite that is
// written once and runs on every database is in such a package without a tagged file of its own.
func NeedingServers(ctx context.Context, dir, tag string) ([]string, error) {
	const starter = "/hack/testenv"
	out, err := proc.New("go", "list", "-test", "-tags", tag, "-f", `{{.ImportPath}} {{join .Deps " "}}`, "./...").
		In(dir).WithEnv("GOFLAGS=-buildvcs=false -mod=readonly", "GOWORK=off").Output(ctx)
	if err != nil {
		return nil, err
	}
	var packages []string
	for line := range strings.Lines(out) {
		fields := strings.Fields(line)
		if len(fields) == 0 {
			continue
		}
		name, isTest := strings.CutSuffix(fields[0], ".test")
		if isTest && slices.ContainsFunc(fields[1:], func(d string) bool { return strings.HasSuffix(d, starter) }) {
			packages = append(packages, name)
		}
	}
	return packages, nil
}
