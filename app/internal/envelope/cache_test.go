package envelope

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// gatedProvider counts unwrappings, and blocks each until the gate opens, or fails it.
type gatedProvider struct {
	KeyProvider
	gate    chan struct{}
	unwraps atomic.Int32
	items   atomic.Int32
	failure atomic.Pointer[error]
}

func (p *gatedProvider) Unwrap(ctx context.Context, items []WrappedItem) ([]UnwrapResult, error) {
	p.items.Add(int32(len(items)))
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
	return p, NewCache(keyring, &rows{active: stored}), stored
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
		// the first caller is about to call the provider
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

// TestUnwrapsAreJoined checks that unwrappings of many owners join into one call while others are
// in progress.
func TestUnwrapsAreJoined(t *testing.T) {
	p, cache, first := newGated(t)
	stored := []StoredKey{first}
	for i := range 20 {
		key, err := cache.keyring.Generate(context.Background(), fmt.Sprintf("other%d", i))
		if err != nil {
			t.Fatal(err)
		}
		stored = append(stored, key)
	}
	var callers sync.WaitGroup
	for _, key := range stored {
		callers.Go(func() {
			if got, err := cache.Key(context.Background(), key); err != nil || got.ID() != key.ID {
				t.Errorf("owner %s: %v", key.Owner, err)
			}
		})
	}
	for p.unwraps.Load() < unwrapParallel || int(p.items.Load())+cache.unwraps.Waiting() < len(stored) {
		time.Sleep(time.Millisecond) // until all permitted calls are in progress and the others wait
	}
	close(p.gate)
	callers.Wait()
	if n := p.unwraps.Load(); n > unwrapParallel+1 {
		t.Errorf("%d calls of the provider for %d owners, want %d at the most", n, len(stored), unwrapParallel+1)
	}
}

// rows implements KeyRows for one owner, in memory.
type rows struct {
	active StoredKey
	seals  map[string]int64
}

func (r *rows) CountSeals(_ context.Context, key StoredKey, n int64) (int64, error) {
	if r.seals == nil {
		r.seals = map[string]int64{}
	}
	r.seals[key.ID] += n
	return r.seals[key.ID], nil
}

func (r *rows) SucceedKey(_ context.Context, key, next StoredKey, _ time.Time) error {
	if r.active.ID == key.ID {
		r.active = next
	}
	return nil
}

func (r *rows) find(context.Context) (StoredKey, error) { return r.active, nil }

func TestSealingFollowsTheActiveKey(t *testing.T) {
	p, cache, stored := newGated(t)
	close(p.gate)
	rows := &rows{active: stored}
	cache.rows = rows
	sealedWith := func(accept func(string) bool) (with []string, err error) {
		keys := cache.ActiveKeys("o1", 1, rows.find)
		for keys.Next(context.Background()) {
			with = append(with, keys.Key().ID())
			if accept(keys.Key().ID()) {
				return with, nil
			}
		}
		return with, keys.Err()
	}
	if with, err := sealedWith(func(string) bool { return true }); err != nil || !slices.Equal(with, []string{stored.ID}) {
		t.Fatalf("sealed with %v, %v", with, err)
	}
	next, err := cache.keyring.Generate(context.Background(), "o1")
	if err != nil {
		t.Fatal(err)
	}
	rows.active = next
	with, err := sealedWith(func(id string) bool { return id == next.ID })
	if err != nil || !slices.Equal(with, []string{stored.ID, next.ID}) {
		t.Errorf("after a rotation sealed with %v, %v: want the old key once, then %s", with, err, next.ID)
	}
	if _, err := sealedWith(func(string) bool { return false }); !errors.Is(err, ErrKeyNotActive) {
		t.Errorf("error %v, want ErrKeyNotActive", err)
	}
}

// TestKeyIsReplacedBeforeItHasSealedTooMuch checks that seals are reserved in blocks, and that
// every seal was reserved.
func TestKeyIsReplacedBeforeItHasSealedTooMuch(t *testing.T) {
	p, cache, stored := newGated(t)
	close(p.gate)
	rows := &rows{active: stored}
	cache.rows, cache.maxSeals = rows, 2*sealBlock
	sealed := map[string]int64{}
	for range 5 * sealBlock / 3 {
		keys, stored := cache.ActiveKeys("o1", 3, rows.find), false
		for !stored && keys.Next(context.Background()) {
			sealed[keys.Key().ID()] += 3
			stored = keys.Key().ID() == rows.active.ID
		}
		if !stored {
			t.Fatal(keys.Err())
		}
	}
	if len(sealed) < 3 {
		t.Errorf("%d keys sealed %d values, at most %d each", len(sealed), 5*sealBlock, cache.maxSeals)
	}
	for id, n := range sealed {
		if n > cache.maxSeals || n > rows.seals[id] {
			t.Errorf("key %s sealed %d values, %d were reserved, %d are allowed", id, n, rows.seals[id], cache.maxSeals)
		}
	}
}

// TestCacheIsBounded checks that a full cache drops the oldest key, and unwraps it again when it is
// needed.
func TestCacheIsBounded(t *testing.T) {
	p, first, size := newOpenGate(t), StoredKey{}, 3
	cache := newCache(NewKeyring("d1", p), &rows{}, size, time.Hour)
	for i := range size + 1 {
		stored, err := cache.Generate(context.Background(), fmt.Sprintf("o%d", i))
		if err != nil {
			t.Fatal(err)
		}
		if _, err := cache.Key(context.Background(), stored); err != nil {
			t.Fatal(err)
		}
		if i == 0 {
			first = stored
		}
	}
	if n := cache.keys.Len(); n != size {
		t.Errorf("%d keys are kept, want %d", n, size)
	}
	if _, err := cache.Key(context.Background(), first); err != nil || p.unwraps.Load() != int32(size)+2 {
		t.Errorf("%d unwraps, %v; want that the first key was unwrapped again", p.unwraps.Load(), err)
	}
}

// TestKeyServesForItsTimeOnly checks that use does not extend a key's time in the cache, so that a
// revoked master key is noticed.
func TestKeyServesForItsTimeOnly(t *testing.T) {
	p, ctx, ttl := newOpenGate(t), context.Background(), 300*time.Millisecond
	keyring := NewKeyring("d1", p)
	stored, err := keyring.Generate(ctx, "o1")
	if err != nil {
		t.Fatal(err)
	}
	rows := &rows{active: stored}
	cache := newCache(keyring, rows, 10, ttl)
	unwrapped := time.Now()
	if _, err := cache.Key(ctx, stored); err != nil { // a read
		t.Fatal(err)
	}
	failure := ErrUnavailable
	p.failure.Store(&failure)
	seal := func() error {
		keys := cache.ActiveKeys("o1", 1, rows.find)
		keys.Next(ctx)
		return keys.Err()
	}
	for time.Since(unwrapped) < ttl*3/4 {
		time.Sleep(time.Millisecond) // the first seal comes near the end of the key's time and must not extend it
	}
	if err := seal(); err != nil && time.Since(unwrapped) < ttl {
		t.Errorf("within the key's time: %v", err)
	}
	for kept := true; kept; {
		_, kept = cache.keys.Get(cacheKey{stored.Owner, stored.ID})
	}
	if err := seal(); !errors.Is(err, ErrUnavailable) {
		t.Errorf("after the key's time: %v, want ErrUnavailable", err)
	}
	p.failure.Store(nil)
	if err := seal(); err != nil {
		t.Errorf("with the provider back: %v", err)
	}
}

func newOpenGate(t *testing.T) *gatedProvider {
	t.Helper()
	p := &gatedProvider{KeyProvider: newRotatableLocal(t), gate: make(chan struct{})}
	close(p.gate)
	return p
}
