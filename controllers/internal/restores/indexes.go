package restores

import (
	"context"

	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/securenotes/securenotes/api/v1alpha1"
)

// openIndex indexes the cached NotesRestores that have not ended by their SecureNotes. Many may
// have ended: the operator deletes none.
const openIndex = "open"

// Indexes are the indexes of the cache that [ListOpen] needs.
var Indexes = map[string]client.IndexerFunc{
	openIndex: func(object client.Object) []string {
		nr, ok := object.(*v1alpha1.NotesRestore)
		if !ok || Ended(nr) {
			return nil
		}
		return []string{nr.Spec.SecureNotesRef.Name}
	},
}

// ListOpen returns the restores of a SecureNotes that have not ended from the cache. They are the
// cache's own objects and must not be changed.
func ListOpen(ctx context.Context, cache client.Reader, namespace, parent string) ([]v1alpha1.NotesRestore, error) {
	list := &v1alpha1.NotesRestoreList{}
	err := cache.List(ctx, list, client.InNamespace(namespace), client.MatchingFields{openIndex: parent}, client.UnsafeDisableDeepCopy)
	return list.Items, err
}
