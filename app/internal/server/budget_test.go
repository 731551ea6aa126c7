package server

import (
	"os"
	"strconv"
	"strings"
	"testing"
)

// processMemory is for a process without clients, in bytes: static data, the runtime and the key
// cache.
const processMemory = 36 << 20

// budgetRow is a line of the memory budget: what clients, or the process itself, can hold at most.
type budgetRow struct {
	what string
	// bytes is for each item, of which there are at most count.
	bytes, count int
	// kernel means that the memory counts for the pod, and not for the Go runtime.
	kernel bool
}

// budget returns everything that clients and the process can hold at once under a memory limit of
// Go.
func budget(limit int64) []budgetRow {
	b := apiBounds(limit)
	return []budgetRow{
		{"the process without clients", processMemory, 1, false},
		{"large bodies and answers of the API, and exports", APIMemory, 1, false},
		{"small bodies and answers of the API", RequestMemory, b.requests, false},
		{"connections without a first request", freshMemory, b.unfinished, false},
		{"connections with one", establishedMemory, b.total, false},
		{"connections whose client sends and does not read", blockedMemory, b.blocked, false},
		{"requests that the open connections may have under way", streamMemory, b.slots, false},
		{"connections whose client gave up a request under way", abandonedMemory, b.abandoned, false},
		{"connections for probes and metrics", probeMemory, probeBounds.total, false},
		{"sockets: what is sent and not read", socketBuffer, b.total + probeBounds.total, true},
		{"sockets: what is received and not read", socketBuffer, b.blocked + b.slots/maxStreams, true},
	}
}

// String returns the row in the form of the table in docs/limits.md.
func (r budgetRow) String() string {
	return "| " + r.what + " | " + kibibytes(r.bytes) + " | " + strconv.Itoa(r.count) + " | " + kibibytes(r.bytes*r.count) + " |"
}

func kibibytes(n int) string { return strconv.Itoa(n>>10) + " KiB" }

// TestBudgetIsBelowTheLimit: everything that clients can hold at once fits into the memory of the
// pod. Go's part of it fits into the limit of the garbage collector.
func TestBudgetIsBelowTheLimit(t *testing.T) {
	for _, pod := range []int64{256 << 20, 512 << 20, 2 << 30} {
		limit := pod / 10 * 9
		var sum, kernel int64
		for _, row := range budget(limit) {
			sum += int64(row.bytes * row.count)
			if row.kernel {
				kernel += int64(row.bytes * row.count)
			}
			if row.count < 1 {
				t.Errorf("%d MiB: no room for %s", pod>>20, row.what)
			}
		}
		t.Logf("%d MiB: %d MiB, %d of them the kernel's", pod>>20, sum>>20, kernel>>20)
		if sum > pod {
			t.Errorf("%d MiB: clients can hold %d MiB", pod>>20, sum>>20)
		}
		if sum-kernel > limit {
			t.Errorf("%d MiB: clients can hold %d MiB of Go's %d", pod>>20, (sum-kernel)>>20, limit>>20)
		}
	}
}

// TestBudgetIsDocumented: docs/limits.md has the numbers of the default pod.
func TestBudgetIsDocumented(t *testing.T) {
	raw, err := os.ReadFile("../../../docs/limits.md")
	if err != nil {
		t.Fatal(err)
	}
	sum := 0
	var want []string
	for _, row := range budget(defaultMemoryLimit) {
		sum += row.bytes * row.count
		want = append(want, row.String())
	}
	want = append(want, "| **sum** | | | "+kibibytes(sum)+" |")
	if table := strings.Join(want, "\n"); !strings.Contains(string(raw), table) {
		t.Errorf("docs/limits.md lacks the table\n%s", table)
	}
	b := apiBounds(defaultMemoryLimit)
	for name, want := range map[string]string{
		"connections":            strconv.Itoa(b.total) + ", of which " + strconv.Itoa(b.perAddress) + " of one address",
		"without a request":      strconv.Itoa(b.unfinished) + " connections without a first request",
		"requests":               strconv.Itoa(b.requests) + ", of which " + strconv.Itoa(b.requestsPerAddress) + " of one address",
		"open to requests":       strconv.Itoa(b.slots/maxStreams) + " connections of HTTP/2, or " + strconv.Itoa(b.slots) + " of HTTP/1.1",
		"probes":                 strconv.Itoa(probeBounds.total) + ", of which " + strconv.Itoa(probeBounds.perAddress) + " of one address",
		"requests on probe port": strconv.Itoa(probeBounds.requests) + ", of which " + strconv.Itoa(probeBounds.requestsPerAddress) + " of one address",
		"streams":                strconv.Itoa(maxStreams) + " requests at once on a connection of HTTP/2",
	} {
		if !strings.Contains(string(raw), want) {
			t.Errorf("docs/limits.md does not say of %s: %s", name, want)
		}
	}
}
