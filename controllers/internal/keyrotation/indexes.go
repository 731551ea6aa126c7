package keyrotation

import (
	"context"

	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/securenotes/securenotes/api/v1alpha1"
)

// The indexes of the cached KeyRotations: by their SecureNotes, and of these the ones that a
// reconciler still has to do with. There may be many that have ended: the operator deletes none
// that a person created.
const (
	parentIndex = "spec.secureNotesRef.name"
	openIndex   = "open"
)

// Indexes are what the cache that is handed to [List] and [Reconciler] needs.
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

// isOpen reports whether a rotation has not ended, or has yet to let its object go or to report a
// retirement.
func isOpen(kr *v1alpha1.KeyRotation) bool {
	return !Ended(kr) || hasFinalizer(kr) || awaitsRetirement(kr)
}

// List returns the rotations of a SecureNotes from the cache. They are the cache's own, not copies,
// and must not be changed.
func List(ctx context.Context, cache client.Reader, namespace, parent string) ([]v1alpha1.KeyRotation, error) {
	return listBy(ctx, cache, parentIndex, namespace, parent)
}

// listOpen returns those of them that are open.
func listOpen(ctx context.Context, cache client.Reader, namespace, parent string) ([]v1alpha1.KeyRotation, error) {
	return listBy(ctx, cache, openIndex, namespace, parent)
}

func listBy(ctx context.Context, cache client.Reader, index, namespace, parent string) ([]v1alpha1.KeyRotation, error) {
	list := &v1alpha1.KeyRotationList{}
	err := cache.List(ctx, list, client.InNamespace(namespace), client.MatchingFields{index: parent}, client.UnsafeDisableDeepCopy)
	return list.Items, err
}
