package securenotes

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	batchv1 "k8s.io/api/batch/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/interceptor"

	"github.com/securenotes/securenotes/api/v1alpha1"
	"github.com/securenotes/securenotes/controllers/internal/crashtest"
)

// listed returns a change of a backup: it has listed a destination with 3 backups, of which one
// needs the version oldest, and 2 have no escrow.
func listed(at time.Time, oldest int64) func(*v1alpha1.NotesBackup) {
	return func(nb *v1alpha1.NotesBackup) {
		nb.Status.Location = "persistentVolumeClaim/backups"
		nb.Status.Destination = &v1alpha1.BackupDestinationStatus{
			ObservedTime: new(metav1.NewTime(at)), Backups: 3, WithoutEscrow: 2, OldestKeyVersion: oldest,
			OldestTime: new(metav1.NewTime(at.Add(-48 * time.Hour))),
		}
	}
}

// backedUp is a change after which spec.backup is set and no backup was made.
func backedUp(s *scope) {
	s.sn.Spec.Backup = &v1alpha1.BackupPolicy{
		Keep:        &v1alpha1.BackupKeep{Count: new(int32(3))},
		Destination: v1alpha1.BackupDestination{PersistentVolumeClaim: &v1alpha1.BackupVolume{ClaimName: "backups"}},
	}
	s.sn.Status.Backup = &v1alpha1.BackupStatus{}
}

// lastListed returns a change after which the newest backup has listed the destination; see
// [listed].
func lastListed(at time.Time, oldest int64) func(*scope) {
	return func(s *scope) {
		backedUp(s)
		s.backupList = []v1alpha1.NotesBackup{*backup("listed", ended(v1alpha1.ConditionComplete, at), listed(at, oldest))}
		recordLastBackup(s)
	}
}

func annotated(key, value string) func(*scope) {
	return func(s *scope) { metav1.SetMetaDataAnnotation(&s.sn.ObjectMeta, key, value) }
}

func destination(change func(*v1alpha1.BackupDestinationStatus)) func(*scope) {
	return func(s *scope) { change(s.sn.Status.Backup.Destination) }
}

