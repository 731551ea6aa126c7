// Package fairqueue is a work queue that serves namespaces in round-robin order, so that a
// namespace with many objects or events does not delay the others.
package fairqueue

import (
	"k8s.io/client-go/util/workqueue"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"
)

// New returns a queue for NewQueue of a controller's options.
func New(name string, limiter workqueue.TypedRateLimiter[reconcile.Request]) workqueue.TypedRateLimitingInterface[reconcile.Request] {
	queue := workqueue.NewTypedWithConfig(workqueue.TypedQueueConfig[reconcile.Request]{Name: name, Queue: &roundRobin{waiting: map[string][]reconcile.Request{}}})
	return workqueue.NewTypedRateLimitingQueueWithConfig(limiter, workqueue.TypedRateLimitingQueueConfig[reconcile.Request]{
		Name: name,
		DelayingQueue: workqueue.NewTypedDelayingQueueWithConfig(workqueue.TypedDelayingQueueConfig[reconcile.Request]{
			Name: name, Queue: queue,
		}),
	})
}

// roundRobin holds the requests of each namespace in their order. The work queue calls it under its
// own lock, and pushes no request twice.
type roundRobin struct {
	waiting map[string][]reconcile.Request
	// order holds the namespaces that have requests, the next one first.
	order  []string
	length int
}

// Touch implements workqueue.Queue. A request that is added again keeps its place.
func (*roundRobin) Touch(reconcile.Request) {}

// Push implements workqueue.Queue.
func (t *roundRobin) Push(request reconcile.Request) {
	if len(t.waiting[request.Namespace]) == 0 {
		t.order = append(t.order, request.Namespace)
	}
	t.waiting[request.Namespace] = append(t.waiting[request.Namespace], request)
	t.length++
}

// Len implements workqueue.Queue.
func (t *roundRobin) Len() int { return t.length }

// Pop implements workqueue.Queue.
func (t *roundRobin) Pop() reconcile.Request {
	namespace := t.order[0]
	request, left := t.waiting[namespace][0], t.waiting[namespace][1:]
	t.order, t.length = t.order[1:], t.length-1
	if len(left) == 0 {
		delete(t.waiting, namespace)
		return request
	}
	t.waiting[namespace], t.order = left, append(t.order, namespace)
	return request
}
