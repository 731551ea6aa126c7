// Package fairqueue has the namespaces take turns in a controller's work queue, so that one with
// very many objects, or events, does not delay those of others.
package fairqueue

import (
	"k8s.io/client-go/util/workqueue"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"
)

// New is the NewQueue of a controller's options.
func New(name string, limiter workqueue.TypedRateLimiter[reconcile.Request]) workqueue.TypedRateLimitingInterface[reconcile.Request] {
	queue := workqueue.NewTypedWithConfig(workqueue.TypedQueueConfig[reconcile.Request]{Name: name, Queue: &turns{waiting: map[string][]reconcile.Request{}}})
	return workqueue.NewTypedRateLimitingQueueWithConfig(limiter, workqueue.TypedRateLimitingQueueConfig[reconcile.Request]{
		Name: name,
		DelayingQueue: workqueue.NewTypedDelayingQueueWithConfig(workqueue.TypedDelayingQueueConfig[reconcile.Request]{
			Name: name, Queue: queue,
		}),
	})
}

// turns keeps the requests of each namespace in their order, and the namespaces in the order of
// their turns. The work queue calls it under its own lock, and pushes no request twice.
type turns struct {
	waiting map[string][]reconcile.Request
	// order holds the namespaces that have requests, the next one first.
	order  []string
	length int
}

// Touch implements workqueue.Queue: a request that is added again keeps its place.
func (*turns) Touch(reconcile.Request) {}

// Push implements workqueue.Queue.
func (t *turns) Push(request reconcile.Request) {
	if len(t.waiting[request.Namespace]) == 0 {
		t.order = append(t.order, request.Namespace)
	}
	t.waiting[request.Namespace] = append(t.waiting[request.Namespace], request)
	t.length++
}

// Len implements workqueue.Queue.
func (t *turns) Len() int { return t.length }

// Pop implements workqueue.Queue.
func (t *turns) Pop() reconcile.Request {
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
