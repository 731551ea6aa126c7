package stalecache

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/runtime/schema"
)

func TestIs(t *testing.T) {
	t.Parallel()
	conflict := apierrors.NewConflict(schema.GroupResource{}, "first", errors.New("the object has been modified"))
	stale := New("KeyRotation", "first", "its status has changed")
	for name, tc := range map[string]struct {
		err  error
		want bool
	}{
		"no error":                {err: nil, want: false},
		"another error":           {err: errors.New("refused"), want: false},
		"a stale cache":           {err: stale, want: true},
		"a stale cache, wrapped":  {err: fmt.Errorf("create the Job: %w", stale), want: true},
		"a stale cache, joined":   {err: errors.Join(errors.New("refused"), stale), want: true},
		"a conflict":              {err: conflict, want: true},
		"a conflict, wrapped":     {err: fmt.Errorf("patch: %w", conflict), want: true},
		"an object that is gone":  {err: apierrors.NewNotFound(schema.GroupResource{}, "first"), want: false},
		"an object that is there": {err: apierrors.NewAlreadyExists(schema.GroupResource{}, "first"), want: false},
	} {
		t.Run(name, func(t *testing.T) {
			if got := Is(tc.err); got != tc.want {
				t.Errorf("got %v, want %v", got, tc.want)
			}
		})
	}
	if text := stale.Error(); !strings.Contains(text, "KeyRotation first") || !strings.Contains(text, "its status has changed") {
		t.Errorf("got %q, want the object and the reason", text)
	}
}
