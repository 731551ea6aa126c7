package rotations

import (
	"context"

	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/securenotes/securenotes/api/v1alpha1"
)

// The cached KeyRotations are indexed by their SecureNotes, all of them and those that are open.
// Many may have ended: the operator deletes none that a person created.
const (
	parentIndex = "spec.secureNotesRef.name"
	openIndex   = "open"
)

// Indexes are the indexes of the cache that [List] and [ListOpen] need.
var Indexes = map[string]client.IndexerFunc{
	parentIndex: func(object client.Object) []string {
		kr, ok := object.(*v1alpha1.KeyRotation)
		if !ok {
			return nil
		}
		return []string{kr.Spec.SecureNotesRef.Name}
	},
	openIndex: func(object client.Object) []string {
		kr, ok := object.(*v1alpha1.KeyRotation)
		if !ok || !isOpen(kr) {
			return nil
		}
		return []string{kr.Spec.SecureNotesRef.Name}
	},
}

// isOpen reports whether a reconciler still has something to do for a rotation: it has not ended,
// has the finalizer, or has yet to record a retirement.
func isOpen(kr *v1alpha1.KeyRotation) bool {
	return !Ended(kr) || HasFinalizer(kr) || AwaitsRetirement(kr)
}

// List returns the rotations of a SecureNotes from the cache. They are the cache's own objects and
// must not be changed.
func List(ctx context.Context, cache client.Reader, namespace, parent string) ([]v1alpha1.KeyRotation, error) {
	return listBy(ctx, cache, parentIndex, namespace, parent)
}

// ListOpen is as [List], but returns only the rotations that a reconciler still has something to do
// for.
func ListOpen(ctx context.Context, cache client.Reader, namespace, parent string) ([]v1alpha1.KeyRotation, error) {
	return listBy(ctx, cache, openIndex, namespace, parent)
}

func listBy(ctx context.Context, cache client.Reader, index, namespace, parent string) ([]v1alpha1.KeyRotation, error) {
	list := &v1alpha1.KeyRotationList{}
	err := cache.List(ctx, list, client.InNamespace(namespace), client.MatchingFields{index: parent}, client.UnsafeDisableDeepCopy)
	return list.Items, err
}
