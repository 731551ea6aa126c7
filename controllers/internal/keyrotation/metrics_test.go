package keyrotation

import (
	"context"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/securenotes/securenotes/api/v1alpha1"
	"github.com/securenotes/securenotes/controllers/internal/crashtest"
)

func series(registry *prometheus.Registry) []string {
	answer := httptest.NewRecorder()
	promhttp.HandlerFor(registry, promhttp.HandlerOpts{}).ServeHTTP(answer, httptest.NewRequest(http.MethodGet, "/metrics", nil))
	var lines []string
	for line := range strings.Lines(answer.Body.String()) {
		if !strings.HasPrefix(line, "#") {
			lines = append(lines, strings.TrimSpace(line))
		}
	}
	slices.Sort(lines)
	return lines
}

// TestMetrics: each SecureNotes that has been rotated has one series, of its newest rotation, as
// long as its objects exist and the process is the leader.
func TestMetrics(t *testing.T) {
	t.Parallel()
	began := func(namespace, parent string, second, conflicts int64) func(*v1alpha1.KeyRotation) {
		return func(kr *v1alpha1.KeyRotation) {
			kr.Namespace, kr.Spec.SecureNotesRef.Name = namespace, parent
			kr.UID = types.UID(namespace + kr.Name)
			kr.Status.StartTime = new(metav1.NewTime(time.Unix(second, 0)))
			kr.Status.Progress = &v1alpha1.RotationProgress{Conflicts: conflicts}
		}
	}
	objects := []client.Object{
		rotation("old", began("a", "notes", 100, 50)), rotation("new", began("a", "notes", 200, 7)), rotation("queued", func(kr *v1alpha1.KeyRotation) { kr.Namespace = "a" }),
		rotation("other", began("a", "diary", 100, 3)),
		rotation("new", began("b", "notes", 100, 0), func(kr *v1alpha1.KeyRotation) { kr.Status.Progress = nil }),
	}
	cache := crashtest.NewAPIServer(t, nil, objects...)
	registry := prometheus.NewRegistry()
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- exported(cache, registry)(ctx) }()
	for deadline := time.Now().Add(10 * time.Second); len(series(registry)) == 0 && time.Now().Before(deadline); {
		time.Sleep(time.Millisecond)
	}
	want := []string{
		`securenotes_rotation_conflicts_total{name="diary",namespace="a"} 3`,
		`securenotes_rotation_conflicts_total{name="notes",namespace="a"} 7`,
		`securenotes_rotation_conflicts_total{name="notes",namespace="b"} 0`,
	}
	if diff := cmp.Diff(want, series(registry)); diff != "" {
		t.Error(diff)
	}
	for _, gone := range []client.Object{objects[0], objects[1], objects[4]} {
		if err := cache.Delete(ctx, gone); err != nil {
			t.Fatal(err)
		}
	}
	if diff := cmp.Diff(want[:1], series(registry)); diff != "" {
		t.Errorf("after the deletion: %s", diff)
	}
	cancel()
	if err := <-ended; err != nil {
		t.Error(err)
	}
	if left := series(registry); len(left) > 0 {
		t.Errorf("a process that does not lead serves %v", left)
	}
}
