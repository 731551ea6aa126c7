package keyrotation

import (
	"context"
	"iter"
	"strings"
	"testing"
	"time"

	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/tools/events"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/interceptor"

	"github.com/securenotes/securenotes/api/v1alpha1"
	"github.com/securenotes/securenotes/app/config"
	"github.com/securenotes/securenotes/controllers/internal/crashtest"
	"github.com/securenotes/securenotes/controllers/internal/rotations"
	"github.com/securenotes/securenotes/controllers/internal/stalecache"
	"github.com/securenotes/securenotes/controllers/internal/steps"
)

// TestTurn: two operators start two rotations of one SecureNotes at once. Their reads past the
// cache and their writes are interleaved in every order. The turn of two rotations is never certain
// at once. Soon that of one is, and the other waits in the queue or has failed as superseded.
func TestTurn(t *testing.T) {
	t.Parallel()
	queued := func(name string, changes ...func(*v1alpha1.KeyRotation)) *v1alpha1.KeyRotation {
		return rotation(name, append([]func(*v1alpha1.KeyRotation){owned, guarded}, changes...)...)
	}
	retried := func(kr *v1alpha1.KeyRotation) {
		kr.Annotations = map[string]string{v1alpha1.AnnotationRetryRequestedAt: "now"}
		kr.Status.Attempt, kr.Status.Shards = 1, 1
		setFailed(kr, &kr.Status, decision{Verdict: steps.Fail, Reason: v1alpha1.ReasonJobFailed, Message: "the previous failure"}, time.Unix(1000, 0))
	}
	for name, tc := range map[string]struct {
		// late is created, or retried, when the operator of early is about to record that early
		// starts.
		late, early *v1alpha1.KeyRotation
		latest      int64
	}{
		"one that goes first":                {late: queued("first"), early: queued("second"), latest: 1},
		"a retry that goes first":            {late: queued("first", from(1), to(2), retried), early: queued("second"), latest: 2},
		"the retry of one that made nothing": {late: queued("first", from(1), retried), early: queued("second"), latest: 1},
		"a Compromise":                       {late: queued("urgent", urgent), early: queued("second"), latest: 1},
		"a newer Compromise":                 {late: queued("urgent", urgent), early: queued("second", urgent), latest: 1},
		"the retry of a Compromise":          {late: queued("first", urgent, from(1), to(2), retried), early: queued("second"), latest: 2},
		"the retry of an older Compromise":   {late: queued("first", urgent, from(1), to(2), retried), early: queued("second", urgent), latest: 2},
	} {
		// The late one is created and lists, records its start, lists, and records its turn. So
		// does the early one from its start on.
		for _, order := range interleavings(4, 3) {
			t.Run(name+", "+order, func(t *testing.T) {
				t.Parallel()
				w := newWorld(t, &crashtest.Crash{}, tc.early.DeepCopy())
				w.vault.state.Latest = tc.latest
				operators := map[rune]*coroutine{'L': w.atOnce(t, tc.late.DeepCopy()), 'e': w.atOnce(t, tc.early.DeepCopy())}
				for _, operator := range operators {
					defer operator.stop()
				}
				for _, who := range "ee" + strings.Replace(order, "L", "LL", 1) {
					operators[who].step()
				}
				for range 20 {
					operators['L'].step()
					operators['e'].step()
					if w.oneTurn(t) {
						return
					}
				}
				for _, name := range []string{tc.late.Name, tc.early.Name} {
					t.Errorf("%s: %+v", name, w.rotation(t, name).Status)
				}
			})
		}
	}
}

// TestStaleQueue: the cache does not show yet that another rotation goes first. That ends the pass,
// which is neither an error nor a step that is taken.
func TestStaleQueue(t *testing.T) {
	t.Parallel()
	for name, started := range map[string]bool{"it starts": false, "it has started": true} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, &crashtest.Crash{}, rotation("second", owned, guarded))
			if started {
				kr := w.rotation(t, "second")
				kr.Status.StartTime, kr.Status.Attempt = new(metav1.NewTime(time.Unix(1000, 0))), 1
				if err := w.Status().Update(t.Context(), kr); err != nil {
					t.Fatal(err)
				}
			}
			cache := w.Fork(t)
			if err := w.Create(t.Context(), rotation("first", running, from(1))); err != nil {
				t.Fatal(err)
			}
			ctx, lines, _ := logged(t)
			r := w.reconciler(events.NewFakeRecorder(100))
			r.Client = interceptor.NewClient(r.Client.(client.WithWatch), interceptor.Funcs{
				Get: func(ctx context.Context, _ client.WithWatch, key client.ObjectKey, o client.Object, opts ...client.GetOption) error {
					return cache.Get(ctx, key, o, opts...)
				},
				List: func(ctx context.Context, _ client.WithWatch, list client.ObjectList, opts ...client.ListOption) error {
					return cache.List(ctx, list, opts...)
				},
			})
			result, err := r.Reconcile(ctx, ctrl.Request{NamespacedName: client.ObjectKey{Namespace: "ns", Name: "second"}})
			if err != nil || result.RequeueAfter < time.Second || result.RequeueAfter > 2*time.Second {
				t.Errorf("got %+v and error %v, want another pass soon", result, err)
			}
			if kr := w.rotation(t, "second"); rotations.Started(kr) || kr.Status.State != v1alpha1.ReasonQueued {
				t.Errorf("got %+v, want a rotation in the queue", kr.Status)
			}
			for _, l := range *lines {
				if l.Level == 0 {
					t.Errorf("got %+v, want no line about a step", l)
				}
			}
		})
	}
}

