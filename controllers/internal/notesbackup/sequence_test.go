package notesbackup

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
	appsv1 "k8s.io/api/apps/v1"
	batchv1 "k8s.io/api/batch/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/securenotes/securenotes/api/v1alpha1"
	"github.com/securenotes/securenotes/controllers/internal/crashtest"
	"github.com/securenotes/securenotes/controllers/internal/steps"
)

var update = flag.Bool("update", false, "rewrite the golden files")

// story writes the steps, events and conditions of a backup in their order.
type story struct {
	t *testing.T
	*world
	text strings.Builder
	// conditions are those of each backup, by type, as they were last written.
	conditions map[string]map[string]string
}

// Eventf implements events.EventRecorder.
func (s *story) Eventf(regarding, _ runtime.Object, kind, reason, _, note string, args ...any) {
	fmt.Fprintf(&s.text, "    %s event on NotesBackup %s, %s: %s\n", kind, regarding.(client.Object).GetName(), reason, fmt.Sprintf(note, args...))
}

// happens writes and does what other actors do.
func (s *story) happens(what string, do func(*testing.T)) {
	fmt.Fprintf(&s.text, "\n%s\n", what)
	do(s.t)
}

// given creates a NotesBackup.
func (s *story) given(name string, seconds int) {
	s.t.Helper()
	if err := s.Create(s.t.Context(), backup(name, seconds)); err != nil {
		s.t.Fatal(err)
	}
}

// reconciles has the operator take as many steps as it can.
func (s *story) reconciles(name string) {
	s.t.Helper()
	fmt.Fprintf(&s.text, "\nNotesBackup %s:\n", name)
	r := s.reconciler(s)
	for range steps.MaxSteps {
		nb := s.backup(s.t, name)
		o, err := r.observe(s.t.Context(), nb)
		step, d := next(o)
		switch {
		case err != nil:
			fmt.Fprintf(&s.text, "  finds that %s\n", err)
		case d.Reason != "":
			fmt.Fprintf(&s.text, "  %s %s: %s\n", d.Verdict, d.Reason, d.Message)
		case d.Verdict != steps.Take:
			fmt.Fprintf(&s.text, "  %s\n", d.Verdict)
		default:
			fmt.Fprintf(&s.text, "  %s\n", step.Name)
		}
		again, _, err := r.loop(nb).Once(s.t.Context(), r)
		if err != nil {
			s.t.Fatal(err)
		}
		s.writeConditions(name)
		if !again {
			fmt.Fprintf(&s.text, "  is %s %s\n", nb.Status.State, nb.Status.Reason)
			return
		}
	}
	s.t.Fatalf("no end after %d steps", steps.MaxSteps)
}

