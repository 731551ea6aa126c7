package reencrypt_test

import (
	"context"
	"os"
	"path/filepath"
	"sync/atomic"
	"testing"

	"github.com/securenotes/securenotes/app/internal/deployment"
	"github.com/securenotes/securenotes/app/internal/envelope"
	"github.com/securenotes/securenotes/app/internal/envelope/envelopetest"
	"github.com/securenotes/securenotes/app/internal/reencrypt"
	"github.com/securenotes/securenotes/app/internal/store"
	"github.com/securenotes/securenotes/app/internal/storetest"
)

// replaced is a key provider whose calls go to another provider from a given call on.
type replaced struct {
	genuine, other envelope.KeyProvider
	from           int32
	calls          atomic.Int32
}

func (p *replaced) now() envelope.KeyProvider {
	if p.calls.Add(1) >= p.from {
		return p.other
	}
	return p.genuine
}

func (p *replaced) Wrap(ctx context.Context, items []envelope.RawItem) ([]envelope.WrapResult, error) {
	return p.now().Wrap(ctx, items)
}

func (p *replaced) Unwrap(ctx context.Context, items []envelope.WrappedItem) ([]envelope.UnwrapResult, error) {
	return p.now().Unwrap(ctx, items)
}

func (p *replaced) Rewrap(ctx context.Context, items []envelope.WrappedItem) ([]envelope.WrapResult, error) {
	return p.now().Rewrap(ctx, items)
}

// restored returns the master key as it was before its newest version, with a different version of
// the same number.
func (w *world) restored(t *testing.T, older []byte) envelope.KeyProvider {
	t.Helper()
	path := filepath.Join(t.TempDir(), "restored.key")
	if err := os.WriteFile(path, older, 0o600); err != nil {
		t.Fatal(err)
	}
	other, err := envelopetest.OpenLocal(path)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := other.Rotate(); err != nil {
		t.Fatal(err)
	}
	return other
}

// TestMasterKeyIsReplacedAtAnyCall restores the master key to before the rotation's version, and
// gives it a different version of that number, at each call of the key provider in turn. Once the
// genuine key is back, a Job must finish the work: nothing may have moved to the other key.
func TestMasterKeyIsReplacedAtAnyCall(t *testing.T) {
	eachStrategy(t, func(t *testing.T, open storetest.Open, strategy reencrypt.Strategy) {
		w := newWorld(t, open, 3, 3)
		nobody := store.OwnerRange{From: "ffffffff-ffff-ffff-ffff-ffffffffffff"}
		stopped := 0
		for from := int32(1); ; from++ {
			older, err := os.ReadFile(w.keyFile)
			if err != nil {
				t.Fatal(err)
			}
			to := w.rotate(t)
			// From here on the database knows which version of that number is the genuine one.
			first := w.job(strategy, to)
			first.Range = nobody
			if err := first.Run(ctx); err != nil {
				t.Fatal(err)
			}
			provider := &replaced{genuine: w.provider, other: w.restored(t, older), from: from}
			job := w.job(strategy, to)
			job.Keys = deployment.GuardedKeyring("d1", provider, w.db)
			err = job.Run(ctx)
			if provider.calls.Load() < from {
				if err != nil {
					t.Fatalf("nothing was replaced: %v", err)
				}
				break
			}
			if err != nil {
				stopped++
			}
			if err := w.job(strategy, to).Run(ctx); err != nil {
				t.Fatalf("after the replacement at call %d: %v", from, err)
			}
			w.mustHold(t, strategy, to)
		}
		if stopped < 2 {
			t.Errorf("only %d Jobs were stopped", stopped)
		}
	})
}
