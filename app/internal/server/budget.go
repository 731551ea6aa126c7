package server

// Row is a line of the memory budget: what clients, or the process itself, can hold at most.
type Row struct {
	What string
	// Bytes are of each; there are at most Count.
	Bytes, Count int
}

// What the process holds beside the connections, in bytes.
const (
	// processMemory is of a process without clients: its code's data, the runtime, the key cache.
	processMemory = 36 << 20
	// answersMemory is of the API's own shares: bodies of requests and answers.
	answersMemory = 96 << 20
)

// apiBounds divides what the memory limit leaves to the connections of the API.
func apiBounds(limit int64) bounds {
	connections := max(int(limit)*3/10, 16<<20)
	b := bounds{
		unfinished: connections / 8 / freshMemory,
		total:      connections * 4 / 8 / settledMemory,
		work:       connections * 2 / 8 / streamMemory,
		abandoned:  max(connections/8/abandonedShare, 1),
	}
	b.requests = b.work / 2
	b.perAddress = b.total / perAddress
	b.workPerAddress = max(b.work/perAddress, maxStreams)
	b.requestsPerAddress = b.requests / perAddress
	return b
}

// Budget returns all that can be held under a memory limit at once, in bytes.
func Budget(limit int64) []Row {
	b := apiBounds(limit)
	return []Row{
		{"the process without clients", processMemory, 1},
		{"bodies and answers of the API", answersMemory, 1},
		{"connections without a first request", freshMemory, b.unfinished},
		{"connections with one", settledMemory, b.total},
		{"requests that open connections may have under way", streamMemory, b.work},
		{"connections whose client gave up a request under way", abandonedShare, b.abandoned},
		{"connections for probes and metrics", probeMemory, probeBounds.total},
	}
}
