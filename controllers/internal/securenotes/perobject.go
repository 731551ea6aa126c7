package securenotes

import (
	"sync"

	"k8s.io/apimachinery/pkg/types"
)

// perObject holds one value for each object, by its UID. The zero value is ready to use. It is safe
// for concurrent use.
type perObject[T any] struct {
	mu     sync.Mutex
	values map[types.UID]T
}

// get returns the value of an object, or the zero value.
func (p *perObject[T]) get(uid types.UID) T {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.values[uid]
}

func (p *perObject[T]) put(uid types.UID, value T) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.values == nil {
		p.values = map[types.UID]T{}
	}
	p.values[uid] = value
}

func (p *perObject[T]) drop(uid types.UID) {
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.values, uid)
}
