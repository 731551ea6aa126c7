package reencrypt_test

import (
	"context"
	"sync"
	"testing"

	"github.com/securenotes/securenotes/app/internal/envelope"
	"github.com/securenotes/securenotes/app/internal/reencrypt"
	"github.com/securenotes/securenotes/app/internal/storetest"
)

// overtakenProvider has something else happen before the first rewrapping is answered.
type overtakenProvider struct {
	envelope.KeyProvider
	once     sync.Once
	overtake func()
}

func (p *overtakenProvider) Rewrap(ctx context.Context, items []envelope.WrappedItem) ([]envelope.WrapResult, error) {
	p.once.Do(p.overtake)
	return p.KeyProvider.Rewrap(ctx, items)
}

// TestConflictsAreCounted: a Job that was overtaken by another says for how many keys; one that was not, none.
func TestConflictsAreCounted(t *testing.T) {
	storetest.Each(t, func(t *testing.T, open storetest.Open) {
		w := newWorld(t, open, 3, 2)
		to := w.rotate(t)
		var slow, fast int64
		first := w.job(reencrypt.Rewrap, to)
		first.Conflicts = func(total int64) { slow = total }
		first.Keys = envelope.NewKeyring("d1", &overtakenProvider{KeyProvider: w.provider, overtake: func() {
			second := w.job(reencrypt.Rewrap, to)
			second.Conflicts = func(total int64) { fast = total }
			if err := second.Run(ctx); err != nil {
				t.Error(err)
			}
		}})
		if err := first.Run(ctx); err != nil {
			t.Fatal(err)
		}
		if slow != 3 || fast != 0 {
			t.Errorf("%d conflicts of the Job that was overtaken, want 3; %d of the other, want none", slow, fast)
		}
		w.mustHold(t, reencrypt.Rewrap, to)
	})
}
