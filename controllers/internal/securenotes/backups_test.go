package securenotes

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/securenotes/securenotes/api/v1alpha1"
	"github.com/securenotes/securenotes/controllers/internal/operand"
)

// allBackups returns every NotesBackup, the oldest first.
func allBackups(t *testing.T, r *Reconciler) []v1alpha1.NotesBackup {
	t.Helper()
	list := &v1alpha1.NotesBackupList{}
	if err := r.Client.List(t.Context(), list); err != nil {
		t.Fatal(err)
	}
	return list.Items
}

func backupNames(t *testing.T, r *Reconciler) []string {
	t.Helper()
	var names []string
	for _, nb := range allBackups(t, r) {
		names = append(names, nb.Name)
	}
	slices.Sort(names)
	return names
}

// scheduledBackups returns the times for which the schedule has created backups.
func scheduledBackups(t *testing.T, r *Reconciler) []string {
	t.Helper()
	var times []string
	for _, nb := range allBackups(t, r) {
		if nb.Status.CreatedBy == v1alpha1.BackupBySchedule {
			times = append(times, dueOf(t, nb.Name))
		}
	}
	slices.Sort(times)
	return times
}

// ended returns a change of a backup: it was created, has started for the SecureNotes of [object]
// and has ended at a time.
func ended(condition string, at time.Time) func(*v1alpha1.NotesBackup) {
	return func(nb *v1alpha1.NotesBackup) {
		nb.CreationTimestamp = metav1.NewTime(at)
		nb.Status.SecureNotesUID, nb.Status.CompletionTime = string(object().UID), new(metav1.NewTime(at))
		meta.SetStatusCondition(&nb.Status.Conditions, metav1.Condition{Type: condition, Status: metav1.ConditionTrue, Reason: v1alpha1.ReasonComplete})
	}
}

// end ends a backup.
func end(t *testing.T, r *Reconciler, nb *v1alpha1.NotesBackup, condition string, at time.Time) {
	t.Helper()
	ended(condition, at)(nb)
	if err := r.Client.Status().Update(t.Context(), nb); err != nil {
		t.Fatal(err)
	}
}

// backup returns a NotesBackup of the SecureNotes of [object], with changes.
func backup(name string, changes ...func(*v1alpha1.NotesBackup)) *v1alpha1.NotesBackup {
	nb := newBackup(object(), name)
	nb.UID, nb.CreationTimestamp = types.UID(name), metav1.NewTime(now.Add(-time.Hour))
	for _, change := range changes {
		change(nb)
	}
	return nb
}

func createdBy(by v1alpha1.BackupCreator) func(*v1alpha1.NotesBackup) {
	return func(nb *v1alpha1.NotesBackup) { nb.Status.CreatedBy = by }
}

// ofAnother makes a backup one of an earlier object of the same name.
func ofAnother(nb *v1alpha1.NotesBackup) { nb.Status.SecureNotesUID = "another" }

// withBackups returns the scope of a pass over an object whose spec.backup was seen a week ago.
func withBackups(changes ...func(*scope)) *scope {
	week := metav1.NewTime(now.Add(-7 * 24 * time.Hour).Truncate(time.Second))
	return healthy(append([]func(*scope){func(s *scope) {
		s.sn.CreationTimestamp, s.sn.Generation = week, 1
		s.sn.Spec.Backup = &v1alpha1.BackupPolicy{}
		s.sn.Status.Backup = &v1alpha1.BackupStatus{ObservedSchedule: &v1alpha1.ObservedSchedule{TimeZone: "Etc/UTC", Since: week}}
		s.sn.Status.BackupKeys = &v1alpha1.BackupKeysStatus{}
	}, func(s *scope) { s.original = s.sn.DeepCopy() }}, changes...)...)
}

// dailyBackups sets a schedule that the status has observed a week ago.
func dailyBackups(s *scope) {
	s.sn.Spec.Backup.Schedule, s.sn.Status.Backup.ObservedSchedule.Schedule = "@daily", "@daily"
}

// deleting makes a backup one that was deleted, and that a finalizer keeps: for example by kubectl
// delete --cascade=foreground, while its pod is on a node that is lost.
func deleting(nb *v1alpha1.NotesBackup) {
	nb.DeletionTimestamp, nb.Finalizers = new(metav1.NewTime(now.Add(-time.Minute))), []string{"foregroundDeletion"}
}