// interleavings returns every order of a steps L and b steps e.
func interleavings(a, b int) []string {
	if a == 0 || b == 0 {
		return []string{strings.Repeat("L", a) + strings.Repeat("e", b)}
	}
	var all []string
	for _, rest := range interleavings(a-1, b) {
		all = append(all, "L"+rest)
	}
	for _, rest := range interleavings(a, b-1) {
		all = append(all, "e"+rest)
	}
	return all
}

// coroutine is an operator that runs one step at a time.
type coroutine struct {
	next func() (struct{}, bool)
	stop func()
}

func (c *coroutine) step() { c.next() }

// atOnce returns an operator that creates the rotation unless it exists, and carries it out. It
// pauses before each write, before each list that it reads past the cache, and between its passes.
func (w *world) atOnce(t *testing.T, kr *v1alpha1.KeyRotation) *coroutine {
	key := client.ObjectKeyFromObject(kr)
	next, stop := iter.Pull(func(yield func(struct{}) bool) {
		ended := false
		pause := func() { ended = ended || !yield(struct{}{}) }
		if err := client.IgnoreAlreadyExists(w.Create(t.Context(), kr)); err != nil {
			t.Errorf("make %s: %v", kr.Name, err)
			return
		}
		r := w.pausing(t, pause)
		for range 100 {
			if _, err := r.Reconcile(t.Context(), ctrl.Request{NamespacedName: key}); err != nil || ended {
				if !ended {
					t.Errorf("%s: %v", kr.Name, err)
				}
				return
			}
			pause()
		}
	})
	return &coroutine{next, stop}
}

// pausing returns an operator that pauses. After each of its writes it checks that the turn of two
// rotations is not certain.
func (w *world) pausing(t *testing.T, pause func()) *Reconciler {
	r := w.reconciler(events.NewFakeRecorder(100))
	own, ok := r.Client.(client.WithWatch)
	if !ok {
		t.Error("the operator's client cannot be wrapped")
		return r
	}
	r.Live = interceptor.NewClient(w.APIServer, interceptor.Funcs{
		List: func(ctx context.Context, c client.WithWatch, list client.ObjectList, opts ...client.ListOption) error {
			pause()
			return c.List(ctx, list, opts...)
		},
	})
	r.Client = interceptor.NewClient(own, interceptor.Funcs{
		SubResourcePatch: func(ctx context.Context, c client.Client, sub string, object client.Object, p client.Patch, opts ...client.SubResourcePatchOption) error {
			pause()
			err := c.SubResource(sub).Patch(ctx, object, p, opts...)
			w.oneTurn(t)
			return err
		},
	})
	return r
}

// oneTurn reports whether the turn of one rotation is certain, and the others wait or have failed
// as superseded.
func (w *world) oneTurn(t *testing.T) bool {
	list := &v1alpha1.KeyRotationList{}
	if err := w.List(t.Context(), list); err != nil {
		t.Error(err)
	}
	certain, open := 0, 0
	for _, kr := range list.Items {
		failed := meta.FindStatusCondition(kr.Status.Conditions, v1alpha1.ConditionFailed)
		switch {
		case failed != nil && failed.Reason != config.ReasonSuperseded && !rotations.RetryRequested(&kr):
			t.Errorf("%s has failed: %s", kr.Name, failed.Message)
		case rotations.Ended(&kr):
		case rotations.TurnCertain(&kr):
			certain++
		case rotations.Started(&kr):
			open++
		}
	}
	if certain > 1 {
		t.Errorf("%d are certain of their turn", certain)
	}
	return certain == 1 && open == 0
}

// TestVersionMadeMeanwhile: a rotation does not record fromVersion from a stale read, if another
// one has added a newer version since and ended.
func TestVersionMadeMeanwhile(t *testing.T) {
	t.Parallel()
	w := newWorld(t, &crashtest.Crash{}, rotation("urgent", owned, guarded, urgent))
	r := w.reconciler(events.NewFakeRecorder(100))
	kr := w.rotation(t, "urgent")
	if err := r.start(t.Context(), kr); err != nil {
		t.Fatal(err)
	}
	o, err := r.observe(t.Context(), kr)
	if err != nil {
		t.Fatal(err)
	}
	if d := decide(o); d.action != "RecordFrom" {
		t.Fatalf("the next step is %s", d.action)
	}
	w.vault.state.Latest++
	other := rotation("other", owned, guarded, from(w.vault.state.Latest-1), to(w.vault.state.Latest))
	setFailed(other, &other.Status, decision{Verdict: steps.Fail, Reason: config.ReasonSuperseded, Message: "by urgent", Final: true}, time.Unix(1000, 0))
	if err := w.Create(t.Context(), other.DeepCopy()); err != nil {
		t.Fatal(err)
	}
	created := w.rotation(t, "other")
	created.Status = other.Status
	if err := w.Status().Update(t.Context(), created); err != nil {
		t.Fatal(err)
	}
	if err := recordCertainTurn(t.Context(), r, o); !stalecache.Is(err) {
		t.Errorf("error %v, want a stale cache", err)
	}
	if recorded := w.rotation(t, "urgent").Status.FromVersion; recorded != nil {
		t.Errorf("it begins with version %d", *recorded)
	}
}