// TestTrimHold: a trim waits unless a new listing shows that no backup needs the versions. The
// message says why, and how the trim is released.
func TestTrimHold(t *testing.T) {
	t.Parallel()
	accepted := func(version string) func(*scope) {
		return annotated(v1alpha1.AnnotationTrimDespiteBackups, version)
	}
	hourAgo := now.Add(-time.Hour)
	open := func(s *scope) { s.backupList = append(s.backupList, *backup("open")) }
	for name, tc := range map[string]struct {
		changes []func(*scope)
		// want are parts of the message; none if nothing holds the trim of the versions below 3.
		want []string
	}{
		"no spec.backup":                 {},
		"no backup was made":             {changes: []func(*scope){backedUp}, want: []string{"no complete backup has listed", "make a backup", "trim-despite-backups=3"}},
		"spec.backup has just been set":  {changes: []func(*scope){backedUp, func(s *scope) { s.sn.Status.Backup = nil }}, want: []string{"no complete backup has listed"}},
		"no backup needs them":           {changes: []func(*scope){lastListed(hourAgo, 3)}},
		"the listing is not new enough":  {changes: []func(*scope){lastListed(now.Add(-24*time.Hour), 3)}, want: []string{"is older than 24 h: make a backup", "trim-despite-backups=3"}},
		"the listing is just new enough": {changes: []func(*scope){lastListed(now.Add(-24*time.Hour+time.Second), 3)}},
		"the clock of the node was fast": {changes: []func(*scope){lastListed(now.Add(-25*time.Hour), 3), destination(func(d *v1alpha1.BackupDestinationStatus) { d.ObservedTime = new(metav1.NewTime(now)) })}, want: []string{"is older than 24 h"}},
		"the clock of the node was slow": {changes: []func(*scope){lastListed(hourAgo, 3), destination(func(d *v1alpha1.BackupDestinationStatus) {
			d.ObservedTime = new(metav1.NewTime(now.Add(-25 * time.Hour)))
		})}, want: []string{"is older than 24 h"}},
		"the last one could not list":        {changes: []func(*scope){lastListed(hourAgo, 3), func(s *scope) { s.sn.Status.Backup.Destination = nil }}, want: []string{"no complete backup has listed"}},
		"another destination":                {changes: []func(*scope){lastListed(hourAgo, 3), func(s *scope) { s.sn.Spec.Backup.Destination.PersistentVolumeClaim.ClaimName = "other" }}, want: []string{"spec.backup.destination has changed"}},
		"a backup needs one":                 {changes: []func(*scope){lastListed(hourAgo, 2)}, want: []string{"the oldest of 2", "need versions from 2 on", "2 of 3 have no escrow", "spec.backup.keep no longer keeps them", "trim-despite-backups=3"}},
		"a backup with escrow needs one":     {changes: []func(*scope){lastListed(hourAgo, 2), destination(func(d *v1alpha1.BackupDestinationStatus) { d.WithoutEscrow = 0 })}, want: []string{"need versions from 2 on", "0 of 3 have no escrow"}},
		"one needs one, and nothing expires": {changes: []func(*scope){lastListed(hourAgo, 2), func(s *scope) { s.sn.Spec.Backup.Keep = nil }}, want: []string{"set spec.backup.keep, or delete them and then make a backup"}},
		"one needed one a week ago":          {changes: []func(*scope){lastListed(now.Add(-7*24*time.Hour), 2)}, want: []string{"need versions from 2 on"}},
		"all backups were deleted":           {changes: []func(*scope){lastListed(hourAgo, 0), destination(func(d *v1alpha1.BackupDestinationStatus) { d.Backups, d.OldestTime = 0, nil })}},
		"accepted":                           {changes: []func(*scope){lastListed(hourAgo, 2), accepted("3")}},
		"accepted without a listing":         {changes: []func(*scope){backedUp, accepted("3")}},
		"accepted for fewer versions":        {changes: []func(*scope){lastListed(hourAgo, 1), accepted("2")}, want: []string{"trim-despite-backups=3"}},
		"accepted for more versions":         {changes: []func(*scope){lastListed(hourAgo, 1), accepted("4")}, want: []string{"trim-despite-backups=3"}},
		"accepted in another notation":       {changes: []func(*scope){lastListed(hourAgo, 1), accepted("03")}, want: []string{"trim-despite-backups=3"}},
		"a backup is being made":             {changes: []func(*scope){lastListed(hourAgo, 3), open}, want: []string{"NotesBackup open has not ended: wait for its end, or delete it"}},
		"accepted, a backup is being made":   {changes: []func(*scope){lastListed(hourAgo, 2), accepted("3"), open}, want: []string{"NotesBackup open has not ended"}},
	} {
		t.Run(name, func(t *testing.T) {
			got := trimHold(healthy(append([]func(*scope){retiredAgo(2, 3)}, tc.changes...)...), 3)
			if (got == "") != (len(tc.want) == 0) || len(got) > 1024 {
				t.Errorf("held because %q, want %q", got, tc.want)
			}
			for _, part := range tc.want {
				if !strings.Contains(got, part) {
					t.Errorf("held because %q, want %q", got, part)
				}
			}
		})
	}
}

// pass runs the phases of retirement and trim.
func pass(t *testing.T, r *Reconciler, s *scope) {
	t.Helper()
	if err := retireAndTrim(t.Context(), r, s); err != nil {
		t.Fatal(err)
	}
}

func jobCount(t *testing.T, r *Reconciler) int {
	t.Helper()
	jobs := &batchv1.JobList{}
	if err := r.Client.List(t.Context(), jobs); err != nil {
		t.Fatal(err)
	}
	return len(jobs.Items)
}

