//go:build integration

package chaos_test

import (
	"context"
	"fmt"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"text/tabwriter"
	"time"

	"github.com/securenotes/securenotes/hack/chaos/exhaustion"
)

// exhaustionVariable names the variable with the duration of each attack, and of all attacks at
// once.
const exhaustionVariable = "SECURENOTES_EXHAUSTION_DURATION"

// These are the short durations, which every run of the tests uses.
const (
	shortEach = 2 * time.Second
	shortAll  = 6 * time.Second
)

// TestExhaustion checks that no client can make a replica unusable for others. Many clients attack
// it, in one way at a time and in all ways at once. Meanwhile the process must stay within the
// memory limit of a pod, the kubelet's probes must pass, and another user with another address must
// be able to read notes as before.
func TestExhaustion(t *testing.T) {
	each, all := exhaustionDurations(t)
	a := newArena(t)
	results := []trial{a.try("nothing", each)}
	var names []string
	for _, way := range exhaustion.Ways {
		results = append(results, a.try(way.Name, each, way.Name))
		names = append(names, way.Name)
	}
	results = append(results, a.try("all at once", all, names...))
	var table strings.Builder
	writeTrials(&table, results)
	t.Log("\n" + table.String())
	for _, r := range results {
		if len(r.violations) > 0 {
			t.Errorf("%s: %s", r.name, strings.Join(r.violations, "; "))
		}
	}
}

func exhaustionDurations(t *testing.T) (each, all time.Duration) {
	t.Helper()
	text := os.Getenv(exhaustionVariable)
	if text == "" {
		return shortEach, shortAll
	}
	d, err := time.ParseDuration(text)
	if err != nil {
		t.Fatalf("%s: %v", exhaustionVariable, err)
	}
	return d, d
}

// trial is the result of one attack.
type trial struct {
	name           string
	reads          readings
	writes, logins readings
	refused        float64
	// peak is the peak memory of the process in bytes, and sockets the part of it in TCP buffers.
	peak, sockets int64
	violations    []string
}

// maxLatency bounds the 99th percentile of another user's reads.
const maxLatency = time.Second

// try runs attacks on the replica while another user works and the kubelet's probes are called.
func (a *arena) try(name string, d time.Duration, ways ...string) trial {
	a.Helper()
	a.ensureRunning()
	r := trial{name: name}
	before := a.refused()
	ctx, cancel := context.WithTimeout(a.Context(), d)
	defer cancel()
	end := a.startCrowd(ways)
	var observers sync.WaitGroup
	var probes probeReport
	observers.Go(func() { r.reads = a.observeReads(ctx) })
	observers.Go(func() { r.writes = a.observeWrites(ctx) })
	observers.Go(func() { r.logins = a.observeLogins(ctx) })
	observers.Go(func() { probes = a.observeProbes(ctx) })
	observers.Go(func() { r.peak, r.sockets = a.observeMemory(ctx) })
	observers.Wait()
	r.violations = slices.Concat(r.reads.failures("reads"), r.writes.failures("writes"), r.logins.failures("logins"), probes.failures(), a.memoryFailures(r.peak))
	if p99 := r.reads.percentile(99); p99 > maxLatency {
		r.violations = append(r.violations, fmt.Sprintf("the 99th percentile of reads is %s", p99))
	}
	end()
	if !a.service.Ended() {
		r.refused = a.refused() - before
	}
	return r
}

func writeTrials(to *strings.Builder, trials []trial) {
	table := tabwriter.NewWriter(to, 0, 0, 2, ' ', 0)
	defer table.Flush()
	fmt.Fprintln(table, "way\treads\tp50\tp99\tretried\tfailed\twrites failed\tlogins failed\trefused\tpeak MiB\tof sockets\tverdict")
	for _, r := range trials {
		verdict := "holds"
		if len(r.violations) > 0 {
			verdict = "FAILS"
		}
		fmt.Fprintf(table, "%s\t%d\t%s\t%s\t%d\t%d\t%d of %d\t%d of %d\t%.0f\t%d\t%d\t%s\n", r.name, len(r.reads.latencies),
			r.reads.percentile(50), r.reads.percentile(99), r.reads.retried, r.reads.failed,
			r.writes.failed, len(r.writes.latencies), r.logins.failed, len(r.logins.latencies), r.refused, r.peak>>20, r.sockets>>20, verdict)
	}
}