// manage runs the phase backups.
func manage(t *testing.T, r *Reconciler, s *scope) {
	t.Helper()
	if err := r.manageBackups(t.Context(), s); err != nil {
		t.Fatal(err)
	}
}

// TestBackupScheduleWaits: the schedule creates nothing without keys, while it is suspended, or
// while a scheduled backup runs. A backup that a person created does not stop it.
func TestBackupScheduleWaits(t *testing.T) {
	t.Parallel()
	scheduled := func(nb *v1alpha1.NotesBackup) { nb.Labels[v1alpha1.LabelScheduled] = "true" }
	for name, tc := range map[string]struct {
		change  func(*scope)
		objects []client.Object
		want    int
	}{
		"due":                         {want: 1},
		"while suspended":             {change: func(s *scope) { s.sn.Spec.Backup.Suspend = new(true) }},
		"while the last one runs":     {objects: []client.Object{backup("running", scheduled)}, want: 1},
		"while the last is deleted":   {objects: []client.Object{backup("deleted", scheduled, deleting)}, want: 2},
		"while a requested one runs":  {objects: []client.Object{backup("running")}, want: 2},
		"while another's is left":     {objects: []client.Object{backup("left", scheduled, ofAnother)}, want: 2},
		"until there is a master key": {change: func(s *scope) { s.hasKeys = false }},
		"until the next time":         {change: func(s *scope) { s.sn.Status.Backup.LastScheduleTime = &metav1.Time{Time: now} }},
	} {
		t.Run(name, func(t *testing.T) {
			r := reconciler(t, &fakeVault{}, tc.objects...)
			s := withBackups(dailyBackups)
			if tc.change != nil {
				tc.change(s)
			}
			manage(t, r, s)
			if names := backupNames(t, r); len(names) != tc.want {
				t.Errorf("got NotesBackups %v, want %d", names, tc.want)
			}
		})
	}
}

// TestBackupsOutliveTheirSecureNotes: a backup has the labels of the operator, and no owner.
func TestBackupsOutliveTheirSecureNotes(t *testing.T) {
	t.Parallel()
	r := reconciler(t, &fakeVault{})
	manage(t, r, withBackups(dailyBackups))
	for _, nb := range allBackups(t, r) {
		if len(nb.OwnerReferences) != 0 || nb.Labels[operand.LabelManagedBy] != operand.ManagedBy || nb.Labels[operand.LabelInstance] != "notes" ||
			nb.Labels[v1alpha1.LabelScheduled] != "true" || nb.Spec.SecureNotesRef.Name != "notes" {
			t.Errorf("got %+v", nb)
		}
	}
}

// TestEachBackupRequestCreatesOne: a value that is used again requests another backup, and one that
// is repeated before it was recorded does not. A value from before the keys or before spec.backup
// requests nothing, and one that was used before spec.backup was set again does.
func TestEachBackupRequestCreatesOne(t *testing.T) {
	t.Parallel()
	r := reconciler(t, &fakeVault{})
	sn := withBackups().sn
	sn.Status.Backup = nil
	at := now
	for _, step := range []struct {
		value      string
		change     func()
		created    int
		deployment string
		noKeys     bool
	}{
		{value: "0", created: 0},
		{value: "1", created: 0},
		{value: "1", deployment: "uid", created: 0},
		{value: "2", deployment: "uid", noKeys: true, created: 0},
		{value: "2", deployment: "uid", created: 1},
		{value: "1", deployment: "uid", created: 2},
		{value: "1", deployment: "uid", created: 2},
		{value: "2", deployment: "uid", created: 3},
		{value: strings.Repeat("x", 65), deployment: "uid", created: 3},
		{value: "", deployment: "uid", created: 3},
		{value: "3", deployment: "uid", change: func() { sn.Status.Backup, sn.Generation = nil, 2 }, created: 3},
		{value: "3", deployment: "uid", created: 3},
		{value: "2", deployment: "uid", created: 4},
		{value: "1", deployment: "uid", created: 5},
		{value: "2", deployment: "uid", created: 6},
	} {
		at = at.Add(time.Hour)
		if step.change != nil {
			step.change()
		}
		sn.Annotations, sn.Status.DeploymentID = map[string]string{v1alpha1.AnnotationBackupRequestedAt: step.value}, step.deployment
		for _, pass := range []*v1alpha1.SecureNotes{sn.DeepCopy(), sn} {
			s := healthy(func(s *scope) { s.sn, s.original, s.now, s.hasKeys = pass, pass.DeepCopy(), at, !step.noKeys })
			manage(t, r, s)
			if names := backupNames(t, r); len(names) != step.created {
				t.Fatalf("%+v: created %v", step, names)
			}
			if s.backupFinding.status == metav1.ConditionFalse {
				t.Errorf("%+v: %+v", step, s.backupFinding)
			}
		}
	}
	if status := sn.Status.Backup; status.LastHandledRequest != "2" || status.HandledRequests != 3 {
		t.Errorf("got status %+v, want three handled requests since spec.backup was set again", status)
	}
}