// TestTrimWaitsForBackups: a held trim is no fault, starts no Job, and counts no attempt. A new
// listing releases it.
func TestTrimWaitsForBackups(t *testing.T) {
	t.Parallel()
	vault := &fakeVault{}
	s := healthy(retiredAgo(3, 4), backedUp)
	s.rotationFinding = good(v1alpha1.ReasonIdle, "no rotation is running")
	old := backup("old", ended(v1alpha1.ConditionComplete, now.Add(-2*time.Hour)), listed(now.Add(-2*time.Hour), 1))
	r := reconciler(t, vault, s.sn.DeepCopy(), old)
	for range 3 {
		pass(t, r, s)
	}
	entry := s.sn.Status.MasterKey.Retirements[0]
	if entry.Reason != v1alpha1.ReasonHeldByBackup || !strings.Contains(entry.Message, "need versions from 1 on") || entry.Attempt != 0 || entry.RetryTime != nil {
		t.Errorf("got %+v, want %s in the first attempt", entry, v1alpha1.ReasonHeldByBackup)
	}
	if n := jobCount(t, r); n != 0 || len(s.events) != 0 {
		t.Errorf("%d Jobs, events %+v", n, s.events)
	}
	f := rotationHealthy(s)
	if f.status != metav1.ConditionTrue || f.reason != v1alpha1.ReasonHeldByBackup || !strings.Contains(f.message, "below 3 are not destroyed yet: backups in the destination") {
		t.Errorf("got %+v, want True with %s", f, v1alpha1.ReasonHeldByBackup)
	}
	status := computeStatus(s)
	if meta.FindStatusCondition(status.Conditions, v1alpha1.ConditionStalled) != nil {
		t.Error("it is Stalled")
	}
	s.rotationList = make([]v1alpha1.KeyRotation, 1)
	s.rotationFinding.reason = v1alpha1.ReasonRotating
	pass(t, r, s)
	if f := rotationHealthy(s); f.reason != v1alpha1.ReasonRotating || !strings.Contains(f.message, "below 3 are not destroyed yet") {
		t.Errorf("during a rotation: %+v", f)
	}
	s.rotationList = nil
	s.rotationFinding.reason = v1alpha1.ReasonIdle
	if err := r.Client.Create(t.Context(), backup("new", ended(v1alpha1.ConditionComplete, now), listed(now, 3))); err != nil {
		t.Fatal(err)
	}
	pass(t, r, s)
	if f := rotationHealthy(s); f.reason != v1alpha1.ReasonIdle || f.message != "no rotation is running" {
		t.Errorf("released: %+v", f)
	}
	endJob(t, r, batchv1.JobComplete)
	pass(t, r, s)
	if vault.trimmed != 3 {
		t.Errorf("versions below %d were destroyed, want 3", vault.trimmed)
	}
}

// TestOlderTrim: the newest retirement that is old enough waits for backups. The versions of an
// older one are destroyed, because no backup needs them.
func TestOlderTrim(t *testing.T) {
	t.Parallel()
	vault := &fakeVault{}
	s := healthy(retiredAgo(2, 3, 4, 5), after("24h"), backedUp)
	r := reconciler(t, vault, s.sn.DeepCopy(), backup("listed", ended(v1alpha1.ConditionComplete, now), listed(now, 3)))
	pass(t, r, s)
	endJob(t, r, batchv1.JobComplete)
	pass(t, r, s)
	if vault.trimmed != 3 {
		t.Errorf("versions below %d were destroyed, want 3", vault.trimmed)
	}
	pass(t, r, s)
	if held := heldTrim(s.sn); held == nil || held.ToVersion != 5 || jobCount(t, r) != 0 {
		t.Errorf("held: %+v; %d Jobs", held, jobCount(t, r))
	}
}

