package notesbackup

import (
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	batchv1 "k8s.io/api/batch/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/securenotes/securenotes/api/v1alpha1"
	"github.com/securenotes/securenotes/controllers/internal/backups"
	"github.com/securenotes/securenotes/controllers/internal/crashtest"
)

func wholeBackup(deleted map[string]bool) crashtest.Story[*world] {
	return crashtest.Story[*world]{
		Begin: func(t *testing.T, c *crashtest.Crash) *world {
			w := newWorld(t, c, backup("first", 0))
			w.deleted = deleted
			return w
		},
		Fork: func(t *testing.T, w *world, c *crashtest.Crash) *world { return w.fork(t, c) },
		Pass: func(t *testing.T, w *world) bool { return w.play(t) },
	}
}

// TestCrashAnywhere kills the operator before and after each of its writes. In every case the
// backup completes with what its only Job reported, and its end is recorded in the metadata.
func TestCrashAnywhere(t *testing.T) {
	t.Parallel()
	wholeBackup(nil).Everywhere(t, 7, checkComplete)
}

// TestDeletedJobs: somebody deletes the Job once before it ends. It is created again, wherever the
// operator dies.
func TestDeletedJobs(t *testing.T) {
	t.Parallel()
	wholeBackup(map[string]bool{}).Everywhere(t, 9, func(t *testing.T, w *world) {
		checkComplete(t, w)
		if len(w.deleted) != 1 {
			t.Errorf("%d Jobs were deleted, want 1", len(w.deleted))
		}
	})
}

// checkComplete checks what every complete backup leaves behind.
func checkComplete(t *testing.T, w *world) {
	t.Helper()
	nb, jobs, configurations := w.backup(t, "first"), w.jobs(t), w.configurations(t)
	if len(jobs) != 1 || string(jobs[0].UID) != nb.Status.JobUID || nb.Status.JobDigest == "" {
		t.Fatalf("there are %d Jobs, want the one that is recorded as %q", len(jobs), nb.Status.JobUID)
	}
	if len(configurations) != 1 || configurations[0].Name != jobs[0].Spec.Template.Spec.Volumes[0].ConfigMap.Name {
		t.Errorf("there are %d ConfigMaps, want the one of the Job", len(configurations))
	}
	r := report()
	want := v1alpha1.NotesBackupStatus{
		ObservedGeneration: 1, State: "Complete", SecureNotesUID: "notes-uid", JobUID: nb.Status.JobUID, JobDigest: nb.Status.JobDigest,
		StartTime: timeOf(noon), CompletionTime: timeOf(noon),
		BackupResult: v1alpha1.BackupResult{
			ID: r.ID, Location: "persistentVolumeClaim/backups", Sequence: r.Sequence, Notes: 12, Accounts: 3, Bytes: 4096, Escrow: true,
			SHA256: r.ArchiveSHA256, ManifestSHA256: r.ManifestSHA256, OldestKeyVersion: 1, NewestKeyVersion: 2,
			SnapshotTime: timeOf(r.SnapshotAt), VerificationTime: timeOf(r.VerifiedAt), UploadTime: timeOf(r.UploadedAt),
		},
		Destination: &v1alpha1.BackupDestinationStatus{
			ObservedTime: timeOf(r.Destination.ListedAt), Backups: 5, Bytes: 20480, OldestTime: timeOf(r.Destination.OldestAt), OldestKeyVersion: 1, WithoutEscrow: 2,
			Invalid: 1, Deleted: 2, DeletionError: "access is denied", DeletionRefused: true,
		},
	}
	got := nb.Status
	got.Conditions = nil
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	if !backups.Complete(nb) || len(nb.Status.Conditions) != 1 || nb.Annotations[v1alpha1.AnnotationEnded] != "first" || len(nb.Finalizers) != 0 {
		t.Errorf("conditions %+v, metadata %+v", nb.Status.Conditions, nb.ObjectMeta)
	}
}

