package envelope

import "context"

// KeyProvider holds the master key. Implementations are safe for concurrent use, bound every call
// in time, and return errors that are one of ErrUnavailable, ErrSealed, ErrDenied and ErrRefused.
type KeyProvider interface {
	// Wrap encrypts a raw key under the latest version of the master key. It does not keep raw.
	Wrap(ctx context.Context, raw, derivation []byte) (Wrapped, error)
	// Unwrap decrypts each item; one item's error leaves the others alone.
	Unwrap(ctx context.Context, items []WrappedItem) ([]UnwrapResult, error)
	// Rewrap moves each item to the latest version without showing the raw key to the caller.
	Rewrap(ctx context.Context, items []WrappedItem) ([]RewrapResult, error)
}

// WrappedItem is a wrapped key and the context that it was wrapped with.
type WrappedItem struct {
	Wrapped    Wrapped
	Derivation []byte
}

// UnwrapResult is a raw key, for the receiver to wipe, or why there is none.
type UnwrapResult struct {
	Raw []byte
	Err error
}

// RewrapResult is a new wrapping of the same key, or why there is none.
type RewrapResult struct {
	Wrapped Wrapped
	Err     error
}