// rotatedTo returns a complete rotation of a SecureNotes to a version.
func rotatedTo(sn *v1alpha1.SecureNotes, version int64, at time.Time) *v1alpha1.KeyRotation {
	kr := newRotation(sn, fmt.Sprintf("to-v%d", version))
	kr.Status.ToVersion, kr.Status.CompletionTime = new(version), new(metav1.NewTime(at))
	kr.Status.Conditions = []metav1.Condition{{Type: v1alpha1.ConditionComplete, Status: metav1.ConditionTrue}}
	return kr
}

// TestBackupAfterEachRotation: one backup follows each complete rotation of this object, but none
// of those from before spec.backup was set, nor one that has failed, nor while spec.backup.suspend
// is true. A repeated pass creates no second one.
func TestBackupAfterEachRotation(t *testing.T) {
	t.Parallel()
	earlier := object()
	earlier.UID = "another"
	r := reconciler(t, &fakeVault{}, rotatedTo(object(), 2, now.Add(-time.Hour)), rotatedTo(earlier, 9, now.Add(-time.Hour)),
		backup("notes-after-v4", ofAnother, func(nb *v1alpha1.NotesBackup) { nb.CreationTimestamp = metav1.NewTime(now.Add(-24 * time.Hour)) }))
	at := now
	createdAt(t, r, &at)
	failed := rotatedTo(object(), 5, now)
	failed.Status.Conditions[0].Type = v1alpha1.ConditionFailed
	sn := withBackups().sn
	sn.Status.Backup = nil
	for _, step := range []struct {
		rotation *v1alpha1.KeyRotation
		suspend  bool
		noKeys   bool
		want     []string
	}{
		{want: nil},
		{rotation: rotatedTo(object(), 3, now), suspend: true, want: nil},
		{noKeys: true, want: nil},
		{want: []string{"notes-after-v3"}},
		{rotation: rotatedTo(object(), 4, now), want: []string{"notes-after-v3", "notes-after-v4-" + shortHash("uid")}},
		{rotation: failed, want: []string{"notes-after-v3", "notes-after-v4-" + shortHash("uid")}},
	} {
		if step.rotation != nil {
			if err := r.Client.Create(t.Context(), step.rotation); err != nil {
				t.Fatal(err)
			}
		}
		sn.Spec.Backup.Suspend = &step.suspend
		for _, pass := range []*v1alpha1.SecureNotes{sn.DeepCopy(), sn, sn} {
			s := healthy(func(s *scope) { s.sn, s.original, s.hasKeys = pass, pass.DeepCopy(), !step.noKeys })
			manage(t, r, s)
			names := slices.DeleteFunc(backupNames(t, r), func(name string) bool { return name == "notes-after-v4" })
			if !slices.Equal(names, step.want) || s.backupFinding.status == metav1.ConditionFalse {
				t.Fatalf("%+v: created %v, with %+v", step, names, s.backupFinding)
			}
		}
	}
	if got := sn.Status.Backup.HandledRotation; got != 4 {
		t.Errorf("the last handled rotation is the one to version %d, want 4", got)
	}
	for _, nb := range allBackups(t, r) {
		if nb.Name != "notes-after-v4" && nb.Status.CreatedBy != v1alpha1.BackupByRotation {
			t.Errorf("%s was created by %q", nb.Name, nb.Status.CreatedBy)
		}
	}
}

