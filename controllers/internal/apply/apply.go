// Package apply writes the operator's child objects with server-side apply: one field manager,
// fields that others own left alone, no request when nothing would change, and never a takeover of
// an object that is not ours. A child that a backup restored without its owner is ours; see
// restored.go.
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
)

// FieldManager is the one name that the operator writes under.
const FieldManager = "securenotes-operator"

// instanceLabel names the SecureNotes that a child belongs to; ownerLabel does on those that have
// no owner.
const (
	instanceLabel = "app.kubernetes.io/instance"
	ownerLabel    = "securenotes.dev/instance"
)

// ConflictError says that an object that we want to make already exists and is not ours.
type ConflictError struct {
	Kind, Name string
	// Owner describes whose it is; empty: it has no owner.
	Owner string
}

func (e *ConflictError) Error() string {
	return fmt.Sprintf("%s: rename or delete it, or give the SecureNotes another name", e.Fact())
}

// Fact says what is in the way, and not what to do about it.
func (e *ConflictError) Fact() string {
	if e.Owner == "" {
		return fmt.Sprintf("%s %s already exists and has no owner", e.Kind, e.Name)
	}
	return fmt.Sprintf("%s %s already exists and belongs to %s", e.Kind, e.Name, e.Owner)
}

// Applier applies objects and remembers what it applied, so that an unchanged intent on an unchanged
// object costs no request.
type Applier struct {
	client client.Client
	// live reads past the cache: the cache holds only objects with our labels, so what it does not
	// have may still exist.
	live client.Reader

	mu sync.Mutex
	// applied holds, by group and id, what was applied last.
	applied map[string]map[string]applied
}

// New makes an Applier.
func New(c client.Client, live client.Reader) *Applier {
	return &Applier{client: c, live: live, applied: map[string]map[string]applied{}}
}

// Owned says whether an existing object is ours to write to; when it is not, whose it is.
type Owned func(existing client.Object) (ours bool, owner string)

// ControlledBy accepts only objects whose controller is owner.
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

// Apply makes or updates desired, a typed object. existing receives the object as it is afterwards;
// nil if only its metadata is cached. Errors: ConflictError when an object of that name is not
// ours; whatever the API server says.
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
	write := "changed"
	switch {
	case apierrors.IsNotFound(err):
		write = "created"
	case err != nil:
		return fmt.Errorf("get %s: %w", id, err)
	default:
		ours, owner := owned(existing)
		if !ours && restored(existing, desired) {
			ours, owner, err = a.adopt(ctx, desired, existing, owned)
		}
		if err != nil {
			return fmt.Errorf("adopt %s: %w", id, err)
		}
		if !ours {
			return &ConflictError{Kind: intent.GetKind(), Name: intent.GetName(), Owner: owner}
		}
		if existing.GetDeletionTimestamp() == nil {
			if same, err := a.unchanged(ctx, id, intent, existing, fingerprint); err != nil || same {
				return err
			}
		}
	}
	if err := a.client.Apply(ctx, client.ApplyConfigurationFromUnstructured(intent),
		client.FieldOwner(FieldManager), client.ForceOwnership); err != nil {
		return fmt.Errorf("%s %s cannot be %s: %w", intent.GetKind(), intent.GetName(), write, err)
	}
	if err := runtime.DefaultUnstructuredConverter.FromUnstructured(intent.Object, existing); err != nil {
		return fmt.Errorf("read back %s: %w", id, err)
	}
	a.remember(id, existing, fingerprint)
	return nil
}

// Forget drops what is remembered of the children of an instance that is gone.
func (a *Applier) Forget(namespace, instance string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	delete(a.applied, group(namespace, instance))
}

// childID names a child: of which instance, and which.
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
	// What the server writes is not part of an intent.
	unstructured.RemoveNestedField(intent.Object, "status")
	prune(intent.Object)
	return intent, nil
}

// prune removes the zero values that Go types without omitempty leave behind, such as a
// creationTimestamp of null: to apply them would be to own them.
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
