package httpapi

import (
	"math"
	"time"
)

// smallSize is how much of each request's text is taken from the memory for small requests, in bytes: a
// page of a list fits, and so do most notes. They are served whatever is done with large ones.
const smallSize = 32 << 10

// maxUserSmall bounds what the requests of one user hold of that, in bytes. All users together are bounded by the
// requests that may be under way.
const maxUserSmall = 1 << 20

// maxLarge bounds what the requests of a replica hold beyond [smallSize] each, in bytes, of bodies and apart from
// them of answers. maxUserLarge is for one user; the largest note can be written and read.
const maxLarge, maxUserLarge = 16 << 20, 4 << 20

// What requests hold at most, in bytes: bodies as they arrive and once more decoded, answers and half of each
// again while they are encoded.
const (
	// RequestMemory is of each request.
	RequestMemory = 2 * smallSize
	// MaxMemory is of all requests together beyond that, with exports.
	MaxMemory = 2*maxLarge + maxLarge*3/2 + maxExports*exportSize
)

// memory is what all requests under way may hold of bodies, or of answers.
type memory struct {
	small *shares
	large *pool
}

func newMemory() *memory {
	return &memory{small: newShares(math.MaxInt, maxUserSmall), large: newPool(maxLarge, maxUserLarge)}
}

// room is what one request holds of a memory.
type room struct {
	of *memory
	// user is whom it counts for: a user, or an address.
	user         string
	small, large int
	// waits: what needs the memory is not there yet, and may wait until some is given back.
	waits bool

	// The pool's mutex guards what follows.

	// begun is when the request first held large memory.
	begun time.Time
	// cut, when it is not nil, ends the wait for the client, so that the request gives its memory back.
	cut func()
}

// Take implements notes.Room. Errors: errOwnShare, errBusy.
func (r *room) Take(bytes int) error {
	small := min(bytes, smallSize-r.small)
	if err := r.of.small.take(r.user, small); err != nil {
		return err
	}
	r.small += small
	if bytes == small {
		return nil
	}
	return r.of.large.take(r, bytes-small, r.waits)
}

func (r *room) leave() {
	r.of.small.give(r.user, r.small)
	r.small = 0
	r.of.large.give(r)
}

// waitsFor says how to end the request's wait for its client; nil: it waits for no client.
func (r *room) waitsFor(cut func()) {
	r.of.large.mu.Lock()
	defer r.of.large.mu.Unlock()
	r.cut = cut
}
