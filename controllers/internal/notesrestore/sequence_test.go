package notesrestore

import (
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"k8s.io/apimachinery/pkg/runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/securenotes/securenotes/controllers/internal/crashtest"
	"github.com/securenotes/securenotes/controllers/internal/stalecache"
	"github.com/securenotes/securenotes/controllers/internal/steps"
)

var update = flag.Bool("update", false, "rewrite the golden files")

// sequence writes the steps, states and events of a restore in their order.
type sequence struct{ strings.Builder }

// Eventf implements events.EventRecorder.
func (s *sequence) Eventf(regarding, _ runtime.Object, kind, reason, _, note string, args ...any) {
	fmt.Fprintf(s, "    %s event on %s %s, %s: %s\n", kind, strings.TrimPrefix(fmt.Sprintf("%T", regarding), "*v1alpha1."), regarding.(client.Object).GetName(), reason, fmt.Sprintf(note, args...))
}

// TestSequence compares the steps of whole restores with golden files. Use -update to rewrite them.
func TestSequence(t *testing.T) {
	t.Parallel()
	for name, prepare := range map[string]func(*world){
		"escrow": func(*world) {}, "refused": func(w *world) { w.failure = refusal() },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, &crashtest.Crash{}, notes(), restore("first", fromEscrow))
			prepare(w)
			s := &sequence{}
			for pass := range 10 {
				if !s.reconciles(t, w) {
					break
				}
				if pass == 9 {
					t.Fatal("the restore does not end")
				}
				s.WriteString("\nThe other controllers do their work.\n\n")
				w.scale(t)
				w.endJob(t, w.restore(t, "first"))
			}
			file := filepath.Join("testdata", name+".golden")
			if *update {
				if err := os.WriteFile(file, []byte(s.String()), 0o600); err != nil {
					t.Fatal(err)
				}
			}
			want, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(string(want), s.String()); diff != "" {
				t.Error(diff)
			}
		})
	}
}

// reconciles has the operator take as many steps as it can, and reports whether more are to come.
func (s *sequence) reconciles(t *testing.T, w *world) bool {
	t.Helper()
	r := w.reconciler()
	r.Recorder = s
	for range steps.MaxSteps {
		nr := w.restore(t, "first")
		o, err := r.observe(t.Context(), nr)
		if err != nil {
			t.Fatal(err)
		}
		step, d := next(o)
		switch d.Verdict {
		case steps.Take:
			fmt.Fprintln(s, step.Name)
		case steps.Stop:
			return false
		default:
			fmt.Fprintf(s, "%s %s: %s\n", d.Verdict, d.Reason, d.Message)
		}
		before := nr.Status.State
		again, _, err := r.loop(nr).Once(t.Context(), r)
		if stalecache.Is(err) || errors.Is(err, steps.ErrNotTaken) {
			return true
		}
		if err != nil {
			t.Fatal(err)
		}
		if after := w.restore(t, "first"); after.Status.State != before || !again {
			fmt.Fprintf(s, "    is %s\n", strings.TrimSpace(after.Status.State+" "+after.Status.Reason))
		}
		if !again {
			return true
		}
	}
	t.Fatalf("no end after %d steps", steps.MaxSteps)
	return false
}
