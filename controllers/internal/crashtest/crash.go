// Package crashtest kills an operator at any of its writes, for tests. A [Story] is played once to
// count the writes. It is then played with an operator that dies before, and with one that dies
// after, each write, and must end the same. An [APIServer] stands in for Kubernetes; a [Crash]
// counts the writes and strikes.
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

// ErrCrash is returned for the write that an operator dies at and for every later one.
var ErrCrash = errors.New("crash")

// Crash counts the operator's writes, to Kubernetes and to Vault, and kills it at one of them.
type Crash struct {
	// At is the number of the write that is struck; the first is 1. With 0 none is.
	At int
	// After has the struck write go through, so that only its answer is lost.
	After bool
	// Count is the number of writes so far.
	Count int

	dead bool
}

// Around does a write unless the operator is dead or dies before it. It returns the write's error
// or [ErrCrash].
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

// Restart lets another operator take over.
func (c *Crash) Restart() { c.dead = false }

// Interceptor adds what a fake client lacks: created objects get a UID and a creation time, and a
// deletion must name the object's UID. Reads return what the operator's cache keeps. Every write
// goes through [Crash.Around].
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
