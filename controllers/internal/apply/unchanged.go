package apply

import (
	"context"
	"fmt"
	"reflect"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

// applied identifies the state of a child that has its intent.
type applied struct {
	uid, resourceVersion, fingerprint string
	generation                        int64
}

func appliedOf(object client.Object, fingerprint string) applied {
	return applied{string(object.GetUID()), object.GetResourceVersion(), fingerprint, object.GetGeneration()}
}

// unchanged reports whether applying intent would change nothing. Writes of others change an
// object's resourceVersion too. If it changed, unchanged compares the generation, which counts
// changes of the spec, and the cached metadata. If these differ, it reads the whole object past the
// cache into existing, and compares it.
func (a *Applier) unchanged(ctx context.Context, id childID, intent *unstructured.Unstructured, existing client.Object, fingerprint string) (bool, error) {
	now, last := appliedOf(existing, fingerprint), a.last(id)
	switch {
	case last.uid != now.uid || last.fingerprint != fingerprint:
		return false, nil
	case last.resourceVersion == now.resourceVersion:
		return true, nil
	case now.generation > 0 && now.generation == last.generation && hasMetadata(existing, intent):
		a.remember(id, existing, fingerprint)
		return true, nil
	}
	whole := &unstructured.Unstructured{}
	whole.SetGroupVersionKind(intent.GroupVersionKind())
	if err := a.live.Get(ctx, client.ObjectKeyFromObject(existing), whole); err != nil {
		return false, client.IgnoreNotFound(err)
	}
	if string(whole.GetUID()) != now.uid || whole.GetDeletionTimestamp() != nil || !holds(whole.Object, intent.Object) {
		return false, nil
	}
	if err := runtime.DefaultUnstructuredConverter.FromUnstructured(whole.Object, existing); err != nil {
		return false, fmt.Errorf("read %s: %w", id, err)
	}
	a.remember(id, existing, fingerprint)
	return true, nil
}

// hasMetadata reports whether a cached object has the labels, annotations and owners of intent.
func hasMetadata(existing client.Object, intent *unstructured.Unstructured) bool {
	has := func(have, want map[string]string) bool {
		for key, value := range want {
			if got, ok := have[key]; !ok || got != value {
				return false
			}
		}
		return true
	}
	owners := existing.GetOwnerReferences()
	for _, want := range intent.GetOwnerReferences() {
		found := false
		for _, owner := range owners {
			found = found || owner.UID == want.UID
		}
		if !found {
			return false
		}
	}
	return has(existing.GetLabels(), intent.GetLabels()) && has(existing.GetAnnotations(), intent.GetAnnotations())
}

// holds reports whether whole contains intent. A map may contain more: the fields of others and of
// the API server. A list may not, because an additional element may be drift.
func holds(whole, intent any) bool {
	switch intent := intent.(type) {
	case map[string]any:
		have, ok := whole.(map[string]any)
		if !ok {
			return whole == nil && len(intent) == 0
		}
		for key, want := range intent {
			if !holds(have[key], want) {
				return false
			}
		}
		return true
	case []any:
		have, ok := whole.([]any)
		if !ok {
			return whole == nil && len(intent) == 0
		}
		if len(have) != len(intent) {
			return false
		}
		for i, want := range intent {
			if !holds(have[i], want) {
				return false
			}
		}
		return true
	default:
		return reflect.DeepEqual(whole, intent)
	}
}

func (a *Applier) last(id childID) applied {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.applied[id.group][id.child]
}

func (a *Applier) remember(id childID, existing client.Object, fingerprint string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.applied[id.group] == nil {
		a.applied[id.group] = map[string]applied{}
	}
	a.applied[id.group][id.child] = appliedOf(existing, fingerprint)
}
