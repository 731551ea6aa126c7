package httpapi

// smallSize is how much of each request's text is taken from the memory for small requests, in bytes: a
// page of a list fits, and so do most notes. They are served whatever is done with large ones.
const smallSize = 32 << 10

// maxSmall and maxLarge bound what the requests of a replica may hold, in bytes, each for bodies and apart from
// them for answers: of the first [smallSize] of each request, and of what is beyond it. The rest bounds one
// user; the largest note can be written and read.
const (
	maxSmall, maxUserSmall = 4 << 20, 1 << 20
	maxLarge, maxUserLarge = 16 << 20, 4 << 20
)

// MaxMemory is what the requests of a replica hold at most, in bytes: bodies as they arrive and once more
// decoded, answers and half of each again while they are encoded, and exports.
const MaxMemory = 2*(maxSmall+maxLarge) + (maxSmall+maxLarge)*3/2 + maxExports*exportSize

// memory is what all requests under way may hold of bodies, or of answers.
type memory struct {
	small, large *shares
}

func newMemory() *memory {
	return &memory{small: newShares(maxSmall, maxUserSmall), large: newShares(maxLarge, maxUserLarge)}
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
