// Package crashtest kills an operator at any of its writes, for tests. A test lets a story run once and counts the writes,
// then tells it once for each of them with an operator that dies there, and holds all to the same end.
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

// ErrCrash is what an operator sees of its own death: nothing after it happens.
var ErrCrash = errors.New("crash")

// Crash counts everything that the operator changes, in Kubernetes and in Vault, and strikes at one.
type Crash struct {
	// At is the write that is struck, from 1; 0: none.
	At int
	// After says that the struck write goes through and only its answer is lost.
	After bool
	// Count of the writes so far.
	Count int

	dead bool
}

// Around does a write unless the operator dies before it, or is dead. Errors: that of the write, or ErrCrash.
func (c *Crash) Around(write func() error) error {
	if c.dead {
		return ErrCrash
	}
	c.Count++
	if c.Count != c.At {
		return write()
	}
	c.dead = true
	if c.After {
		if err := write(); err != nil {
			return err
		}
	}
	return ErrCrash
}

// Restart has another operator take over.
func (c *Crash) Restart() { c.dead = false }

// Interceptor does to the fake client what the API server does and that does not: objects have a
// UID and a time of creation, and are deleted only with the UID that is asked for, which the
// operator must always say. Reads return what the operator's cache keeps. And it strikes.
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
					return apierrors.NewConflict(schema.GroupResource{}, o.GetName(), errors.New("its UID is another"))
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
