package backups

import (
	"context"

	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/securenotes/securenotes/api/v1alpha1"
)

// The cached NotesBackups are indexed by their SecureNotes, all of them and those that are open.
// Many may have ended: the operator deletes none that a person created.
const (
	parentIndex = "spec.secureNotesRef.name"
	openIndex   = "open"
)

// Indexes are the indexes of the cache that [List] and [ListOpen] need.
var Indexes = map[string]client.IndexerFunc{
	parentIndex: func(object client.Object) []string {
		nb, ok := object.(*v1alpha1.NotesBackup)
		if !ok {
			return nil
		}
		return []string{nb.Spec.SecureNotesRef.Name}
	},
	openIndex: func(object client.Object) []string {
		nb, ok := object.(*v1alpha1.NotesBackup)
		if !ok || !Open(nb) {
			return nil
		}
		return []string{nb.Spec.SecureNotesRef.Name}
	},
}

// List returns the backups of a SecureNotes from the cache. They are the cache's own objects and
// must not be changed.
func List(ctx context.Context, cache client.Reader, namespace, parent string) ([]v1alpha1.NotesBackup, error) {
	return listBy(ctx, cache, parentIndex, namespace, parent)
}

// ListOpen is as [List], but returns only the backups that wait or run; see [Open].
func ListOpen(ctx context.Context, cache client.Reader, namespace, parent string) ([]v1alpha1.NotesBackup, error) {
	return listBy(ctx, cache, openIndex, namespace, parent)
}

func listBy(ctx context.Context, cache client.Reader, index, namespace, parent string) ([]v1alpha1.NotesBackup, error) {
	list := &v1alpha1.NotesBackupList{}
	err := cache.List(ctx, list, client.InNamespace(namespace), client.MatchingFields{index: parent}, client.UnsafeDisableDeepCopy)
	return list.Items, err
}
