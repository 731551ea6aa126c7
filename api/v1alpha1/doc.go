// Package v1alpha1 holds the kinds of the group securenotes.dev: SecureNotes, a notes service with
// its master key in Vault, and KeyRotation, one rotation of that key.
//
// The tenant writes these objects; nothing in them can send a token elsewhere, run other code with
// the service's rights, or reach another namespace. Every list and string is bounded, because these
// objects come from people whom the operator does not trust. A default is not written into a spec:
// an unset field follows the operator's version. Replicas are the exception, for autoscalers.
//
// +kubebuilder:object:generate=true
// +groupName=securenotes.dev
package v1alpha1

import (
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
)

// GroupVersion is of every kind of this package.
var GroupVersion = schema.GroupVersion{Group: "securenotes.dev", Version: "v1alpha1"}

// AddToScheme registers the kinds.
func AddToScheme(s *runtime.Scheme) error {
	s.AddKnownTypes(GroupVersion, &SecureNotes{}, &SecureNotesList{}, &KeyRotation{}, &KeyRotationList{})
	metav1.AddToGroupVersion(s, GroupVersion)
	return nil
}