// TestStopAnywhere kills the operator before and after each of its writes while spec.backup is
// removed after the pass in which the Job was created. The backup fails, and no Job is left.
func TestStopAnywhere(t *testing.T) {
	t.Parallel()
	for name, remove := range map[string]struct {
		do     func(*testing.T, *world)
		reason string
	}{
		"spec.backup": {reason: v1alpha1.ReasonBackupNotConfigured, do: func(t *testing.T, w *world) {
			w.change(t, func(sn *v1alpha1.SecureNotes) { sn.Spec.Backup = nil })
		}},
		"the SecureNotes": {reason: v1alpha1.ReasonSecureNotesNotFound, do: func(t *testing.T, w *world) {
			w.remove(t, &v1alpha1.SecureNotes{}, "notes")
		}},
		"the SecureNotes, for another of its name": {reason: v1alpha1.ReasonSecureNotesNotFound, do: func(t *testing.T, w *world) {
			w.remove(t, &v1alpha1.SecureNotes{}, "notes")
			another := notes()
			another.UID = "another-uid"
			if err := w.Create(t.Context(), another); err != nil {
				t.Fatal(err)
			}
		}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			story := wholeBackup(nil)
			story.Pass = func(t *testing.T, w *world) bool {
				nb := w.pass(t, "first")
				if w.passes++; w.passes == 1 {
					remove.do(t, w)
				}
				return w.passes < 6 || !backups.Ended(nb) && w.passes < 40
			}
			story.Everywhere(t, 7, func(t *testing.T, w *world) {
				nb := w.backup(t, "first")
				c := meta.FindStatusCondition(nb.Status.Conditions, v1alpha1.ConditionFailed)
				// If the operator died before it recorded the start, it waits for the SecureNotes,
				// or backs up the other one.
				if nb.Status.SecureNotesUID != "notes-uid" && remove.reason == v1alpha1.ReasonSecureNotesNotFound {
					return
				}
				if c == nil || c.Reason != remove.reason || nb.Status.State != "Failed" || nb.Status.Reason != remove.reason || nb.Status.CompletionTime == nil {
					t.Errorf("status %+v, want it to have failed with %s", nb.Status, remove.reason)
				}
				for _, job := range w.jobs(t) {
					t.Errorf("Job %s is left", job.Name)
				}
			})
		})
	}
}

// TestTwoAtOnce: of many backups one runs at a time, the oldest first, in whatever order they are
// reconciled. Those beyond the limit are refused.
func TestTwoAtOnce(t *testing.T) {
	t.Parallel()
	var objects []client.Object
	for i := range maxQueued + 2 {
		objects = append(objects, backup(fmt.Sprintf("b%02d", i), i))
	}
	w := newWorld(t, &crashtest.Crash{}, objects...)
	for i := maxQueued + 1; i >= 0; i-- {
		nb := w.pass(t, fmt.Sprintf("b%02d", i))
		if refused := i >= maxQueued; refused != backups.Failed(nb) {
			t.Fatalf("%s: %+v", nb.Name, nb.Status)
		} else if c := meta.FindStatusCondition(nb.Status.Conditions, v1alpha1.ConditionFailed); refused && c.Reason != v1alpha1.ReasonTooManyBackups {
			t.Errorf("%s: %+v", nb.Name, c)
		}
	}
	for i := range maxQueued {
		w.pass(t, fmt.Sprintf("b%02d", maxQueued-1))
		name := fmt.Sprintf("b%02d", i)
		w.pass(t, name)
		running := 0
		for _, job := range w.jobs(t) {
			if len(job.Status.Conditions) == 0 {
				running++
				if job.Name != name {
					t.Errorf("Job %s runs, want that of %s", job.Name, name)
				}
			}
		}
		if running != 1 {
			t.Fatalf("%d Jobs run, want 1", running)
		}
		w.completes(t, report())
		if nb := w.pass(t, name); !backups.Complete(nb) {
			t.Fatalf("%s: %+v", name, nb.Status)
		}
	}
}

// TestSettledWritesNothing: a backup that waits or has ended causes no writes.
func TestSettledWritesNothing(t *testing.T) {
	t.Parallel()
	for name, prepare := range map[string]func(*testing.T, *world){
		"running":  func(t *testing.T, w *world) { w.pass(t, "first") },
		"complete": func(t *testing.T, w *world) { w.pass(t, "first"); w.completes(t, report()); w.pass(t, "first") },
		"failed": func(t *testing.T, w *world) {
			w.pass(t, "first")
			w.fails(t, "DestinationDenied", "no")
			w.pass(t, "first")
		},
		"suspended": func(t *testing.T, w *world) {
			w.change(t, func(sn *v1alpha1.SecureNotes) { sn.Spec.Suspend = new(true) })
			w.pass(t, "first")
		},
		"without a SecureNotes": func(t *testing.T, w *world) { w.remove(t, &v1alpha1.SecureNotes{}, "notes"); w.pass(t, "first") },
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t, &crashtest.Crash{}, backup("first", 0))
			prepare(t, w)
			before := w.crash.Count
			for range 3 {
				w.pass(t, "first")
			}
			if w.crash.Count != before || before == 0 {
				t.Errorf("%d writes, and then %d more", before, w.crash.Count-before)
			}
		})
	}
}

