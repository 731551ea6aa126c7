package envelope

import "context"

// KeyProvider has the master key. Implementations are safe for concurrent use and bound every call
// in time. Their errors wrap ErrUnavailable, ErrVaultSealed, ErrDenied or ErrRefused.
type KeyProvider interface {
	// Wrap encrypts each raw key under the latest version of the master key. It keeps no raw key.
	Wrap(ctx context.Context, items []RawItem) ([]WrapResult, error)
	// Unwrap decrypts each item. An error of one item does not affect the others.
	Unwrap(ctx context.Context, items []WrappedItem) ([]UnwrapResult, error)
	// Rewrap moves each item to the latest version. The caller never sees the raw key.
	Rewrap(ctx context.Context, items []WrappedItem) ([]WrapResult, error)
}

// RawItem is a raw key and its derivation context.
type RawItem struct{ Raw, Derivation []byte }

// WrappedItem is a wrapped key and its derivation context.
type WrappedItem struct {
	Wrapped    Wrapped
	Derivation []byte
}

// UnwrapResult is a raw key, which the receiver must clear, or an error.
type UnwrapResult struct {
	Raw []byte
	Err error
}

// WrapResult is a wrapped key or an error.
type WrapResult struct {
	Wrapped Wrapped
	Err     error
}
