package reencrypt_test

import (
	"context"
	"sync"
	"testing"

	"github.com/securenotes/securenotes/app/internal/envelope"
	"github.com/securenotes/securenotes/app/internal/reencrypt"
	"github.com/securenotes/securenotes/app/internal/storetest"
)

// overtakenProvider calls overtake before it answers the first Rewrap.
type overtakenProvider struct {
	envelope.KeyProvider
	once     sync.Once
	overtake func()
}

func (p *overtakenProvider) Rewrap(ctx context.Context, items []envelope.WrappedItem) ([]envelope.WrapResult, error) {
	p.once.Do(p.overtake)
	return p.KeyProvider.Rewrap(ctx, items)
}

// TestConflictsAreCounted checks that a Job reports the keys that another Job has replaced first,
// and that the other Job reports none.
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
			t.Errorf("%d conflicts of the slower Job, want 3; %d of the faster one, want none", slow, fast)
		}
		w.mustHold(t, reencrypt.Rewrap, to)
	})
}