// TestTrimReadsPastTheCache: right before versions are destroyed, the operator reads the object and
// its backups past the cache.
func TestTrimReadsPastTheCache(t *testing.T) {
	t.Parallel()
	hourAgo := now.Add(-time.Hour)
	cached := backup("cached", ended(v1alpha1.ConditionComplete, hourAgo), listed(hourAgo, 1))
	accept := annotated(v1alpha1.AnnotationTrimDespiteBackups, "3")
	for name, tc := range map[string]struct {
		newer   *v1alpha1.NotesBackup
		changed func(*v1alpha1.SecureNotes)
		want    string
	}{
		"unchanged":                       {},
		"a backup is being made":          {newer: backup("newer"), want: "NotesBackup newer has not ended"},
		"one of another SecureNotes":      {newer: backup("newer", func(nb *v1alpha1.NotesBackup) { nb.Spec.SecureNotesRef.Name = "other" })},
		"one of an earlier object":        {newer: backup("newer", ofAnother)},
		"the annotation was removed":      {changed: func(sn *v1alpha1.SecureNotes) { sn.Annotations = nil }, want: "need versions from 1 on"},
		"removed, but nothing is needed":  {changed: func(sn *v1alpha1.SecureNotes) { sn.Annotations = nil }, newer: backup("newer", ended(v1alpha1.ConditionComplete, now), listed(now, 3))},
		"removed, and nothing was listed": {changed: func(sn *v1alpha1.SecureNotes) { sn.Annotations = nil }, newer: backup("newer", ended(v1alpha1.ConditionComplete, now)), want: "no complete backup has listed"},
	} {
		t.Run(name, func(t *testing.T) {
			vault := &fakeVault{}
			s := healthy(retiredAgo(3, 4), backedUp, accept)
			live := s.sn.DeepCopy()
			if tc.changed != nil {
				tc.changed(live)
			}
			objects := []client.Object{live, cached.DeepCopy()}
			if tc.newer != nil {
				objects = append(objects, tc.newer.DeepCopy())
			}
			r := reconciler(t, vault, objects...)
			r.Client = interceptor.NewClient(r.Client.(client.WithWatch), interceptor.Funcs{
				List: func(ctx context.Context, c client.WithWatch, list client.ObjectList, opts ...client.ListOption) error {
					err := c.List(ctx, list, opts...)
					if list, ok := list.(*v1alpha1.NotesBackupList); ok {
						list.Items = slices.DeleteFunc(list.Items, func(nb v1alpha1.NotesBackup) bool { return nb.Name == "newer" })
					}
					return err
				},
			})
			pass(t, r, s)
			endJob(t, r, batchv1.JobComplete)
			pass(t, r, s)
			held := heldTrim(s.sn)
			if tc.want == "" {
				if vault.trimmed != 3 || held != nil {
					t.Errorf("versions below %d were destroyed, held: %+v", vault.trimmed, held)
				}
				return
			}
			if vault.trimmed != 0 || held == nil || !strings.Contains(held.Message, tc.want) || held.Attempt > 1 || s.requeue.after == 0 {
				t.Errorf("versions below %d were destroyed, held: %+v, want %q", vault.trimmed, held, tc.want)
			}
		})
	}
}

// TestTrimConsent: the annotation is ignored, with the right value in the condition, unless it
// names a version that a trim keeps or has kept.
func TestTrimConsent(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		value string
		free  bool
		want  string
	}{
		"the held trim":    {value: "4"},
		"an older one":     {value: "3"},
		"a later one":      {value: "5"},
		"of a past trim":   {value: "2"},
		"no such version":  {value: "7", want: `trim-despite-backups="7" is ignored: the value must be "4"`},
		"nothing is held":  {value: "7", free: true},
		"true":             {value: "true", want: "the value must be the number of the oldest version that is kept"},
		"empty":            {value: "", want: "the value must be the number"},
		"zero":             {value: "0", want: "the value must be the number"},
		"another notation": {value: "+4", want: "the value must be the number"},
	} {
		t.Run(name, func(t *testing.T) {
			s := healthy(retiredAgo(3, 4, 5), backedUp, annotated(v1alpha1.AnnotationTrimDespiteBackups, tc.value))
			s.sn.Status.MasterKey.MinAvailableVersion = 2
			if !tc.free {
				holdTrim(&s.sn.Status.MasterKey.Retirements[1], "so")
			}
			if got := strings.Join(ignoredAnnotations(s), "; "); (got == "") != (tc.want == "") || !strings.Contains(got, tc.want) {
				t.Errorf("ignored: %q, want %q", got, tc.want)
			}
		})
	}
}