// TestBackupAfterRotationBesideOthers: a NotesBackup of the same name that was created before the
// rotation ended does not prevent the backup after it: one that Velero restored without its status,
// or one that failed before it started.
func TestBackupAfterRotationBesideOthers(t *testing.T) {
	t.Parallel()
	before := func(nb *v1alpha1.NotesBackup) { nb.CreationTimestamp = metav1.NewTime(now.Add(-24 * time.Hour)) }
	for name, change := range map[string]func(*v1alpha1.NotesBackup){
		"restored": func(nb *v1alpha1.NotesBackup) {
			nb.Annotations = map[string]string{v1alpha1.AnnotationEnded: nb.Name}
			meta.SetStatusCondition(&nb.Status.Conditions, metav1.Condition{Type: v1alpha1.ConditionRestored, Status: metav1.ConditionTrue})
		},
		"failed before it started": func(nb *v1alpha1.NotesBackup) {
			failedFor(v1alpha1.ReasonBackupNotConfigured, "x", now.Add(-24*time.Hour))(nb)
			nb.Status.SecureNotesUID = ""
		},
		"by hand": func(nb *v1alpha1.NotesBackup) { nb.Labels = nil },
	} {
		t.Run(name, func(t *testing.T) {
			r := reconciler(t, &fakeVault{}, backup("notes-after-v2", change, before), rotatedTo(object(), 2, now))
			want := []string{"notes-after-v2", "notes-after-v2-" + shortHash("uid")}
			for range 2 { // an interrupted pass is repeated
				s := withBackups()
				manage(t, r, s)
				if names := backupNames(t, r); !slices.Equal(names, want) || s.sn.Status.Backup.HandledRotation != 2 || s.backupFinding.reason == v1alpha1.ReasonNameConflict {
					t.Errorf("got %v and %+v, want %v", names, s.backupFinding, want)
				}
			}
		})
	}
}

// TestBackupOfTheSameName: a NotesBackup that only has the name of the due backup does not replace
// it.
func TestBackupOfTheSameName(t *testing.T) {
	t.Parallel()
	due := now.UTC().Truncate(24 * time.Hour)
	for name, tc := range map[string]struct {
		change func(*v1alpha1.NotesBackup)
		taken  bool
	}{
		"created by an interrupted pass": {change: func(*v1alpha1.NotesBackup) {}, taken: true},
		"and already started":            {change: ended(v1alpha1.ConditionComplete, now), taken: true},
		"created long before it is due":  {change: func(nb *v1alpha1.NotesBackup) { nb.CreationTimestamp = metav1.NewTime(due.Add(-time.Hour)) }},
		"of an earlier object":           {change: func(nb *v1alpha1.NotesBackup) { ended(v1alpha1.ConditionComplete, now)(nb); ofAnother(nb) }},
		"created by hand":                {change: func(nb *v1alpha1.NotesBackup) { nb.Labels = nil }},
		"of another SecureNotes":         {change: func(nb *v1alpha1.NotesBackup) { nb.Spec.SecureNotesRef.Name = "other" }},
	} {
		t.Run(name, func(t *testing.T) {
			existing := backup(scheduledName(object(), due), ended(v1alpha1.ConditionFailed, now), func(nb *v1alpha1.NotesBackup) {
				nb.Labels[v1alpha1.LabelScheduled], nb.CreationTimestamp = "true", metav1.NewTime(due.Add(time.Second))
			}, tc.change)
			s := withBackups(dailyBackups)
			manage(t, reconciler(t, &fakeVault{}, existing), s)
			if taken := s.sn.Status.Backup.LastScheduleTime != nil; taken != tc.taken {
				t.Errorf("taken is %t", taken)
			}
			if !tc.taken && (s.backupFinding.reason != v1alpha1.ReasonNameConflict || !strings.Contains(s.backupFinding.message, existing.Name)) {
				t.Errorf("got %+v, want %s that names %s", s.backupFinding, v1alpha1.ReasonNameConflict, existing.Name)
			}
		})
	}
}

