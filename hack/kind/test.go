package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/securenotes/securenotes/hack/kind/debian"
	"github.com/securenotes/securenotes/hack/kind/docker"
	"github.com/securenotes/securenotes/hack/kind/internal/testrun"
	"github.com/securenotes/securenotes/hack/kind/toolchain"
)

// releaseModule is another module with integration tests.
const releaseModule = "hack/release"

var errTestsFailed = errors.New("tests failed")

// testing is one run of some suites, with its results.
type testing struct {
	*app
	suites  []string // the selected ones
	flags   []string // for go test, from the command line
	results []testrun.Result
	notRun  []string // in sentences
}

type suite struct {
	name string
	run  func(*testing, context.Context) error
}

var suites = []suite{
	{"unit", (*testing).unit},
	{"integration", (*testing).integration},
	{"e2e", (*testing).endToEnd},
}

func testCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "test [unit|integration|e2e]... [-- flags of go test]",
		Short: "run the test suites (default: all), and install what they need",
		RunE: func(cmd *cobra.Command, args []string) error {
			a, err := newApp(cmd.OutOrStdout())
			if err != nil {
				return err
			}
			t := &testing{app: a}
			if n := cmd.ArgsLenAtDash(); n >= 0 {
				args, t.flags = args[:n], args[n:]
			}
			for _, name := range args {
				if !slices.ContainsFunc(suites, func(s suite) bool { return s.name == name }) {
					return fmt.Errorf("no suite is called %q", name)
				}
			}
			for _, s := range suites {
				if len(args) == 0 || slices.Contains(args, s.name) {
					t.suites = append(t.suites, s.name)
				}
			}
			for _, s := range suites {
				if !slices.Contains(t.suites, s.name) {
					continue
				}
				if err := s.run(t, cmd.Context()); err != nil {
					if cmd.Context().Err() != nil {
						return err
					}
					// A suite that cannot run is a failure, like a failed test.
					t.results = append(t.results, testrun.Result{Suite: s.name, Counts: testrun.Counts{Failed: 1},
						Failures: []testrun.Failure{{Name: s.name + " could not be run", Output: err.Error()}}})
				}
			}
			return t.summary()
		},
	}
}

// unit runs all modules' tests that need only Go, with the race detector if there is a C compiler.
// If the integration suite runs, too, it leaves out the packages with integration tests, whose unit
// tests that suite includes.
func (t *testing) unit(ctx context.Context) error {
	args, env := t.withRaceDetector(ctx, "unit", "-count", "1", "-timeout", "15m")
	args = append(args, t.flags...)
	packages := []string{"./..."}
	modules := []string{"hack/kind", "hack/offline", "hack/tools/vulncheck", releaseModule}
	if slices.Contains(t.suites, "integration") && t.whyNoServers() == "" {
		all, needServers, err := testrun.Packages(ctx, t.layout.Root, "integration")
		if err != nil {
			return err
		}
		packages = slices.DeleteFunc(all, func(p string) bool { return slices.Contains(needServers, p) })
		modules = slices.DeleteFunc(modules, func(m string) bool { return m == releaseModule })
	}
	if err := t.runSuite(ctx, testrun.Suite{Name: "unit", Dir: t.layout.Root, Args: slices.Concat(args, packages), Env: env}); err != nil {
		return err
	}
	for _, m := range modules {
		s := testrun.Suite{Name: "unit (" + m + ")", Dir: filepath.Join(t.layout.Root, m), Args: slices.Concat(args, []string{"./..."}), Env: env}
		if err := t.runSuite(ctx, s); err != nil {
			return err
		}
	}
	return nil
}

// withRaceDetector adds the flags of the race detector, or reports that the suite runs without it.
func (t *testing) withRaceDetector(ctx context.Context, suite string, args ...string) (all, env []string) {
	if ok, _ := debian.CanInstall(); ok {
		if err := debian.Ensure(ctx, t.Say, "gcc", "/usr/include/stdio.h"); err != nil {
			t.Say("no race detector: %v", err)
		}
	}
	if _, err := exec.LookPath("gcc"); err == nil && debian.Has("/usr/include/stdio.h") {
		return append(args, "-race"), []string{"CGO_ENABLED=1"}
	}
	t.notRun = append(t.notRun, "the race detector in "+suite+" tests: it needs a C compiler (Debian packages gcc and libc6-dev)")
	return args, []string{"CGO_ENABLED=0"}
}

// servers are the files of Debian's servers that integration tests start, and of the programs that
// they open backups with.
var servers = []string{debian.Postgres15, debian.PgBouncer, debian.Redis, debian.HAProxy, debian.Age, debian.Zstd, debian.JQ, debian.OpenSSL}

// whyNoServers returns why the integration suite cannot run here. Empty: it can.
func (t *testing) whyNoServers() string {
	missing := debian.Missing(servers...)
	if ok, why := debian.CanInstall(); len(missing) > 0 && !ok {
		return "Debian packages " + strings.Join(missing, " ") + " are missing and " + why
	}
	return ""
}

