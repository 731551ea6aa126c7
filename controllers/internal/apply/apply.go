// Package apply writes the operator's child objects with server-side apply. It uses one field
// manager and leaves the fields of other managers unchanged. It sends no request if nothing would
// change. It refuses to change an object of another owner. A child that was restored from a backup
// without its owner reference belongs to the operator; see restored.go. Start reading at
// [Applier.Apply].
package apply

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"sync"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/apiutil"
	"sigs.k8s.io/controller-runtime/pkg/log"
)

// FieldManager is the operator's field manager.
const FieldManager = "securenotes-operator"

// instanceLabel names the SecureNotes of a child. On a child without owner reference, ownerLabel
// does.
const (
	instanceLabel = "app.kubernetes.io/instance"
	ownerLabel    = "securenotes.dev/instance"
)

// ConflictError reports that another object has the name of a child.
type ConflictError struct {
	Kind, Name string
	// Owner describes the owner of the object. It is empty if the object has no owner.
	Owner string
}

func (e *ConflictError) Error() string {
	return fmt.Sprintf("%s: delete it or recreate it under another name, or create the SecureNotes under another name", e.Fact())
}

// Fact names the object without the next step.
func (e *ConflictError) Fact() string {
	if e.Owner == "" {
		return fmt.Sprintf("%s %s already exists and has no owner", e.Kind, e.Name)
	}
	return fmt.Sprintf("%s %s already exists and belongs to %s", e.Kind, e.Name, e.Owner)
}

// Applier applies objects. It remembers what it applied, so that an unchanged intent for an
// unchanged object causes no request.
type Applier struct {
	client client.Client
	// live reads past the cache, which holds only objects with the operator's labels.
	live client.Reader

	mu sync.Mutex
	// applied holds the last applied state by instance and child.
	applied map[string]map[string]applied
}

// New returns an Applier.
func New(c client.Client, live client.Reader) *Applier {
	return &Applier{client: c, live: live, applied: map[string]map[string]applied{}}
}

// Owned reports whether the operator may change an existing object, and else describes its owner.
type Owned func(existing client.Object) (owned bool, owner string)

// ControlledBy returns an Owned that accepts only objects whose controller is owner.
func ControlledBy(owner client.Object) Owned {
	return func(existing client.Object) (bool, string) {
		controller := metav1.GetControllerOf(existing)
		switch {
		case controller == nil:
			return false, ""
		case controller.UID == owner.GetUID():
			return true, ""
		default:
			return false, controller.Kind + " " + controller.Name
		}
	}
}

// Apply creates or updates desired, a typed object, and logs a change. existing receives the
// resulting object; it is nil if only the metadata of the kind is cached. Errors: [ConflictError]
// if an object of that name has another owner; those of the API server.
func (a *Applier) Apply(ctx context.Context, desired, existing client.Object, owned Owned) error {
	intent, err := a.intent(desired)
	if err != nil {
		return err
	}
	if existing == nil {
		metadata := &metav1.PartialObjectMetadata{}
		metadata.SetGroupVersionKind(intent.GroupVersionKind())
		existing = metadata
	}
	labels := intent.GetLabels()
	id := childID{group(intent.GetNamespace(), cmp.Or(labels[ownerLabel], labels[instanceLabel])), intent.GetKind() + "/" + intent.GetName()}
	fingerprint, err := hash(intent)
	if err != nil {
		return fmt.Errorf("%s: %w", id, err)
	}
	key := client.ObjectKeyFromObject(desired)
	err = a.client.Get(ctx, key, existing)
	if apierrors.IsNotFound(err) {
		err = a.live.Get(ctx, key, existing)
	}
	operation, before := "changed", ""
	switch {
	case apierrors.IsNotFound(err):
		operation = "created"
	case err != nil:
		return fmt.Errorf("get %s: %w", id, err)
	default:
		if err := a.own(ctx, desired, existing, owned, id); err != nil {
			return err
		}
		if existing.GetDeletionTimestamp() == nil {
			if same, err := a.unchanged(ctx, id, intent, existing, fingerprint); err != nil || same {
				return err
			}
		}
		before = existing.GetResourceVersion()
	}
	if err := a.client.Apply(ctx, client.ApplyConfigurationFromUnstructured(intent),
		client.FieldOwner(FieldManager), client.ForceOwnership); err != nil {
		return fmt.Errorf("%s %s cannot be %s: %w", intent.GetKind(), intent.GetName(), operation, err)
	}
	if err := runtime.DefaultUnstructuredConverter.FromUnstructured(intent.Object, existing); err != nil {
		return fmt.Errorf("read back %s: %w", id, err)
	}
	if existing.GetResourceVersion() != before {
		log.FromContext(ctx).Info("applied an object", "kind", intent.GetKind(), "object", key, "operation", operation,
			"resourceVersion", existing.GetResourceVersion())
	}
	a.remember(id, existing, fingerprint)
	return nil
}

// own checks that the operator may change existing, and adopts a restored child.
func (a *Applier) own(ctx context.Context, desired, existing client.Object, owned Owned, id childID) error {
	ok, owner := owned(existing)
	if !ok && restored(existing, desired) {
		var err error
		if ok, owner, err = a.adopt(ctx, desired, existing, owned); err != nil {
			return fmt.Errorf("adopt %s: %w", id, err)
		}
	}
	if !ok {
		kind, err := apiutil.GVKForObject(desired, a.client.Scheme())
		if err != nil {
			return fmt.Errorf("kind of %T: %w", desired, err)
		}
		return &ConflictError{Kind: kind.Kind, Name: desired.GetName(), Owner: owner}
	}
	return nil
}

// Forget drops what is remembered of the children of a deleted instance.
func (a *Applier) Forget(namespace, instance string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	delete(a.applied, group(namespace, instance))
}

// childID identifies a child by its instance, and by its kind and name.
type childID struct{ group, child string }

func (id childID) String() string { return id.group + "/" + id.child }

func group(namespace, instance string) string { return namespace + "/" + instance }

func (a *Applier) intent(desired client.Object) (*unstructured.Unstructured, error) {
	gvk, err := apiutil.GVKForObject(desired, a.client.Scheme())
	if err != nil {
		return nil, fmt.Errorf("kind of %T: %w", desired, err)
	}
	object, err := runtime.DefaultUnstructuredConverter.ToUnstructured(desired)
	if err != nil {
		return nil, fmt.Errorf("%s %s: %w", gvk.Kind, desired.GetName(), err)
	}
	intent := &unstructured.Unstructured{Object: object}
	intent.SetGroupVersionKind(gvk)
	// The status, which the server writes, is not part of an intent.
	unstructured.RemoveNestedField(intent.Object, "status")
	prune(intent.Object)
	return intent, nil
}

// prune removes the null values of Go types without omitempty, such as creationTimestamp. The
// operator would own these fields if it applied them.
func prune(object map[string]any) {
	for key, value := range object {
		switch value := value.(type) {
		case nil:
			delete(object, key)
		case map[string]any:
			prune(value)
		case []any:
			for _, item := range value {
				if m, ok := item.(map[string]any); ok {
					prune(m)
				}
			}
		}
	}
}

func hash(intent *unstructured.Unstructured) (string, error) {
	raw, err := json.Marshal(intent.Object)
	if err != nil {
		return "", err
	}
	sum := sha256.Sum256(raw)
	return hex.EncodeToString(sum[:]), nil
}