// TestOtherBackupsDoNotCount: the backups of another SecureNotes of the namespace, and those of an
// earlier object of the same name, are neither recorded nor deleted, and do not make this one
// healthy or unhealthy.
func TestOtherBackupsDoNotCount(t *testing.T) {
	t.Parallel()
	scheduled := createdBy(v1alpha1.BackupBySchedule)
	other := func(nb *v1alpha1.NotesBackup) { nb.Spec.SecureNotesRef.Name = "other" }
	r := reconciler(t, &fakeVault{},
		backup("others", ended(v1alpha1.ConditionComplete, now), scheduled, other), backup("others-too", ended(v1alpha1.ConditionFailed, now), scheduled, other),
		backup("earlier", ended(v1alpha1.ConditionComplete, now), scheduled, ofAnother), backup("earlier-too", ended(v1alpha1.ConditionFailed, now), scheduled, ofAnother),
		backup("earlier-and-open", ofAnother),
		backup("own", ended(v1alpha1.ConditionComplete, now.Add(-3*time.Hour)), scheduled), backup("own-and-old", ended(v1alpha1.ConditionComplete, now.Add(-4*time.Hour)), scheduled))
	s := withBackups(func(s *scope) { s.sn.Spec.Backup.Keep = &v1alpha1.BackupKeep{Count: new(int32(1))} })
	manage(t, r, s)
	if last := s.sn.Status.Backup.Last; last == nil || last.Name != "own" || s.backupFinding.reason != v1alpha1.ReasonBackupComplete {
		t.Errorf("got %+v as the last backup, and %+v", last, s.backupFinding)
	}
	if names := backupNames(t, r); !slices.Equal(names, []string{"earlier", "earlier-and-open", "earlier-too", "others", "others-too", "own"}) {
		t.Errorf("%v are left, want all but own-and-old", names)
	}
}

// TestLastBackupStaysRecorded: the newest complete backup and its listing are recorded, and stay so
// when its object is deleted.
func TestLastBackupStaysRecorded(t *testing.T) {
	t.Parallel()
	newest := backup("newest", ended(v1alpha1.ConditionComplete, now.Add(-time.Hour)), func(nb *v1alpha1.NotesBackup) {
		nb.Status.BackupResult = v1alpha1.BackupResult{ID: "id", Bytes: 5, UploadTime: new(metav1.NewTime(now.Add(-2 * time.Hour)))}
		nb.Status.Destination = &v1alpha1.BackupDestinationStatus{Backups: 7}
	})
	older := backup("older", ended(v1alpha1.ConditionComplete, now.Add(-3*time.Hour)))
	r := reconciler(t, &fakeVault{}, newest, older)
	s := withBackups()
	for range 2 {
		manage(t, r, s)
		last, destination := s.sn.Status.Backup.Last, s.sn.Status.Backup.Destination
		if last == nil || last.Name != "newest" || last.ID != "id" || last.Bytes != 5 || last.UploadTime == nil || destination == nil || destination.Backups != 7 {
			t.Fatalf("got %+v and %+v", last, destination)
		}
		if err := client.IgnoreNotFound(r.Client.Delete(t.Context(), newest)); err != nil {
			t.Fatal(err)
		}
	}
}

// TestBackupHistory: of the ended backups that the operator created, those that spec.backup.keep no
// longer keeps are deleted.
func TestBackupHistory(t *testing.T) {
	t.Parallel()
	hours := func(n int) time.Time { return now.Add(-time.Duration(n) * time.Hour) }
	r := reconciler(t, &fakeVault{}, backup("1", createdBy(v1alpha1.BackupBySchedule), ended(v1alpha1.ConditionFailed, hours(1))),
		backup("2", createdBy(v1alpha1.BackupByRotation), ended(v1alpha1.ConditionFailed, hours(2))),
		backup("3", createdBy(v1alpha1.BackupByAnnotation), ended(v1alpha1.ConditionComplete, hours(3))),
		backup("4", createdBy(v1alpha1.BackupBySchedule), ended(v1alpha1.ConditionComplete, hours(4))),
		backup("by-hand", ended(v1alpha1.ConditionComplete, hours(5))), backup("open", createdBy(v1alpha1.BackupByRotation)))
	for _, step := range []struct {
		keep *v1alpha1.BackupKeep
		want []string
	}{
		{nil, []string{"1", "2", "3", "4", "by-hand", "open"}},
		{&v1alpha1.BackupKeep{Age: "5h"}, []string{"1", "2", "3", "4", "by-hand", "open"}},
		{&v1alpha1.BackupKeep{Count: new(int32(1))}, []string{"1", "2", "3", "by-hand", "open"}},
	} {
		manage(t, r, withBackups(func(s *scope) { s.sn.Spec.Backup.Keep = step.keep }))
		if names := backupNames(t, r); !slices.Equal(names, step.want) {
			t.Errorf("%+v: %v are left, want %v", step.keep, names, step.want)
		}
	}
}

