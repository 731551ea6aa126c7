package server

import (
	"math"
	"runtime/debug"
)

// What clients can make the process hold, in bytes: measured by hack-free means in memory_test.go, and
// rounded up.
const (
	// maxHeader bounds a request's header; net/http adds 4 KiB over HTTP/1.1.
	maxHeader = 8 << 10
	// maxFrame is the smallest bound on frames of HTTP/2 that the protocol allows.
	maxFrame = 16 << 10
	// maxStreams is how many requests a connection of HTTP/2 may have under way.
	maxStreams = 16
	// receiveBuffer is the smallest window of HTTP/2 for a connection; a stream gets all of it.
	receiveBuffer = 64 << 10
	// headerTable bounds the tables of HPACK, each way.
	headerTable = 4 << 10
	// socketBuffer bounds what the kernel holds for a connection, each way.
	socketBuffer = 64 << 10

	freshMemory    = 192 << 10
	settledMemory  = 160<<10 + socketBuffer
	streamMemory   = 56 << 10
	abandonedShare = (4*maxStreams + 1) * streamMemory
	probeMemory    = 24 << 10
)

// defaultMemoryLimit is that of a pod of 256 MiB: automemlimit leaves a tenth to what is not Go's.
const defaultMemoryLimit = 256 << 20 / 10 * 9

// MemoryLimit returns the memory limit of the Go runtime, in bytes: main derives it from the cgroup's.
// Where there is none, as in development, it is that of a pod of 256 MiB.
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
}

// hardFactor is explained at [bounds].
const hardFactor = 2

// perAddress is the part of a bound that one address may have.
const perAddress = 4

// probeBounds do not depend on the memory limit: they are small.
var probeBounds = bounds{
	total: 256, perAddress: 256 / perAddress, unfinished: 256,
	work: 256, workPerAddress: 256 / perAddress,
	requests: 64, requestsPerAddress: 64 / perAddress,
	abandoned: 1,
}
