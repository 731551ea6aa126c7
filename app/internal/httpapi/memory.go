package httpapi

import "time"

// smallSize is what each request may hold of its body, and of its answer, without asking, in bytes:
// a page of a list fits, and so do most notes. The requests that may be under way bound the sum.
const smallSize = 32 << 10

// maxLarge bounds what the requests of a replica hold beyond [smallSize] each, in bytes, of bodies
// and apart from them of answers. maxUserLarge is for one user; the largest note can be written and
// read.
const maxLarge, maxUserLarge = 16 << 20, 4 << 20

// What requests hold at most, in bytes: bodies as they arrive and once more decoded, answers and
// half of each again while they are encoded.
const (
	// RequestMemory is of each request.
	RequestMemory = 2 * smallSize
	// MaxMemory is of all requests together beyond that, with exports.
	MaxMemory = 2*maxLarge + maxLarge*3/2 + maxExports*exportSize
)

// room is what one request holds of the memory for bodies, or for answers.
type room struct {
	of *pool
	// user is whom it counts for: a user, or an address.
	user string
	// waits: what needs the memory is not there yet, and may wait until some is given back.
	waits bool
	// small and large are what the request holds, in bytes.
	small, large int

	// The pool's mutex guards what follows.

	// begun is when the request first held large memory.
	begun time.Time
	// cut, when it is not nil, ends the wait for the client, so that the request gives its memory
	// back.
	cut func()
}

// Take implements notes.Room. Errors: errOwnShare, errBusy.
func (r *room) Take(bytes int) error {
	small := min(bytes, smallSize-r.small)
	r.small += small
	if bytes == small {
		return nil
	}
	return r.of.take(r, bytes-small)
}

func (r *room) leave() { r.of.give(r) }

// waitsFor says how to end the request's wait for its client; nil: it waits for no client.
func (r *room) waitsFor(cut func()) {
	r.of.mu.Lock()
	defer r.of.mu.Unlock()
	r.cut = cut
}