// TestClockThatWasAhead: a time that was recorded while the operator's clock was a year ahead
// neither stops the schedule, nor hides a later backup or that a later one has failed or that none
// completes.
func TestClockThatWasAhead(t *testing.T) {
	t.Parallel()
	hours := func(n int) time.Time { return now.Add(-time.Duration(n) * time.Hour) }
	year := now.Add(365 * 24 * time.Hour)
	ahead := new(metav1.NewTime(year))
	completeAhead := func(nb *v1alpha1.NotesBackup) {
		ended(v1alpha1.ConditionComplete, hours(3))(nb)
		nb.Status.CompletionTime = ahead
	}
	handled := func(s *scope) { s.sn.Status.Backup.LastScheduleTime = &metav1.Time{Time: now} }
	lastAhead := func(s *scope) {
		handled(s)
		s.sn.Status.Backup.Last = &v1alpha1.LastBackup{Name: "a", CompletionTime: ahead}
	}
	for name, tc := range map[string]struct {
		change  func(*scope)
		objects []client.Object
		created int
		reason  string
		// last is the last recorded backup, and at when it completed.
		last string
		at   time.Time
	}{
		"a scheduled time":                {change: func(s *scope) { s.sn.Status.Backup.LastScheduleTime = ahead }, created: 1, reason: v1alpha1.ReasonBackingUp},
		"when the schedule was set":       {change: func(s *scope) { s.sn.Status.Backup.ObservedSchedule.Since = *ahead }, reason: v1alpha1.ReasonUnknown},
		"a last backup and a later":       {change: lastAhead, objects: []client.Object{backup("b", ended(v1alpha1.ConditionComplete, hours(1)))}, reason: v1alpha1.ReasonBackupComplete, last: "b", at: hours(1)},
		"a last backup and none since":    {change: lastAhead, reason: v1alpha1.ReasonBackupOverdue, last: "a", at: year},
		"a last backup and a failed one":  {change: lastAhead, objects: []client.Object{backup("b", failedFor("DestinationDenied", "denied", hours(1)))}, reason: "DestinationDenied", last: "a", at: year},
		"a complete one":                  {change: handled, objects: []client.Object{backup("a", completeAhead)}, reason: v1alpha1.ReasonBackupComplete, last: "a", at: hours(3)},
		"a complete one and a later":      {change: handled, objects: []client.Object{backup("a", completeAhead), backup("b", ended(v1alpha1.ConditionComplete, hours(1)))}, reason: v1alpha1.ReasonBackupComplete, last: "b", at: hours(1)},
		"a complete one and a failed one": {change: handled, objects: []client.Object{backup("a", completeAhead), backup("b", failedFor("DestinationDenied", "denied", hours(1)))}, reason: "DestinationDenied", last: "a", at: hours(3)},
		"a failed one and a complete one": {change: handled, objects: []client.Object{backup("a", failedFor("DestinationDenied", "denied", hours(3)), func(nb *v1alpha1.NotesBackup) { nb.Status.CompletionTime = ahead }), backup("b", ended(v1alpha1.ConditionComplete, hours(1)))}, reason: v1alpha1.ReasonBackupComplete, last: "b", at: hours(1)},
		"a rotation, after a crash":       {change: handled, objects: []client.Object{rotatedTo(object(), 2, year), backup("notes-after-v2")}, created: 1, reason: v1alpha1.ReasonBackingUp},
	} {
		t.Run(name, func(t *testing.T) {
			r := reconciler(t, &fakeVault{}, tc.objects...)
			at, before := now, len(backupNames(t, r))
			createdAt(t, r, &at)
			s := withBackups(dailyBackups, tc.change)
			manage(t, r, s)
			if created := len(backupNames(t, r)) - before; created != tc.created || s.backupFinding.reason != tc.reason {
				t.Errorf("%d created, and %+v, want %d, and %s", created, s.backupFinding, tc.created, tc.reason)
			}
			last := s.sn.Status.Backup.Last
			if (last == nil) != (tc.last == "") || last != nil && (last.Name != tc.last || !last.CompletionTime.Time.Equal(tc.at)) {
				t.Errorf("the last backup is %+v, want %s at %s", last, tc.last, tc.at)
			}
			if since := s.sn.Status.Backup.ObservedSchedule.Since; since.After(now) {
				t.Errorf("the schedule counts since %s", since)
			}
		})
	}
}