// writeConditions writes the conditions that have changed.
func (s *story) writeConditions(name string) {
	before, now := s.conditions[name], map[string]string{}
	for _, c := range s.backup(s.t, name).Status.Conditions {
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

func (s *story) jobCompletes() {
	s.happens("The Job completes.", func(t *testing.T) { s.completes(t, report()) })
}

// stories are whole backups, by the names of their golden files.
var stories = map[string]func(*story){
	"scheduled": func(s *story) {
		s.given("first", 0)
		s.reconciles("first")
		s.jobCompletes()
		s.reconciles("first")
	},
	"queued": func(s *story) {
		s.given("second", 1)
		s.given("first", 0)
		s.reconciles("second")
		s.reconciles("first")
		s.reconciles("second")
		s.jobCompletes()
		s.reconciles("first")
		s.reconciles("second")
	},
	"failed": func(s *story) {
		s.given("first", 0)
		s.reconciles("first")
		s.happens("The Job fails; its pod says why.", func(t *testing.T) { s.fails(t, "DestinationDenied", "the bucket refuses the credentials") })
		s.reconciles("first")
		s.given("second", 60)
		s.reconciles("second")
		s.jobCompletes()
		s.reconciles("second")
	},
	"failedwithoutreason": func(s *story) {
		s.given("first", 0)
		s.reconciles("first")
		s.happens("The Job reaches its deadline.", func(t *testing.T) { s.ends(t, batchv1.JobFailed, "") })
		s.reconciles("first")
	},
	"notready": func(s *story) {
		s.happens("The SecureNotes is new, and its rights in Vault are those of an earlier release.", func(t *testing.T) {
			s.change(t, func(sn *v1alpha1.SecureNotes) { sn.Spec.Suspend, sn.Status = new(true), v1alpha1.SecureNotesStatus{} })
		})
		s.given("first", 0)
		s.reconciles("first")
		s.happens("It is resumed.", func(t *testing.T) { s.change(t, func(sn *v1alpha1.SecureNotes) { sn.Spec.Suspend = nil }) })
		s.reconciles("first")
		s.happens("It gets a master key.", func(t *testing.T) {
			s.change(t, func(sn *v1alpha1.SecureNotes) { sn.Status.DeploymentID = "notes-uid" })
		})
		s.reconciles("first")
		s.happens("The Vault administrator runs vault-setup.", func(t *testing.T) {
			s.change(t, func(sn *v1alpha1.SecureNotes) { sn.Status.BackupKeys = notes().Status.BackupKeys })
		})
		s.reconciles("first")
		s.happens("The first pod is ready, and then an update begins.", func(t *testing.T) {
			s.change(t, func(sn *v1alpha1.SecureNotes) { sn.Status.Database = notes().Status.Database })
			s.rollOut(t, 2, 1)
		})
		s.reconciles("first")
		s.happens("The pods have been replaced.", func(t *testing.T) { s.rollOut(t, 2, 2) })
		s.reconciles("first")
	},
	"early": func(s *story) {
		s.happens("There is no SecureNotes yet.", func(t *testing.T) { s.remove(t, &v1alpha1.SecureNotes{}, "notes") })
		s.given("first", 0)
		s.reconciles("first")
		s.happens("It is created without spec.backup.", func(t *testing.T) {
			sn := notes()
			sn.Spec.Backup = nil
			if err := s.Create(t.Context(), sn); err != nil {
				t.Fatal(err)
			}
		})
		s.reconciles("first")
	},
	"orphaned": func(s *story) {
		s.given("first", 0)
		s.reconciles("first")
		s.happens("The SecureNotes is deleted.", func(t *testing.T) { s.remove(t, &v1alpha1.SecureNotes{}, "notes") })
		s.reconciles("first")
	},
	"orphanedlate": func(s *story) {
		s.given("first", 0)
		s.reconciles("first")
		s.jobCompletes()
		s.happens("The SecureNotes is deleted.", func(t *testing.T) { s.remove(t, &v1alpha1.SecureNotes{}, "notes") })
		s.reconciles("first")
	},
	"unconfigured": func(s *story) {
		s.given("first", 0)
		s.reconciles("first")
		s.happens("Somebody removes spec.backup.", func(t *testing.T) { s.change(t, func(sn *v1alpha1.SecureNotes) { sn.Spec.Backup = nil }) })
		s.reconciles("first")
	},
	"changed": func(s *story) {
		s.given("first", 0)
		s.reconciles("first")
		s.happens("Somebody changes the destination, and suspends the SecureNotes.", func(t *testing.T) {
			s.change(t, func(sn *v1alpha1.SecureNotes) {
				sn.Spec.Suspend, sn.Spec.Backup.Destination.PersistentVolumeClaim.ClaimName = new(true), "another"
			})
		})
		s.reconciles("first")
		s.jobCompletes()
		s.reconciles("first")
	},
	"invalid": func(s *story) {
		s.happens("An earlier schema allowed a recipient.", func(t *testing.T) {
			s.change(t, func(sn *v1alpha1.SecureNotes) { sn.Spec.Backup.Recipients = []v1alpha1.AgeRecipient{"ssh-ed25519 x"} })
		})
		s.given("first", 0)
		s.reconciles("first")
	},
	"compromise": func(s *story) {
		s.given("first", 0)
		s.reconciles("first")
		s.happens("A Compromise of the keys deletes the Job.", func(t *testing.T) { s.remove(t, &batchv1.Job{}, "first") })
		s.reconciles("first")
		s.jobCompletes()
		s.reconciles("first")
	},
	"restored": func(s *story) {
		s.given("first", 0)
		s.reconciles("first")
		s.jobCompletes()
		s.reconciles("first")
		s.happens("Velero restores the object without its status, after the namespace was lost.", func(t *testing.T) {
			ended := s.backup(t, "first")
			s.remove(t, &batchv1.Job{}, "first")
			s.remove(t, &v1alpha1.NotesBackup{}, "first")
			s.remove(t, &v1alpha1.SecureNotes{}, "notes")
			restored := backup("first", 100)
			restored.UID, restored.Annotations = "restored-uid", ended.Annotations
			if err := s.Create(t.Context(), restored); err != nil {
				t.Fatal(err)
			}
			s.conditions["first"] = nil
		})
		s.reconciles("first")
	},
}

// rollOut plays the Deployment controller.
func (w *world) rollOut(t *testing.T, replicas, updated int32) {
	t.Helper()
	d := &appsv1.Deployment{}
	if err := w.Get(t.Context(), client.ObjectKey{Namespace: "ns", Name: "notes"}, d); err != nil {
		t.Fatal(err)
	}
	d.Status.Replicas, d.Status.UpdatedReplicas = replicas, updated
	if err := w.Status().Update(t.Context(), d); err != nil {
		t.Fatal(err)
	}
}

// TestSequences compares whole backups with reviewed golden files, so that a changed order shows.
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
	files, err := filepath.Glob(filepath.Join("testdata", "*.golden"))
	if err != nil || len(files) != len(stories) {
		t.Errorf("%d golden files for %d stories, error %v", len(files), len(stories), err)
	}
}
