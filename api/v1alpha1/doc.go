// Package v1alpha1 contains the kinds of the API group securenotes.dev: [SecureNotes], a notes
// service with its master key in Vault, [KeyRotation], one rotation of that key, [NotesBackup], one
// backup, and [NotesRestore], one restore of a backup.
//
// Tenants write these objects, and the operator does not trust tenants. No field can send a token
// elsewhere, run other code with the service's rights, or reach another namespace. Every list and
// string is bounded.
//
// Defaults are not written to the spec, so an unset field follows the version of the operator.
// spec.replicas is the exception, because autoscalers need a number there.
//
// +kubebuilder:object:generate=true
// +groupName=securenotes.dev
package v1alpha1

import (
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
)

// GroupVersion is the group and version of the kinds in this package.
var GroupVersion = schema.GroupVersion{Group: "securenotes.dev", Version: "v1alpha1"}

// AddToScheme registers the kinds with a scheme.
func AddToScheme(s *runtime.Scheme) error {
	s.AddKnownTypes(GroupVersion, &SecureNotes{}, &SecureNotesList{}, &KeyRotation{}, &KeyRotationList{}, &NotesBackup{}, &NotesBackupList{}, &NotesRestore{}, &NotesRestoreList{})
	metav1.AddToGroupVersion(s, GroupVersion)
	return nil
}
