package server

import "strconv"

// Row is a line of the memory budget: what clients, or the process itself, can hold at most.
type Row struct {
	What string
	// Bytes is for each item, of which there are at most Count.
	Bytes, Count int
	// Kernel means that the memory counts for the pod, and not for the Go runtime.
	Kernel bool
}

// What the process holds in addition to the connections, in bytes.
const (
	// processMemory is for a process without clients: static data, the runtime and the key cache.
	processMemory = 36 << 20
	// APIMemory is reserved for the API's large bodies and answers, and for exports.
	APIMemory = 80 << 20
	// RequestMemory is reserved for the body or the answer of each request.
	RequestMemory = 64 << 10
)

// Budget returns everything that clients and the process can hold at once under a memory limit of
// Go.
func Budget(limit int64) []Row {
	b := apiBounds(limit)
	return []Row{
		{"the process without clients", processMemory, 1, false},
		{"large bodies and answers of the API, and exports", APIMemory, 1, false},
		{"small bodies and answers of the API", RequestMemory, b.requests, false},
		{"connections without a first request", freshMemory, b.unfinished, false},
		{"connections with one", settledMemory, b.total, false},
		{"connections whose client sends and does not read", blockedMemory, b.blocked, false},
		{"requests that the open connections may have under way", streamMemory, b.work, false},
		{"connections whose client gave up a request under way", abandonedMemory, b.abandoned, false},
		{"connections for probes and metrics", probeMemory, probeBounds.total, false},
		{"sockets: what is sent and not read", socketBuffer, b.total + probeBounds.total, true},
		{"sockets: what is received and not read", socketBuffer, b.blocked + b.work/maxStreams, true},
	}
}

// String returns the row in the form of the table in docs/limits.md.
func (r Row) String() string {
	return "| " + r.What + " | " + kibibytes(r.Bytes) + " | " + strconv.Itoa(r.Count) + " | " + kibibytes(r.Bytes*r.Count) + " |"
}

func kibibytes(n int) string { return strconv.Itoa(n>>10) + " KiB" }
