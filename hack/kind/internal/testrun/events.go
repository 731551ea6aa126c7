// Package testrun runs suites of Go tests, prints their progress, and counts their results from the
// output of `go test -json`. It does not use gotestsum, whose package testjson counts a test and
// its subtests, and does not assign compiler errors to packages.
package testrun

import (
	"bufio"
	"encoding/json"
	"io"
	"slices"
	"strings"
	"time"
)

// event is one line of `go test -json` (cmd/test2json).
type event struct {
	Action      string
	Package     string
	ImportPath  string // of build output
	Test        string
	Elapsed     float64 // seconds
	Output      string
	FailedBuild string
}

// Counts of tests. Of a test with subtests, only the subtests count.
type Counts struct{ Passed, Failed, Skipped int }

// Add returns the sum of two counts.
func (c Counts) Add(o Counts) Counts {
	return Counts{c.Passed + o.Passed, c.Failed + o.Failed, c.Skipped + o.Skipped}
}

// Failure is a failed test, or a package that failed as a whole, with its output.
type Failure struct{ Name, Output string }

// collector turns a stream of events into counts and failures.
type collector struct {
	show     func(Progress)
	outcome  map[string]string   // package + "\x00" + test to pass, fail or skip
	parents  map[string]bool     // tests that have subtests
	output   map[string][]string // of every test and package without a result
	builds   map[string][]string // compiler output by import path
	failures []Failure
	packages map[string]*Counts
}

// Progress is a finished test or a finished package.
type Progress struct {
	Package string
	Test    string // empty for a package
	Result  string // pass, fail or skip
	Elapsed time.Duration
	Counts  Counts // of a package
}

func newCollector(show func(Progress)) *collector {
	return &collector{
		show: show, outcome: map[string]string{}, parents: map[string]bool{},
		output: map[string][]string{}, builds: map[string][]string{}, packages: map[string]*Counts{},
	}
}

// read reads the stream to its end. Lines that are no events are errors of the go command, and are
// returned.
func (c *collector) read(r io.Reader) (stray string, err error) {
	var lines []string
	in := bufio.NewReader(r)
	for {
		line, err := in.ReadBytes('\n')
		if len(line) > 0 {
			var e event
			if json.Unmarshal(line, &e) != nil {
				lines = append(lines, string(line))
			} else {
				c.add(e)
			}
		}
		if err == io.EOF {
			return strings.Join(lines, ""), nil
		}
		if err != nil {
			return strings.Join(lines, ""), err
		}
	}
}

func (c *collector) add(e event) {
	key := e.Package + "\x00" + e.Test
	switch e.Action {
	case "build-output":
		c.builds[e.ImportPath] = append(c.builds[e.ImportPath], e.Output)
	case "run":
		if i := strings.LastIndexByte(e.Test, '/'); i > 0 {
			c.parents[e.Package+"\x00"+e.Test[:i]] = true
		}
	case "output":
		c.output[key] = append(c.output[key], e.Output)
	case "pass", "fail", "skip":
		if e.Test == "" {
			c.endPackage(e)
			return
		}
		c.endTest(e, key)
	}
}

func (c *collector) endTest(e event, key string) {
	c.outcome[key] = e.Action
	counts := c.counts(e.Package)
	if !c.parents[key] {
		switch e.Action {
		case "pass":
			counts.Passed++
		case "fail":
			counts.Failed++
		case "skip":
			counts.Skipped++
		}
	} else if e.Action == "fail" && !c.childFailed(key) {
		counts.Failed++ // the test failed, although its subtests passed
	}
	if e.Action == "fail" && (!c.parents[key] || !c.childFailed(key)) {
		c.failures = append(c.failures, Failure{e.Package + " " + e.Test, strings.Join(c.output[key], "")})
	}
	delete(c.output, key)
	c.show(Progress{Package: e.Package, Test: e.Test, Result: e.Action, Elapsed: seconds(e.Elapsed)})
}

func (c *collector) childFailed(parent string) bool {
	for key, result := range c.outcome {
		if result == "fail" && strings.HasPrefix(key, parent+"/") {
			return true
		}
	}
	return false
}

func (c *collector) endPackage(e event) {
	counts := c.counts(e.Package)
	if e.Action == "fail" && counts.Failed == 0 {
		// It did not compile, panicked or timed out, so that no test has a result.
		counts.Failed++
		out := slices.Concat(c.builds[e.FailedBuild], c.unfinished(e.Package))
		c.failures = append(c.failures, Failure{e.Package, strings.Join(out, "")})
	}
	c.show(Progress{Package: e.Package, Result: e.Action, Elapsed: seconds(e.Elapsed), Counts: *counts})
}

// unfinished returns the output of a package and of its tests without a result.
func (c *collector) unfinished(pkg string) []string {
	var keys []string
	for k := range c.output {
		if strings.HasPrefix(k, pkg+"\x00") {
			keys = append(keys, k)
		}
	}
	slices.Sort(keys)
	var out []string
	for _, k := range keys {
		out = append(out, c.output[k]...)
	}
	return out
}

func (c *collector) counts(pkg string) *Counts {
	if c.packages[pkg] == nil {
		c.packages[pkg] = &Counts{}
	}
	return c.packages[pkg]
}

func (c *collector) total() Counts {
	var t Counts
	for _, n := range c.packages {
		t = t.Add(*n)
	}
	return t
}

func seconds(s float64) time.Duration {
	return time.Duration(s * float64(time.Second)).Round(10 * time.Millisecond)
}