// integration runs the tests that start a real API server, Vault, PostgreSQL, PgBouncer, Redis,
// HAProxy or S3 server.
func (t *testing) integration(ctx context.Context) error {
	if why := t.whyNoServers(); why != "" {
		t.notRun = append(t.notRun, "integration: "+why)
		return nil
	}
	if err := debian.Ensure(ctx, t.Say, servers...); err != nil {
		return err
	}
	var assets string
	if err := t.Step(ctx, "Tools for integration tests", func(ctx context.Context) (string, error) {
		note, err := t.tools.Ensure(ctx, toolchain.ForIntegration...)
		if err == nil {
			assets, err = t.tools.LinkEnvtest()
		}
		return note, err
	}); err != nil {
		return err
	}
	_, packages, err := testrun.Packages(ctx, t.layout.Root, "integration")
	if err != nil {
		return err
	}
	if len(packages) == 0 {
		return errors.New("no package's tests start a server under the build tag integration")
	}
	args, env := t.withRaceDetector(ctx, "integration", "-count", "1", "-tags", "integration", "-timeout", "50m")
	args, env = append(args, t.flags...), append(env,
		"KUBEBUILDER_ASSETS="+assets,
		"SECURENOTES_TEST_VAULT="+t.tools.Path(toolchain.Vault),
		"SECURENOTES_TEST_POSTGRES="+filepath.Dir(debian.Postgres15),
		"SECURENOTES_TEST_REDIS="+debian.Redis,
		"SECURENOTES_TEST_HAPROXY="+debian.HAProxy,
		"SECURENOTES_TEST_SCHEDULER="+t.tools.Path(toolchain.Scheduler),
		"SECURENOTES_TEST_HELM="+t.tools.Path(toolchain.Helm),
		"SECURENOTES_TEST_PGBOUNCER="+debian.PgBouncer,
		"SECURENOTES_TEST_OBJECTSTORE="+t.tools.Path(toolchain.ObjectStore),
	)
	if err := t.runSuite(ctx, testrun.Suite{
		Name: "integration", Dir: t.layout.Root, Tests: true, Args: slices.Concat(args, packages), Env: env,
	}); err != nil {
		return err
	}
	return t.runSuite(ctx, testrun.Suite{
		Name: "integration (" + releaseModule + ")", Dir: filepath.Join(t.layout.Root, releaseModule), Tests: true,
		Args: slices.Concat(args, []string{"./..."}), Env: env,
	})
}

// endToEnd runs hack/e2e on the real cluster, which it installs like `make run`.
func (t *testing) endToEnd(ctx context.Context) error {
	if _, ok := docker.Find(ctx); !ok && os.Geteuid() != 0 {
		t.notRun = append(t.notRun, "e2e: no Docker daemon answers and only root may start one")
		return nil
	}
	unlock, err := t.layout.Lock()
	if err != nil {
		return err
	}
	defer unlock()
	if err := t.upWithSample(ctx); err != nil {
		return err
	}
	if err := t.checkCharts(ctx); err != nil {
		return err
	}
	d, ok := docker.Find(ctx)
	if !ok {
		return errors.New("the Docker daemon no longer answers")
	}
	next := t.deploy().NextRelease()
	if err := t.Step(ctx, "Image of a next release, for a rolling update", func(ctx context.Context) (string, error) {
		return t.load(ctx, d, next)
	}); err != nil {
		return err
	}
	nextRef, err := next.Ref()
	if err != nil {
		return err
	}
	if err := t.Step(ctx, "Vault's command line and an S3 server, for end-to-end tests", func(ctx context.Context) (string, error) {
		return t.tools.Ensure(ctx, toolchain.Vault, toolchain.ObjectStore)
	}); err != nil {
		return err
	}
	env, err := os.ReadFile(t.layout.RunEnv())
	if err != nil {
		return err
	}
	s := testrun.Suite{
		Name: "e2e", Dir: t.layout.Root, Tests: true,
		Args: append(append([]string{"-tags", "e2e", "-count", "1", "-timeout", "40m"}, t.flags...), "./hack/e2e/..."),
		Env: append(append(strings.Fields(string(env)), d.Env()...),
			"CGO_ENABLED=0", "SECURENOTES_CLUSTER_DIR="+t.layout.Cluster(), "SECURENOTES_NEXT_IMAGE="+nextRef,
			"SECURENOTES_TEST_VAULT="+t.tools.Path(toolchain.Vault), "SECURENOTES_TEST_OBJECTSTORE="+t.tools.Path(toolchain.ObjectStore), "PATH="+t.layout.Cluster("bin")+":"+os.Getenv("PATH")),
	}
	return t.runSuite(ctx, s)
}

func (t *testing) runSuite(ctx context.Context, s testrun.Suite) error {
	return t.Step(ctx, "Tests: "+s.Name, func(ctx context.Context) (string, error) {
		r, err := s.Run(ctx, t.Console)
		if err != nil {
			return "", err
		}
		t.results = append(t.results, r)
		return count(r.Counts), nil
	})
}

// summary prints all failures, the times of the steps, the counts of each suite, what was not run,
// and a last line for programs.
func (t *testing) summary() error {
	var total testrun.Counts
	for _, r := range t.results {
		for _, f := range r.Failures {
			t.Title("\n--- FAIL: %s (%s)", f.Name, r.Suite)
			t.Title("%s", strings.TrimRight(f.Output, "\n"))
		}
	}
	t.Table(5 * time.Second)
	t.Title("\nTests:")
	for _, r := range t.results {
		total = total.Add(r.Counts)
		t.Say("%-28s %s", r.Suite, count(r.Counts))
	}
	for _, n := range t.notRun {
		t.Title("NOT RUN: %s", n)
	}
	t.Title("%s", count(total))
	if total.Failed > 0 {
		return errTestsFailed
	}
	return nil
}

func count(c testrun.Counts) string {
	s := fmt.Sprintf("%d passed, %d failed", c.Passed, c.Failed)
	if c.Skipped > 0 {
		s += fmt.Sprintf(", %d skipped", c.Skipped)
	}
	return s
}
