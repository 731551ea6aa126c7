package server

import (
	"math"
	"runtime/debug"
)

// What a client can make the process hold, in bytes. TestMemoryOfEach measures what Go allocates.
const (
	// maxHeader bounds a request's header. net/http adds 4 KiB over HTTP/1.1, and 320 bytes over
	// HTTP/2.
	maxHeader = 8 << 10
	// maxFrame bounds frames of HTTP/2. The protocol allows no smaller bound.
	maxFrame = 16 << 10
	// maxStreams bounds the requests in flight of a connection of HTTP/2. net/http itself answers
	// requests that it cannot read, so a connection counts for all requests that it may open.
	maxStreams = 8
	// receiveBuffer is the window of HTTP/2 for a connection, the smallest possible. A stream may
	// use all of it.
	receiveBuffer = 64 << 10
	// headerTable bounds the tables of HPACK in each direction.
	headerTable = 4 << 10
	// socketBuffer bounds what the kernel holds for a connection in each direction.
	socketBuffer = 64 << 10

	// freshMemory is for a connection without a first request: a ClientHello of 64 KiB.
	freshMemory = 160 << 10
	// establishedMemory is for an established connection between requests: half a frame, or half a
	// header.
	establishedMemory = 160 << 10
	// blockedMemory is for a client that sends and does not read, in addition to
	// establishedMemory: answers to what it sent before it was blocked.
	blockedMemory = 400 << 10
	// streamMemory is for a request in flight: a header of many small fields, the goroutine, and
	// its part of the receive buffer.
	streamMemory = 48<<10 + receiveBuffer/maxStreams
	// abandonedMemory is for the requests that net/http queues behind those that the client gave
	// up.
	abandonedMemory = (4*maxStreams + 1) * streamMemory
	// probeMemory is for a connection for probes or metrics, with its request.
	probeMemory = 48 << 10
)

// What the process holds for requests in addition to the connections, in bytes.
const (
	// APIMemory is reserved for the API's large bodies and answers, and for exports.
	APIMemory = 80 << 20
	// RequestMemory is reserved for the body or the answer of each request.
	RequestMemory = 64 << 10
)

// defaultMemoryLimit is the limit that a pod with 256 MiB has: automemlimit leaves a tenth for
// memory outside of Go.
const defaultMemoryLimit = 256 << 20 / 10 * 9

// MemoryLimit returns the memory limit of the Go runtime, in bytes, which main derives from that of
// the cgroup. If there is none, as in development, it returns that of a pod of 256 MiB.
func MemoryLimit() int64 {
	if limit := debug.SetMemoryLimit(-1); limit < math.MaxInt64 {
		return limit
	}
	return defaultMemoryLimit
}

// bounds bounds what the clients of a listener may have at the same time. The bounds by address do
// not apply to trusted proxies.
type bounds struct {
	// total and perAddress bound connections, and unfinished those without a first request.
	total, perAddress, unfinished int
	// slots and slotsPerAddress bound the requests that the busy connections could have in flight:
	// a connection of HTTP/2 takes a slot for each stream that it may open.
	slots, slotsPerAddress int
	// requests and requestsPerAddress bound the requests that are in flight. One more is answered
	// 503. At
	// hardFactor times the bound the connection is closed.
	requests, requestsPerAddress int
	// abandoned bounds connections whose client gave up a request that is still in the handler.
	abandoned int
	// blocked bounds connections whose client sends and does not read.
	blocked int
}

// hardFactor is described at [bounds].
const hardFactor = 2

// probeBounds are small and do not depend on the memory limit.
var probeBounds = bounds{
	total: 128, perAddress: 64, unfinished: 128, slots: 128, slotsPerAddress: 64,
	requests: 64, requestsPerAddress: 32, abandoned: 1, blocked: 128,
}

// apiBounds derives the bounds of the API's connections from the memory limit.
func apiBounds(limit int64) bounds {
	// share returns how many items of a size fit into a part of the limit, in thousandths.
	share := func(part, size int) int { return int(max(limit, minMemoryLimit)/1000) * part / size }
	b := bounds{
		unfinished: share(70, freshMemory),
		total:      share(150, establishedMemory),
		blocked:    share(20, blockedMemory),
		slots:      share(110, streamMemory),
		abandoned:  share(30, abandonedMemory),
	}
	b.perAddress, b.slotsPerAddress = b.total/2, b.slots/3
	b.requests, b.requestsPerAddress = b.slots/2, b.slots/4
	return b
}

// minMemoryLimit is the least memory that the process needs.
const minMemoryLimit = 128 << 20
