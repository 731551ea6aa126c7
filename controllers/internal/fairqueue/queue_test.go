package fairqueue

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/util/workqueue"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"
)

func request(namespace string, n int) reconcile.Request {
	return reconcile.Request{NamespacedName: types.NamespacedName{Namespace: namespace, Name: fmt.Sprint(n)}}
}

// TestNamespacesTakeTurns: a request waits for at most one of another namespace, however many that
// one has queued. Those of one namespace keep their order.
func TestNamespacesTakeTurns(t *testing.T) {
	t.Parallel()
	queue := New("", workqueue.NewTypedItemExponentialFailureRateLimiter[reconcile.Request](time.Second, time.Minute))
	defer queue.ShutDown()
	for n := range 10_000 {
		queue.Add(request("busy", n))
	}
	for n := range 3 {
		queue.Add(request("calm", n))
		queue.Add(request("calm", n)) // an event more is not a turn more
	}
	queue.Add(request("other", 0))
	want := []reconcile.Request{
		request("busy", 0), request("calm", 0), request("other", 0), request("busy", 1), request("calm", 1), request("busy", 2), request("calm", 2), request("busy", 3), request("busy", 4),
	}
	var got []reconcile.Request
	for range want {
		next, _ := queue.Get()
		got = append(got, next)
		queue.Done(next)
	}
	if !slices.Equal(want, got) {
		t.Errorf("want %v, got %v", want, got)
	}
	if queue.Len() != 10_004-len(want) {
		t.Errorf("%d are left", queue.Len())
	}
}

// TestLateRequestsTakeTurns: delayed requests are ordered by when they arrive, not by when they
// were added.
func TestLateRequestsTakeTurns(t *testing.T) {
	t.Parallel()
	queue := New("", workqueue.NewTypedItemExponentialFailureRateLimiter[reconcile.Request](time.Millisecond, time.Millisecond))
	defer queue.ShutDown()
	for n := range 100 {
		queue.AddRateLimited(request("busy", n))
	}
	for deadline := time.Now().Add(30 * time.Second); queue.Len() < 100; {
		if time.Now().After(deadline) {
			t.Fatalf("%d of 100 have come", queue.Len())
		}
		time.Sleep(time.Millisecond)
	}
	queue.Add(request("calm", 0))
	first, _ := queue.Get()
	second, _ := queue.Get()
	if first.Namespace != "busy" || second.Namespace != "calm" {
		t.Errorf("got %v and then %v, want one of busy and then one of calm", first, second)
	}
}
