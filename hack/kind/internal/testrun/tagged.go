package testrun

import (
	"context"
	"slices"
	"strings"

	"github.com/securenotes/securenotes/hack/kind/proc"
)

// goEnv returns an environment that makes tests independent of the caller's workspace and flags.
// With -trimpath, all checkouts share the build cache.
func goEnv() []string {
	return []string{"GOFLAGS=-buildvcs=false -mod=readonly -trimpath", "GOWORK=off"}
}

// Packages returns the packages of a module, and those whose tests start real servers under the
// build tag. The latter depend on the package that starts servers. The build tags of a package's
// own files would not do: a suite for all databases has no tagged file.
func Packages(ctx context.Context, dir, tag string) (all, needServers []string, err error) {
	const starter = "/hack/testenv"
	out, err := proc.New("go", "list", "-test", "-tags", tag, "-f", `{{.ImportPath}} {{join .Deps " "}}`, "./...").
		In(dir).WithEnv(goEnv()...).Output(ctx)
	if err != nil {
		return nil, nil, err
	}
	for line := range strings.Lines(out) {
		fields := strings.Fields(line)
		if len(fields) == 0 {
			continue
		}
		name, isTest := strings.CutSuffix(fields[0], ".test")
		if !isTest {
			continue
		}
		all = append(all, name)
		if slices.ContainsFunc(fields[1:], func(d string) bool { return strings.HasSuffix(d, starter) }) {
			needServers = append(needServers, name)
		}
	}
	return all, needServers, nil
}
