package httpapi

// smallSize is how much of each request's text is taken from the memory for small requests, in bytes: a
// page of a list fits, and so do most notes. They are served whatever is done with large ones.
const smallSize = 32 << 10

// What a process of the least memory has, in bytes. Each user gets a quarter, so that the largest note can be
// written and read.
const leastSmall, leastLarge = 4 << 20, 16 << 20

// memory is what all requests under way may hold of bodies, or of answers.
type memory struct {
	small, large *shares
}

// newMemory sets aside parts of the process's memory limit, in bytes: a thirty-second for small texts and a
// tenth for large ones.
func newMemory(limit int64) *memory {
	small, large := max(int(limit/32), leastSmall), max(int(limit/10), leastLarge)
	return &memory{small: newShares(small, small/4), large: newShares(large, large/4)}
}

// room is what one request holds of a memory.
type room struct {
	of *memory
	// user is whom it counts for: a user, or an address.
	user         string
	small, large int
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
	if err := r.of.large.take(r.user, bytes-small); err != nil {
		return err
	}
	r.large += bytes - small
	return nil
}

func (r *room) leave() {
	r.of.small.give(r.user, r.small)
	r.of.large.give(r.user, r.large)
	r.small, r.large = 0, 0
}