// TestRetirementIsAnnounced: a planned retirement after which a backup needs a version that no
// longer decrypts says so, with one event, and is not held.
func TestRetirementIsAnnounced(t *testing.T) {
	t.Parallel()
	later := func(s *scope) {
		s.sn.Status.MasterKey.PendingRetirements[0].Due = metav1.NewTime(now.Add(time.Hour))
	}
	hourAgo := now.Add(-time.Hour)
	for name, tc := range map[string]struct {
		changes []func(*scope)
		// want are parts of the message; none if there is none.
		want []string
		kind string
	}{
		"no spec.backup":       {},
		"no listing":           {changes: []func(*scope){backedUp}},
		"no backup needs one":  {changes: []func(*scope){lastListed(hourAgo, 3)}},
		"no backups":           {changes: []func(*scope){lastListed(hourAgo, 1), destination(func(d *v1alpha1.BackupDestinationStatus) { d.Backups = 0 })}},
		"a backup needs one":   {changes: []func(*scope){lastListed(hourAgo, 2)}, want: []string{"below 3 stop decrypting after ", "needs version 2", "retainOldVersionFor longer or spec.backup.keep shorter", "with spec.backup.escrow need no version"}, kind: "Warning"},
		"all have escrow":      {changes: []func(*scope){lastListed(hourAgo, 2), destination(func(d *v1alpha1.BackupDestinationStatus) { d.WithoutEscrow = 0 })}, want: []string{"needs version 2"}, kind: "Normal"},
		"after a Compromise":   {changes: []func(*scope){lastListed(hourAgo, 2), func(s *scope) { s.sn.Status.MasterKey.PendingRetirements[0].Urgent = true }}, want: []string{"needs version 2"}, kind: "Warning"},
		"an old listing":       {changes: []func(*scope){lastListed(now.Add(-240*time.Hour), 2)}, want: []string{"needs version 2"}, kind: "Warning"},
		"escrow is set by now": {changes: []func(*scope){lastListed(hourAgo, 2), func(s *scope) { s.sn.Spec.Backup.Escrow = &v1alpha1.BackupEscrow{} }}, want: []string{"needs version 2"}, kind: "Warning"},
	} {
		t.Run(name, func(t *testing.T) {
			vault := &fakeVault{}
			s := healthy(append([]func(*scope){dueAt(3), later}, tc.changes...)...)
			r := reconciler(t, vault, s.sn.DeepCopy())
			for range 2 {
				pass(t, r, s)
			}
			f := rotationHealthy(s)
			if f.status != metav1.ConditionTrue || f.reason != "Ready" {
				t.Errorf("got %+v, want True", f)
			}
			if len(tc.want) == 0 {
				if len(s.events) != 0 || f.message != "fine" || s.sn.Status.MasterKey.PendingRetirements[0].NeededByBackup != 0 {
					t.Errorf("%+v, events %+v", f, s.events)
				}
			} else if len(s.events) != 1 || s.events[0].kind != tc.kind || s.events[0].reason != "BackupNeedsVersion" || !strings.HasSuffix(f.message, s.events[0].message) || len(s.events[0].message) > 1024 {
				t.Fatalf("%+v, events %+v", f, s.events)
			}
			for _, part := range tc.want {
				if !strings.Contains(f.message, part) {
					t.Errorf("got %q, want %q", f.message, part)
				}
			}
			if got := strings.Contains(f.message, "retainOldVersionFor"); len(tc.want) > 0 && got == (name == "after a Compromise") {
				t.Errorf("got %q", f.message)
			}
			if got := strings.Contains(f.message, "spec.backup.escrow"); len(tc.want) > 0 && got == (name == "escrow is set by now") {
				t.Errorf("got %q", f.message)
			}
			s.now = now.Add(time.Hour)
			pass(t, r, s)
			endJobAt(t, r, batchv1.JobComplete, s.now)
			pass(t, r, s)
			if vault.floor != 3 {
				t.Errorf("the floor is %d, want 3", vault.floor)
			}
		})
	}
	t.Run("no longer needed", func(t *testing.T) {
		s := healthy(dueAt(3), later, lastListed(hourAgo, 2))
		announceRetirements(s)
		s.sn.Status.Backup.Destination.OldestKeyVersion = 3
		announceRetirements(s)
		if f := rotationHealthy(s); f.message != "fine" || len(s.events) != 1 {
			t.Errorf("%+v, events %+v", f, s.events)
		}
	})
}

