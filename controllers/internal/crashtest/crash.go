// Package crashtest crashes an operator at each of its writes, for tests. A [Story] runs once to
// count the writes. It then runs with a crash before each write, and with a crash after each write.
// All runs must end in the same state. [APIServer] replaces Kubernetes; [Crash] counts the writes
// and injects the crash.
package crashtest

import (
	"context"
	"errors"
	"fmt"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/interceptor"

	"github.com/securenotes/securenotes/controllers/internal/slim"
)

// ErrCrash is the error of the write at which the operator crashes, and of every later one.
var ErrCrash = errors.New("crash")

// Crash counts the operator's writes to Kubernetes and to Vault, and injects a crash at one of
// them.
type Crash struct {
	// At is the number of the write at which the operator crashes. The first is 1; 0 means no
	// crash.
	At int
	// After lets that write succeed, so that only its response is lost.
	After bool
	// Count is the number of writes so far.
	Count int

	crashed bool
}

// Around does a write unless the operator has crashed or crashes before it. It returns the error of
// the write, or [ErrCrash].
func (c *Crash) Around(write func() error) error {
	if c.crashed {
		return ErrCrash
	}
	c.Count++
	if c.Count != c.At {
		return write()
	}
	c.crashed = true
	if c.After {
		if err := write(); err != nil {
			return err
		}
	}
	return ErrCrash
}

// Restart starts another operator.
func (c *Crash) Restart() { c.crashed = false }

// Interceptor returns functions for a fake client. Created objects get a UID and a creation time. A
// deletion must name the UID of the object. Reads return what the operator's cache holds. Every
// write passes [Crash.Around].
func (c *Crash) Interceptor(now func() time.Time) interceptor.Funcs {
	return interceptor.Funcs{
		Get: func(ctx context.Context, w client.WithWatch, key client.ObjectKey, o client.Object, opts ...client.GetOption) error {
			if err := w.Get(ctx, key, o, opts...); err != nil {
				return err
			}
			_, err := slim.Transform(o)
			return err
		},
		List: func(ctx context.Context, w client.WithWatch, list client.ObjectList, opts ...client.ListOption) error {
			if err := w.List(ctx, list, opts...); err != nil {
				return err
			}
			return meta.EachListItem(list, func(o runtime.Object) error {
				_, err := slim.Transform(o)
				return err
			})
		},
		Create: func(ctx context.Context, w client.WithWatch, o client.Object, opts ...client.CreateOption) error {
			return c.Around(func() error {
				if o.GetUID() == "" {
					o.SetUID(types.UID(fmt.Sprintf("made-%d", c.Count)))
				}
				o.SetCreationTimestamp(metav1.NewTime(now()))
				return w.Create(ctx, o, opts...)
			})
		},
		Delete: func(ctx context.Context, w client.WithWatch, o client.Object, opts ...client.DeleteOption) error {
			return c.Around(func() error {
				options := (&client.DeleteOptions{}).ApplyOptions(opts)
				existing := o.DeepCopyObject().(client.Object)
				if err := w.Get(ctx, client.ObjectKeyFromObject(o), existing); err != nil {
					return err
				}
				if options.Preconditions == nil || *options.Preconditions.UID != existing.GetUID() {
					return apierrors.NewConflict(schema.GroupResource{}, o.GetName(), errors.New("it has another UID"))
				}
				return w.Delete(ctx, o)
			})
		},
		Patch: func(ctx context.Context, w client.WithWatch, o client.Object, p client.Patch, opts ...client.PatchOption) error {
			return c.Around(func() error { return w.Patch(ctx, o, p, opts...) })
		},
		SubResourcePatch: func(ctx context.Context, w client.Client, sub string, o client.Object, p client.Patch, opts ...client.SubResourcePatchOption) error {
			return c.Around(func() error { return w.SubResource(sub).Patch(ctx, o, p, opts...) })
		},
	}
}
