package httpapi

import "time"

// smallSize is how much each request may hold of its body, and of its answer, without a
// reservation, in bytes. A page of a list fits, and so do most notes. The bound on requests in
// flight bounds the sum.
const smallSize = 32 << 10

// maxLarge bounds what all requests of a replica hold beyond [smallSize] each, in bytes: once for
// bodies and once for answers. maxUserLarge is the part of one user, in which the largest note
// fits.
const maxLarge, maxUserLarge = 16 << 20, 4 << 20

// What requests hold at most, in bytes. A body is held as it arrives and once more decoded. An
// answer is held once, and half of it again while it is encoded.
const (
	// RequestMemory is for each request.
	RequestMemory = 2 * smallSize
	// MaxMemory is for all requests together beyond that, including exports.
	MaxMemory = 2*maxLarge + maxLarge*3/2 + maxExports*exportSize
)

// reservation is what one request holds of a [pool]. It implements notes.Budget.
type reservation struct {
	pool *pool
	// user is a user, or the address of a client that is not signed in.
	user string
	// mayWait means that Reserve may wait until other requests release memory.
	mayWait bool
	// small and large are what the request holds, in bytes.
	small, large int

	// The pool's mutex guards what follows.

	// since is when the request first held large memory.
	since time.Time
	// preempt, if it is not nil, ends the wait for the client, so that the request releases its
	// memory.
	preempt func()
}

// Reserve implements notes.Budget. Errors: errUserBusy, errBusy.
func (r *reservation) Reserve(bytes int) error {
	small := min(bytes, smallSize-r.small)
	r.small += small
	if bytes == small {
		return nil
	}
	return r.pool.reserve(r, bytes-small)
}

func (r *reservation) release() { r.pool.release(r) }

// setPreempt sets how to end the request's wait for its client; nil means that it does not wait.
func (r *reservation) setPreempt(preempt func()) {
	r.pool.mu.Lock()
	defer r.pool.mu.Unlock()
	r.preempt = preempt
}
