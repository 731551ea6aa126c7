// Package stalecache has the error that a controller returns when its cache is behind the API
// server: a step was decided on data that has changed since. The pass is repeated soon, and it is
// not counted as a failure.
package stalecache

import (
	"errors"
	"fmt"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/util/wait"
)

// Error says that the cache is behind the API server.
type Error struct {
	// Object is the kind and the name of the object, such as "KeyRotation first".
	Object string
	// Reason is what the cache does not show.
	Reason string
}

func (e *Error) Error() string {
	return fmt.Sprintf("stale cache: %s: %s", e.Object, e.Reason)
}

// New returns an [Error] about the object of this kind and name.
func New(kind, name, reason string) error {
	return &Error{Object: kind + " " + name, Reason: reason}
}

// Is reports whether err says that the cache is behind: it is an [Error], or a conflict that the
// API server answered a write with.
func Is(err error) bool {
	_, ok := errors.AsType[*Error](err)
	return ok || apierrors.IsConflict(err)
}

// RequeueAfter returns how long to wait until the cache has caught up.
func RequeueAfter() time.Duration { return wait.Jitter(time.Second, 0.2) }
