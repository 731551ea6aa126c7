package keyrotation

import (
	"flag"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	batchv1 "k8s.io/api/batch/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/securenotes/securenotes/api/v1alpha1"
	"github.com/securenotes/securenotes/app/config"
	"github.com/securenotes/securenotes/controllers/internal/crashtest"
	"github.com/securenotes/securenotes/controllers/internal/steps"
)

var update = flag.Bool("update", false, "rewrite the golden files")

// story writes the steps, events and conditions of a rotation in their order.
type story struct {
	t *testing.T
	*world
	text strings.Builder
	// conditions are those of each rotation, by type, as they were last written.
	conditions map[string]map[string]string
}

// Eventf implements events.EventRecorder.
func (s *story) Eventf(regarding, _ runtime.Object, kind, reason, _, note string, args ...any) {
	about := "KeyRotation"
	if _, ok := regarding.(*v1alpha1.SecureNotes); ok {
		about = "SecureNotes"
	}
	fmt.Fprintf(&s.text, "    %s event on %s %s, %s: %s\n", kind, about, regarding.(client.Object).GetName(), reason, fmt.Sprintf(note, args...))
}

// happens writes and does what other actors do.
func (s *story) happens(what string, do func(*testing.T)) {
	fmt.Fprintf(&s.text, "\n%s\n", what)
	do(s.t)
}

// reconciles has the operator take as many steps as it can.
func (s *story) reconciles(name string) {
	s.t.Helper()
	fmt.Fprintf(&s.text, "\nKeyRotation %s:\n", name)
	r := s.reconciler(s)
	for range steps.MaxSteps {
		kr := s.rotation(s.t, name)
		o, err := r.observe(s.t.Context(), kr)
		d := decide(o)
		switch {
		case err != nil:
			fmt.Fprintf(&s.text, "  finds that %s\n", err)
		case d.Reason != "":
			fmt.Fprintf(&s.text, "  %s %s: %s\n", d.action, d.Reason, d.Message)
		default:
			fmt.Fprintf(&s.text, "  %s\n", d.action)
		}
		again, _, err := r.loop(kr).Once(s.t.Context(), r)
		if err != nil {
			s.t.Fatal(err)
		}
		if !s.exists(s.t, name) {
			s.text.WriteString("    is gone\n")
			return
		}
		s.writeConditions(name)
		if !again {
			return
		}
	}
	s.t.Fatalf("no end after %d steps", steps.MaxSteps)
}

// writeConditions writes the conditions that have changed.
func (s *story) writeConditions(name string) {
	before, now := s.conditions[name], map[string]string{}
	for _, c := range s.rotation(s.t, name).Status.Conditions {
		now[c.Type] = fmt.Sprintf("%s=%s %s: %s", c.Type, c.Status, c.Reason, c.Message)
		if before[c.Type] != now[c.Type] {
			fmt.Fprintf(&s.text, "    %s\n", now[c.Type])
		}
	}
	for _, kind := range slices.Sorted(maps.Keys(before)) {
		if now[kind] == "" {
			fmt.Fprintf(&s.text, "    %s is gone\n", kind)
		}
	}
	s.conditions[name] = now
}

// given creates a KeyRotation.
func (s *story) given(name string, changes ...func(*v1alpha1.KeyRotation)) {
	s.t.Helper()
	if err := s.Create(s.t.Context(), rotation(name, changes...)); err != nil {
		s.t.Fatal(err)
	}
}

func (s *story) completes() {
	s.happens("The Job completes.", func(t *testing.T) { s.endJobs(t, batchv1.JobComplete) })
}

func (s *story) fails() {
	s.happens("The Job fails.", func(t *testing.T) { s.endJobs(t, batchv1.JobFailed) })
}

// failsSaying has the Job fail after its pod has reported why.
func (s *story) failsSaying(reason, message string) {
	s.happens(fmt.Sprintf("The Job fails; its pod says %s.", reason), func(t *testing.T) {
		s.terminatePods(t, config.Termination{Reason: reason, Message: message})
		s.endJobs(t, batchv1.JobFailed)
	})
}

func (s *story) retry(name string) {
	s.happens("Somebody asks for a retry.", func(t *testing.T) {
		kr := s.rotation(t, name)
		kr.Annotations = map[string]string{v1alpha1.AnnotationRetryRequestedAt: "now"}
		if err := s.Update(t.Context(), kr); err != nil {
			t.Fatal(err)
		}
	})
}

// TestSequences compares whole rotations with reviewed golden files, so that a changed order shows.
func TestSequences(t *testing.T) {
	t.Parallel()
	for name, tell := range stories {
		t.Run(name, func(t *testing.T) {
			s := &story{t: t, world: newWorld(t, &crashtest.Crash{}), conditions: map[string]map[string]string{}}
			tell(s)
			path := filepath.Join("testdata", name+".golden")
			got := strings.TrimPrefix(s.text.String(), "\n")
			if *update {
				if err := os.MkdirAll("testdata", 0o755); err != nil {
					t.Fatal(err)
				}
				if err := os.WriteFile(path, []byte(got), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			want, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(string(want), got); diff != "" {
				t.Errorf("%s (go test -update rewrites it): %s", path, diff)
			}
		})
	}
}