// TestDeletionWaitsForBackups: deletionPolicy Delete destroys no key that backups without escrow
// need, unless an annotation accepts it.
func TestDeletionWaitsForBackups(t *testing.T) {
	t.Parallel()
	annotation := func(key, value string) func(*v1alpha1.SecureNotes) {
		return func(sn *v1alpha1.SecureNotes) { sn.Annotations = map[string]string{key: value} }
	}
	complete := func(withoutEscrow int64) *v1alpha1.NotesBackup {
		return backup("complete", ended(v1alpha1.ConditionComplete, now), listed(now, 1), func(nb *v1alpha1.NotesBackup) { nb.Status.Destination.WithoutEscrow = withoutEscrow })
	}
	for name, tc := range map[string]struct {
		change func(*v1alpha1.SecureNotes)
		backup *v1alpha1.NotesBackup
		// kept reports whether the keys stay; want is a part of the message of a held deletion.
		kept bool
		want string
	}{
		"no backup":                {},
		"a failed backup":          {backup: backup("failed", ended(v1alpha1.ConditionFailed, now))},
		"all have escrow":          {backup: complete(0)},
		"some have none":           {backup: complete(2), want: "2 of 3 backups in the destination have no escrow"},
		"it was not listed":        {backup: backup("complete", ended(v1alpha1.ConditionComplete, now)), want: "was not listed after the newest backup"},
		"of an earlier object":     {backup: func() *v1alpha1.NotesBackup { nb := complete(2); ofAnother(nb); return nb }()},
		"no spec.backup":           {backup: complete(2), change: func(sn *v1alpha1.SecureNotes) { sn.Spec.Backup = nil }},
		"the keys are retained":    {backup: complete(2), change: func(sn *v1alpha1.SecureNotes) { sn.Spec.DeletionPolicy = v1alpha1.DeletionPolicyRetain }, kept: true},
		"accepted":                 {backup: complete(2), change: annotation(v1alpha1.AnnotationDeleteDespiteBackups, "true")},
		"accepted with another":    {backup: complete(2), change: annotation(v1alpha1.AnnotationDeleteDespiteBackups, "yes"), want: "delete-despite-backups=true"},
		"the keys are left behind": {backup: complete(2), change: annotation(v1alpha1.AnnotationAbandonVault, "true"), kept: true},
		"listed and then deleted": {want: "have no escrow", change: func(sn *v1alpha1.SecureNotes) {
			sn.Status.Backup.Last, sn.Status.Backup.Destination = &v1alpha1.LastBackup{CompletionTime: new(metav1.NewTime(now))}, complete(1).Status.Destination
		}},
	} {
		t.Run(name, func(t *testing.T) {
			l := deletedLife(t, &crashtest.Crash{}, tc.change, tc.backup)
			reconcile := func() {
				t.Helper()
				if err := l.reconcile(); err != nil {
					t.Fatal(err)
				}
			}
			reconcile()
			left := &v1alpha1.SecureNotes{}
			err := l.Get(t.Context(), client.ObjectKeyFromObject(object()), left)
			if tc.want == "" {
				if !apierrors.IsNotFound(err) || l.shredded == tc.kept {
					t.Errorf("%v, shredded: %t, conditions %+v", err, l.shredded, left.Status.Conditions)
				}
				return
			}
			ready := meta.FindStatusCondition(left.Status.Conditions, v1alpha1.ConditionReady)
			if err != nil || l.shredded || ready.Status != metav1.ConditionFalse || ready.Reason != v1alpha1.ReasonHeldByBackup || !strings.Contains(ready.Message, tc.want) || !strings.Contains(ready.Message, "Retain") {
				t.Errorf("%v, shredded: %t, %+v", err, l.shredded, ready)
			}
			before := l.crash.Count
			reconcile()
			if l.crash.Count != before {
				t.Errorf("a settled pass did %d writes", l.crash.Count-before)
			}
			annotation(v1alpha1.AnnotationDeleteDespiteBackups, "true")(left)
			if err := l.Update(t.Context(), left); err != nil {
				t.Fatal(err)
			}
			reconcile()
			if err := l.Get(t.Context(), client.ObjectKeyFromObject(object()), left); err == nil || !l.shredded {
				t.Errorf("accepted: %v, shredded: %t", err, l.shredded)
			}
		})
	}
}

