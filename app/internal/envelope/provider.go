package envelope

import "context"

// KeyProvider holds the master key. Implementations are safe for concurrent use, bound every call
// in time, and return errors that are one of ErrUnavailable, ErrVaultSealed, ErrDenied and ErrRefused.
type KeyProvider interface {
	// Wrap encrypts each raw key under the latest version of the master key. It does not keep them.
	Wrap(ctx context.Context, items []RawItem) ([]WrapResult, error)
	// Unwrap decrypts each item; one item's error leaves the others alone.
	Unwrap(ctx context.Context, items []WrappedItem) ([]UnwrapResult, error)
	// Rewrap moves each item to the latest version without showing the raw key to the caller.
	Rewrap(ctx context.Context, items []WrappedItem) ([]WrapResult, error)
}

// RawItem is a raw key and the context that it is to be wrapped with.
type RawItem struct{ Raw, Derivation []byte }

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

// WrapResult is a new wrapping, or why there is none.
type WrapResult struct {
	Wrapped Wrapped
	Err     error
}
