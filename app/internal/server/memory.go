package server

import (
	"math"
	"runtime/debug"
)

// What a client can make the process hold, in bytes. TestMemoryOfEach measures the memory of Go.
const (
	// maxHeader bounds a request's header; net/http adds 4 KiB over HTTP/1.1, and 320 bytes over
	// HTTP/2.
	maxHeader = 8 << 10
	// maxFrame is the smallest bound on frames of HTTP/2 that the protocol allows.
	maxFrame = 16 << 10
	// maxStreams is how many requests a connection of HTTP/2 may have under way. net/http answers a
	// request that it cannot read by itself, so that a connection counts for all that it may open.
	maxStreams = 8
	// receiveBuffer is the smallest window of HTTP/2 for a connection; a stream gets all of it.
	receiveBuffer = 64 << 10
	// headerTable bounds the tables of HPACK, each way.
	headerTable = 4 << 10
	// socketBuffer bounds what the kernel holds for a connection, each way.
	socketBuffer = 64 << 10

	// freshMemory is of a connection without a first request: a ClientHello of 64 KiB.
	freshMemory = 160 << 10
	// settledMemory is of a connection between requests: half a frame, or half a header.
	settledMemory = 160 << 10
	// blockedMemory is of a client that sends and does not read, beside its settledMemory: answers to
	// what it sent before it was noticed.
	blockedMemory = 400 << 10
	// streamMemory is of a request under way: a header of many small fields, the goroutine, and its
	// part of the receive buffer.
	streamMemory = 48<<10 + receiveBuffer/maxStreams
	// abandonedMemory is of the requests that net/http queues behind those that were given up.
	abandonedMemory = (4*maxStreams + 1) * streamMemory
	// probeMemory is of a connection for probes or metrics, with its request.
	probeMemory = 48 << 10
)

// defaultMemoryLimit is that of a pod of 256 MiB: automemlimit leaves a tenth to what is not Go's.
const defaultMemoryLimit = 256 << 20 / 10 * 9

// MemoryLimit returns the memory limit of the Go runtime, in bytes: main derives it from the
// cgroup's. Where there is none, as in development, it is that of a pod of 256 MiB.
func MemoryLimit() int64 {
	if limit := debug.SetMemoryLimit(-1); limit < math.MaxInt64 {
		return limit
	}
	return defaultMemoryLimit
}

// bounds are what the clients of a listener may have at once. Those by address do not count for
// trusted proxies.
type bounds struct {
	// total and perAddress are of connections; unfinished of those without a first request.
	total, perAddress, unfinished int
	// work and workPerAddress are of requests that the open connections could have under way.
	work, workPerAddress int
	// requests and requestsPerAddress are of requests under way: one more is answered 503, and at
	// hardFactor times as many the connection is closed.
	requests, requestsPerAddress int
	// abandoned is of connections whose client gave up a request that is under way.
	abandoned int
	// blocked is of connections whose client sends and does not read.
	blocked int
}

// hardFactor is explained at [bounds].
const hardFactor = 2

// probeBounds do not depend on the memory limit: they are small.
var probeBounds = bounds{
	total: 128, perAddress: 64, unfinished: 128, work: 128, workPerAddress: 64,
	requests: 64, requestsPerAddress: 32, abandoned: 1, blocked: 128,
}

// apiBounds divides what the memory limit leaves to the connections of the API.
func apiBounds(limit int64) bounds {
	// share returns how many things of a size fit into a part of the limit, in thousandths.
	share := func(part, size int) int { return int(max(limit, minMemoryLimit)/1000) * part / size }
	b := bounds{
		unfinished: share(70, freshMemory),
		total:      share(150, settledMemory),
		blocked:    share(20, blockedMemory),
		work:       share(110, streamMemory),
		abandoned:  share(30, abandonedMemory),
	}
	b.perAddress, b.workPerAddress = b.total/2, b.work/3
	b.requests, b.requestsPerAddress = b.work/2, b.work/4
	return b
}

// minMemoryLimit is what the process cannot do with less than.
const minMemoryLimit = 128 << 20