// TestBackupRequestIsIgnored: a value that is too long, or without spec.backup, is reported.
func TestBackupRequestIsIgnored(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		value  string
		backup *v1alpha1.BackupPolicy
		want   string
	}{
		"a value":              {value: "now", backup: &v1alpha1.BackupPolicy{}},
		"no value":             {},
		"a value too long":     {value: strings.Repeat("x", 65), backup: &v1alpha1.BackupPolicy{}, want: "at most 64 characters"},
		"without spec.backup":  {value: "now", want: "spec.backup is unset"},
		"too long and without": {value: strings.Repeat("x", 65), want: "spec.backup is unset"},
	} {
		t.Run(name, func(t *testing.T) {
			s := healthy(func(s *scope) {
				s.sn.Annotations, s.sn.Spec.Backup = map[string]string{v1alpha1.AnnotationBackupRequestedAt: tc.value}, tc.backup
			})
			status := computeStatus(s)
			c := meta.FindStatusCondition(status.Conditions, v1alpha1.ConditionAnnotationIgnored)
			if (c != nil) != (tc.want != "") || c != nil && !strings.Contains(c.Message, tc.want) {
				t.Errorf("got %+v, want a message with %q", c, tc.want)
			}
		})
	}
}

// TestBackupAccounts: the service accounts of backups exist while spec.backup is set. What is wrong
// with them is told of the backups alone, and an account of others is not deleted.
func TestBackupAccounts(t *testing.T) {
	t.Parallel()
	sn := object()
	sn.UID = "0b1d0000-0000-4000-8000-00000000000a"
	foreign := &corev1.ServiceAccount{ObjectMeta: metav1.ObjectMeta{Name: "notes-securenotes-backup-escrow", Namespace: "demo"}}
	r := wholeReconciler(t, &completeVault{}, foreign)
	pass := func(policy *v1alpha1.BackupPolicy, want ...string) v1alpha1.SecureNotesStatus {
		sn.Spec.Backup = policy
		s := healthy(func(s *scope) { s.sn = sn })
		if err := errors.Join(r.backupIdentities(t.Context(), s), r.manageBackups(t.Context(), s)); err != nil {
			t.Fatal(err)
		}
		list := &corev1.ServiceAccountList{}
		if err := r.Client.List(t.Context(), list); err != nil {
			t.Fatal(err)
		}
		var names []string
		for _, account := range list.Items {
			names = append(names, account.Name)
		}
		if !slices.Equal(names, want) {
			t.Errorf("got %v, want %v", names, want)
		}
		return computeStatus(s)
	}
	status := pass(&v1alpha1.BackupPolicy{}, "notes-securenotes-backup", foreign.Name, "notes-securenotes-drill")
	if c := meta.FindStatusCondition(status.Conditions, v1alpha1.ConditionBackupHealthy); c.Reason != v1alpha1.ReasonNameConflict || !strings.Contains(c.Message, foreign.Name) {
		t.Errorf("got %+v, want %s that names %s", c, v1alpha1.ReasonNameConflict, foreign.Name)
	}
	if c := meta.FindStatusCondition(status.Conditions, v1alpha1.ConditionReady); c.Status != metav1.ConditionTrue {
		t.Errorf("got %+v, want True", c)
	}
	pass(nil, foreign.Name)
	if err := r.Client.Delete(t.Context(), foreign); err != nil {
		t.Fatal(err)
	}
	pass(&v1alpha1.BackupPolicy{}, "notes-securenotes-backup", "notes-securenotes-backup-escrow", "notes-securenotes-drill")
	pass(nil)
}
