package steps

import (
	"context"

	"k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/securenotes/securenotes/api/v1alpha1"
	"github.com/securenotes/securenotes/controllers/internal/stalecache"
)

// object is a pointer to the type T of an object.
type object[T any] interface {
	*T
	client.Object
}

// PatchStatus writes what change does to the status of o, if anything, guarded by the
// resourceVersion. If it fails, o is as before. Events are emitted only after it has succeeded: a
// step whose status was not written is taken again.
func PatchStatus[T any, P object[T]](ctx context.Context, writer client.Client, o P, change func()) error {
	before := o.DeepCopyObject().(P)
	change()
	if equality.Semantic.DeepEqual(before, o) {
		return nil
	}
	err := writer.Status().Patch(ctx, o, client.MergeFromWithOptions(before, client.MergeFromWithOptimisticLock{}))
	if err != nil {
		*o = *before
	}
	return err
}

// PatchMetadata writes what change does to the metadata of o, guarded by the resourceVersion. It
// reads the object past the cache, which does not have the finalizers and owner references of
// others; a merge patch made without them would remove them. kind is that of o.
func PatchMetadata[T any, P object[T]](ctx context.Context, writer client.Writer, live client.Reader, kind string, o P, change func() error) error {
	current := P(new(T))
	err := live.Get(ctx, client.ObjectKeyFromObject(o), current)
	if apierrors.IsNotFound(err) {
		return change() // the object is gone
	}
	if err != nil {
		return err
	}
	if current.GetUID() != o.GetUID() || current.GetResourceVersion() != o.GetResourceVersion() {
		return stalecache.New(kind, o.GetName(), "it has changed since it was read")
	}
	*o = *current
	before := o.DeepCopyObject().(P)
	if err := change(); err != nil {
		return err
	}
	if equality.Semantic.DeepEqual(before, o) {
		return nil
	}
	// Removing the last finalizer deletes the object.
	return client.IgnoreNotFound(writer.Patch(ctx, o, client.MergeFromWithOptions(before, client.MergeFromWithOptimisticLock{})))
}

// ReasonOf returns why an operation of this state and these conditions waits or has failed; empty
// where its state says that.
func ReasonOf(state string, conditions []metav1.Condition) string {
	for _, kind := range []string{v1alpha1.ConditionFailed, v1alpha1.ConditionReconciling} {
		if c := meta.FindStatusCondition(conditions, kind); c != nil && c.Status == metav1.ConditionTrue && c.Reason != state {
			return c.Reason
		}
	}
	return ""
}
