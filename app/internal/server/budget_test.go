package server

import (
	"os"
	"strconv"
	"strings"
	"testing"
)

// TestBudgetIsBelowTheLimit: everything that clients can hold at once fits into the memory of the
// pod. Go's part of it fits into the limit of the garbage collector.
func TestBudgetIsBelowTheLimit(t *testing.T) {
	for _, pod := range []int64{256 << 20, 512 << 20, 2 << 30} {
		limit := pod / 10 * 9
		var sum, kernel int64
		for _, row := range Budget(limit) {
			sum += int64(row.Bytes * row.Count)
			if row.Kernel {
				kernel += int64(row.Bytes * row.Count)
			}
			if row.Count < 1 {
				t.Errorf("%d MiB: no room for %s", pod>>20, row.What)
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
	for _, row := range Budget(defaultMemoryLimit) {
		sum += row.Bytes * row.Count
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
		"open to requests":       strconv.Itoa(b.work/maxStreams) + " connections of HTTP/2, or " + strconv.Itoa(b.work) + " of HTTP/1.1",
		"probes":                 strconv.Itoa(probeBounds.total) + ", of which " + strconv.Itoa(probeBounds.perAddress) + " of one address",
		"requests on probe port": strconv.Itoa(probeBounds.requests) + ", of which " + strconv.Itoa(probeBounds.requestsPerAddress) + " of one address",
		"streams":                strconv.Itoa(maxStreams) + " requests at once on a connection of HTTP/2",
	} {
		if !strings.Contains(string(raw), want) {
			t.Errorf("docs/limits.md does not say of %s: %s", name, want)
		}
	}
}
