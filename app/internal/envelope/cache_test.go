package envelope

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"testing"
)

// gatedProvider counts unwraps and holds each until the gate opens, or fails it.
type gatedProvider struct {
	KeyProvider
	gate    chan struct{}
	unwraps atomic.Int32
	failure atomic.Pointer[error]
}

func (p *gatedProvider) Unwrap(ctx context.Context, items []WrappedItem) ([]UnwrapResult, error) {
	p.unwraps.Add(1)
	<-p.gate
	if err := p.failure.Load(); err != nil {
		return nil, *err
	}
	return p.KeyProvider.Unwrap(ctx, items)
}

func newGated(t *testing.T) (*gatedProvider, *Cache, StoredKey) {
	t.Helper()
	p := &gatedProvider{KeyProvider: newRotatableLocal(t), gate: make(chan struct{})}
	keyring := NewKeyring("d1", p)
	stored, err := keyring.Generate(context.Background(), "o1")
	if err != nil {
		t.Fatal(err)
	}
	return p, NewCache(keyring), stored
}

func TestCacheSharesOneUnwrap(t *testing.T) {
	p, cache, stored := newGated(t)
	cancelled, cancel := context.WithCancel(context.Background())
	first := make(chan error)
	go func() {
		_, err := cache.Key(cancelled, stored)
		first <- err
	}()
	for p.unwraps.Load() == 0 {
		// the first caller is on its way to the provider
	}
	var others sync.WaitGroup
	for range 20 {
		others.Go(func() {
			if _, err := cache.Key(context.Background(), stored); err != nil {
				t.Errorf("a caller lost the key because another one was cancelled: %v", err)
			}
		})
	}
	cancel()
	if err := <-first; !errors.Is(err, context.Canceled) {
		t.Errorf("the cancelled caller: %v", err)
	}
	close(p.gate)
	others.Wait()
	if n := p.unwraps.Load(); n != 1 {
		t.Errorf("%d unwraps, want 1", n)
	}
}

func TestCacheKeepsNoError(t *testing.T) {
	p, cache, stored := newGated(t)
	close(p.gate)
	failure := ErrUnavailable
	p.failure.Store(&failure)
	if _, err := cache.Key(context.Background(), stored); !errors.Is(err, ErrUnavailable) {
		t.Fatalf("error %v, want ErrUnavailable", err)
	}
	p.failure.Store(nil)
	if _, err := cache.Key(context.Background(), stored); err != nil {
		t.Errorf("after the provider came back: %v", err)
	}
	if _, err := cache.Key(context.Background(), stored); err != nil || p.unwraps.Load() != 2 {
		t.Errorf("a cached key was unwrapped again: %d unwraps, %v", p.unwraps.Load(), err)
	}
}

func TestCacheForgetsTheActiveKey(t *testing.T) {
	p, cache, stored := newGated(t)
	close(p.gate)
	if _, ok := cache.Active("o1"); ok {
		t.Fatal("an active key from nowhere")
	}
	if _, err := cache.SetActive(context.Background(), stored); err != nil {
		t.Fatal(err)
	}
	if key, ok := cache.Active("o1"); !ok || key.ID() != stored.ID {
		t.Error("the active key is not remembered")
	}
	cache.ForgetActive("o1")
	if _, ok := cache.Active("o1"); ok {
		t.Error("the active key is not forgotten")
	}
}