// deletedLife returns the life of a SecureNotes that is being deleted with deletionPolicy Delete.
// change and nb may be nil.
func deletedLife(t *testing.T, c *crashtest.Crash, change func(*v1alpha1.SecureNotes), nb *v1alpha1.NotesBackup) *life {
	t.Helper()
	l := newLife(t, c)
	l.now = now
	sn := l.object()
	sn.Spec.DeletionPolicy, sn.Finalizers = v1alpha1.DeletionPolicyDelete, []string{v1alpha1.Finalizer}
	sn.Status.DeploymentID, sn.Status.Backup = "uid", &v1alpha1.BackupStatus{}
	if change != nil {
		change(sn)
	}
	status := sn.Status
	if err := l.Update(t.Context(), sn); err != nil {
		t.Fatal(err)
	}
	sn.Status = status
	if err := l.Status().Update(t.Context(), sn); err != nil {
		t.Fatal(err)
	}
	if nb != nil {
		if err := l.Create(t.Context(), nb); err != nil {
			t.Fatal(err)
		}
	}
	if err := l.Delete(t.Context(), sn); err != nil {
		t.Fatal(err)
	}
	return l
}

func (l *life) reconcile() error {
	_, err := l.operator().Reconcile(l.t.Context(), ctrl.Request{NamespacedName: client.ObjectKeyFromObject(object())})
	return err
}

// TestCrashInHeldDeletion crashes the operator before and after each write of a deletion that waits
// for backups. The keys are destroyed only after the annotation.
func TestCrashInHeldDeletion(t *testing.T) {
	t.Parallel()
	crashtest.Story[*life]{
		Begin: func(t *testing.T, c *crashtest.Crash) *life {
			return deletedLife(t, c, nil, backup("complete", ended(v1alpha1.ConditionComplete, now), listed(now, 1)))
		},
		Fork: func(t *testing.T, l *life, c *crashtest.Crash) *life { return l.fork(t, c) },
		Pass: func(t *testing.T, l *life) bool {
			before := l.crash.Count
			if err := l.reconcile(); err != nil && !errors.Is(err, crashtest.ErrCrash) {
				t.Fatal(err)
			}
			sn := &v1alpha1.SecureNotes{}
			if err := l.Get(t.Context(), client.ObjectKeyFromObject(object()), sn); err != nil {
				return false
			}
			accepted := len(sn.Annotations) > 0
			if l.shredded && !accepted {
				t.Error("the keys were destroyed while the deletion waited for backups")
			}
			if l.crash.Count == before && !accepted {
				sn.Annotations = map[string]string{v1alpha1.AnnotationDeleteDespiteBackups: "true"}
				if err := l.Update(t.Context(), sn); err != nil {
					t.Fatal(err)
				}
			}
			return true
		},
	}.Everywhere(t, 3, func(t *testing.T, l *life) {
		if !l.shredded {
			t.Error("the keys were not destroyed")
		}
	})
}