// TestUnbelievedJobs: what others do with the Job, its pods or its configuration never makes a
// backup complete with what they say.
func TestUnbelievedJobs(t *testing.T) {
	t.Parallel()
	forged := report()
	forged.Notes = 1_000_000
	for name, tc := range map[string]struct {
		do     func(*testing.T, *world)
		reason string
		says   string
	}{
		"the Job is patched to need no pod": {do: func(t *testing.T, w *world) {
			job := w.jobs(t)[0]
			job.Spec.Completions, job.Spec.Parallelism = new(int32(0)), new(int32(0))
			if err := w.Update(t.Context(), &job); err != nil {
				t.Fatal(err)
			}
			w.completes(t, forged)
		}, reason: v1alpha1.ReasonJobFailed, says: "find out who changed it"},
		"the Job is replaced": {do: func(t *testing.T, w *world) {
			job := w.jobs(t)[0]
			w.remove(t, &batchv1.Job{}, job.Name)
			job.UID, job.ResourceVersion = "forged", ""
			if err := w.Create(t.Context(), &job); err != nil {
				t.Fatal(err)
			}
			w.completes(t, forged)
		}, reason: v1alpha1.ReasonNameConflict, says: "another of the same name"},
		"the pod says nothing": {do: func(t *testing.T, w *world) { w.ends(t, batchv1.JobComplete, "") }, reason: v1alpha1.ReasonJobFailed, says: "reported nothing"},
		"the pod says something else": {do: func(t *testing.T, w *world) {
			w.ends(t, batchv1.JobComplete, `{"reason":"Complete","message":"x"}`)
		}, reason: v1alpha1.ReasonJobFailed, says: "reported no backup"},
		"two pods contradict each other": {do: func(t *testing.T, w *world) {
			w.terminate(t, &w.jobs(t)[0], "forged", 0, `{"reason":"Complete","message":"x"}`)
			w.completes(t, report())
		}, reason: v1alpha1.ReasonJobFailed, says: "reported nothing"},
		"the report has a hostile value": {do: func(t *testing.T, w *world) {
			hostile := report()
			hostile.ID = "../../other/20261130T120000Z-k3v7m2qx5jd4w6ra"
			w.completes(t, hostile)
		}, reason: v1alpha1.ReasonJobFailed, says: "a value of id that cannot be right"},
		"the Job is of another kind of owner": {do: func(t *testing.T, w *world) {
			job := w.jobs(t)[0]
			job.OwnerReferences[0].UID = "other"
			if err := w.Update(t.Context(), &job); err != nil {
				t.Fatal(err)
			}
		}, reason: v1alpha1.ReasonNameConflict, says: "does not belong to first"},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t, &crashtest.Crash{}, backup("first", 0))
			w.pass(t, "first")
			tc.do(t, w)
			nb := w.pass(t, "first")
			c := meta.FindStatusCondition(nb.Status.Conditions, v1alpha1.ConditionFailed)
			if c == nil || c.Reason != tc.reason || !strings.Contains(c.Message, tc.says) || nb.Status.ID != "" || nb.Status.Notes != 0 {
				t.Errorf("status %+v, want it to have failed with %s: %q", nb.Status, tc.reason, tc.says)
			}
			if stalled := meta.FindStatusCondition(nb.Status.Conditions, v1alpha1.ConditionStalled); stalled == nil || stalled.Status != metav1.ConditionTrue ||
				meta.FindStatusCondition(nb.Status.Conditions, v1alpha1.ConditionReconciling) != nil {
				t.Errorf("conditions %+v, want Stalled and not Reconciling, as kstatus reads them", nb.Status.Conditions)
			}
		})
	}
}

// TestForeignConfiguration: a ConfigMap that somebody puts in the place of the Job's is not used.
func TestForeignConfiguration(t *testing.T) {
	t.Parallel()
	w := newWorld(t, &crashtest.Crash{}, backup("first", 0))
	w.pass(t, "first")
	w.remove(t, &batchv1.Job{}, "first")
	forged := w.configurations(t)[0].DeepCopy()
	w.remove(t, forged.DeepCopy(), forged.Name)
	forged.ResourceVersion, forged.Data = "", map[string]string{"backup.yaml": "destination: mine"}
	if err := w.Create(t.Context(), forged); err != nil {
		t.Fatal(err)
	}
	nb := w.pass(t, "first")
	if c := meta.FindStatusCondition(nb.Status.Conditions, v1alpha1.ConditionFailed); c == nil || c.Reason != v1alpha1.ReasonNameConflict {
		t.Errorf("status %+v", nb.Status)
	}
	if jobs := w.jobs(t); len(jobs) != 0 {
		t.Errorf("%d Jobs", len(jobs))
	}
}
