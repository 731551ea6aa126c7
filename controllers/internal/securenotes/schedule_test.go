package securenotes

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/interceptor"

	"github.com/securenotes/securenotes/api/v1alpha1"
	"github.com/securenotes/securenotes/controllers/internal/crashtest"
)

// step is a pass at a time, after something has happened.
type step struct {
	at     string
	happen func(*testing.T, *Reconciler, *v1alpha1.SecureNotes)
	// want lists the times of 2026 whose scheduled rotations exist, or backups.
	want string
}

func moment(t *testing.T, text string) time.Time {
	t.Helper()
	at, err := time.Parse("2006 Jan 2 15:04", "2026 "+text)
	if err != nil {
		t.Fatal(err)
	}
	return at
}

// policy returns a change of spec.keyRotation and spec.backup.
func policy(change func(*v1alpha1.KeyRotationPolicy, *v1alpha1.BackupPolicy)) func(*testing.T, *Reconciler, *v1alpha1.SecureNotes) {
	return func(_ *testing.T, _ *Reconciler, sn *v1alpha1.SecureNotes) {
		sn.Generation++
		change(sn.Spec.KeyRotation, sn.Spec.Backup)
	}
}

func withSchedule(text string) func(*v1alpha1.KeyRotationPolicy, *v1alpha1.BackupPolicy) {
	return func(r *v1alpha1.KeyRotationPolicy, b *v1alpha1.BackupPolicy) { r.Schedule, b.Schedule = text, text }
}

func zone(name string) func(*v1alpha1.KeyRotationPolicy, *v1alpha1.BackupPolicy) {
	return func(r *v1alpha1.KeyRotationPolicy, b *v1alpha1.BackupPolicy) { r.TimeZone, b.TimeZone = name, name }
}

func paused(yes bool) func(*v1alpha1.KeyRotationPolicy, *v1alpha1.BackupPolicy) {
	return func(r *v1alpha1.KeyRotationPolicy, b *v1alpha1.BackupPolicy) { r.Suspend, b.Suspend = &yes, &yes }
}

// complete completes every rotation and every backup.
func complete(t *testing.T, r *Reconciler, _ *v1alpha1.SecureNotes) {
	t.Helper()
	list := &v1alpha1.KeyRotationList{}
	if err := r.Client.List(t.Context(), list); err != nil {
		t.Fatal(err)
	}
	for _, kr := range list.Items {
		meta.SetStatusCondition(&kr.Status.Conditions, metav1.Condition{Type: v1alpha1.ConditionComplete, Status: metav1.ConditionTrue, Reason: v1alpha1.ReasonComplete})
		if err := r.Client.Status().Update(t.Context(), &kr); err != nil {
			t.Fatal(err)
		}
	}
	for _, nb := range allBackups(t, r) {
		if nb.Status.CompletionTime == nil {
			end(t, r, &nb, v1alpha1.ConditionComplete, now)
		}
	}
}

// earlier returns a change to the status of an earlier release, which did not record the schedule.
func earlier(t *testing.T, last, next string) func(*testing.T, *Reconciler, *v1alpha1.SecureNotes) {
	return func(_ *testing.T, _ *Reconciler, sn *v1alpha1.SecureNotes) {
		sn.Generation++
		if last != "" {
			sn.Status.LastScheduleTime = new(metav1.NewTime(moment(t, last)))
		}
		sn.Status.MasterKey = &v1alpha1.MasterKeyStatus{NextRotationTime: new(metav1.NewTime(moment(t, next)))}
	}
}

// TestSchedule: a time counts as missed only if the schedule was the current one at that time. Each
// step runs a pass that is not recorded, and then two more. Rotations and backups behave alike.
func TestSchedule(t *testing.T) {
	t.Parallel()
	const monthly = "0 3 1 * *"
	for name, tc := range map[string]struct {
		created string
		steps   []step
	}{
		"set at creation": {created: monthly, steps: []step{
			{at: "Jan 1 02:59", want: ""}, {at: "Jan 1 03:00", want: "Jan 1 03:00"},
		}},
		"of an object that is reconciled late": {created: monthly, steps: []step{{at: "Mar 20 12:00", want: "Mar 1 03:00"}}},
		"set later": {created: "", steps: []step{
			{at: "Jan 1 00:01", want: ""},
			{at: "Mar 20 12:00", happen: policy(withSchedule(monthly)), want: ""}, {at: "Apr 1 03:00", want: "Apr 1 03:00"},
		}},
		"set before the first pass": {steps: []step{{at: "Mar 20 12:00", happen: policy(withSchedule(monthly)), want: ""}}},
		"changed": {created: "0 3 25 * *", steps: []step{
			{at: "Jan 1 00:01", want: ""},
			{at: "Jan 20 12:00", happen: policy(withSchedule("0 3 10 * *")), want: ""}, {at: "Feb 10 03:00", want: "Feb 10 03:00"},
		}},
		"changed after a rotation": {created: monthly, steps: []step{
			{at: "Feb 1 03:00", want: "Feb 1 03:00"}, {at: "Feb 1 04:00", happen: complete, want: "Feb 1 03:00"},
			{at: "Feb 20 12:00", happen: policy(withSchedule("0 3 10 * *")), want: "Feb 1 03:00"}, {at: "Mar 10 03:00", want: "Feb 1 03:00, Mar 10 03:00"},
		}},
		"of another time zone": {created: "0 3 * * *", steps: []step{
			{at: "Jan 1 00:01", want: ""},
			// It is 04:00 in Cairo, so 03:00 has passed since the object was created.
			{at: "Jan 1 02:00", happen: policy(zone("Africa/Cairo")), want: ""}, {at: "Jan 2 01:00", want: "Jan 2 01:00"},
		}},
		"the default time zone by name": {created: monthly, steps: []step{
			{at: "Jan 1 00:01", want: ""}, {at: "Feb 1 03:00", happen: policy(zone("Etc/UTC")), want: "Feb 1 03:00"},
		}},
		"removed and set again": {created: monthly, steps: []step{
			{at: "Feb 1 03:00", want: "Feb 1 03:00"}, {at: "Feb 1 04:00", happen: complete, want: "Feb 1 03:00"},
			{at: "Feb 2 00:00", happen: policy(withSchedule("")), want: "Feb 1 03:00"},
			{at: "Apr 20 12:00", happen: policy(withSchedule(monthly)), want: "Feb 1 03:00"}, {at: "May 1 03:00", want: "Feb 1 03:00, May 1 03:00"},
		}},
		"invalid at first": {created: "whenever", steps: []step{
			{at: "Jan 1 00:01", want: ""}, {at: "Mar 20 12:00", happen: policy(withSchedule(monthly)), want: ""}, {at: "Apr 1 03:00", want: "Apr 1 03:00"},
		}},
		"suspended: caught up once": {created: monthly, steps: []step{
			{at: "Jan 1 00:01", happen: policy(paused(true)), want: ""}, {at: "Apr 20 12:00", want: ""},
			{at: "Apr 20 12:01", happen: policy(paused(false)), want: "Apr 1 03:00"}, {at: "Apr 20 12:30", happen: complete, want: "Apr 1 03:00"},
		}},
		"changed while suspended": {created: monthly, steps: []step{
			{at: "Jan 1 00:01", happen: policy(paused(true)), want: ""}, {at: "Apr 20 12:00", happen: policy(withSchedule("0 3 10 * *")), want: ""},
			{at: "Apr 20 12:01", happen: policy(paused(false)), want: ""}, {at: "May 10 03:00", want: "May 10 03:00"},
		}},
		"a time during a rotation": {created: "0 3 * * *", steps: []step{
			{at: "Jan 1 03:00", want: "Jan 1 03:00"}, {at: "Jan 4 12:00", want: "Jan 1 03:00"},
			{at: "Jan 4 12:01", happen: complete, want: "Jan 1 03:00, Jan 4 03:00"},
		}},
		"changed during a rotation": {created: "0 3 * * *", steps: []step{
			{at: "Jan 1 03:00", want: "Jan 1 03:00"}, {at: "Jan 1 04:00", happen: policy(withSchedule("0 2 * * *")), want: "Jan 1 03:00"},
			{at: "Jan 1 05:00", happen: complete, want: "Jan 1 03:00"}, {at: "Jan 2 02:00", want: "Jan 1 03:00, Jan 2 02:00"},
		}},
		"changed during a long rotation": {created: "0 3 * * *", steps: []step{
			{at: "Jan 1 03:00", want: "Jan 1 03:00"}, {at: "Jan 1 04:00", happen: policy(withSchedule("0 2 * * *")), want: "Jan 1 03:00"},
			{at: "Jan 3 05:00", want: "Jan 1 03:00"}, {at: "Jan 3 05:01", happen: complete, want: "Jan 1 03:00, Jan 3 02:00"},
		}},
		"from an earlier release, nothing missed":    {created: monthly, steps: []step{{at: "Feb 20 12:00", happen: earlier(t, "Feb 1 03:00", "Mar 1 03:00"), want: ""}}},
		"from an earlier release, missed in between": {created: monthly, steps: []step{{at: "Mar 1 03:10", happen: earlier(t, "Feb 1 03:00", "Mar 1 03:00"), want: "Mar 1 03:00"}}},
		"from an earlier release, the first time":    {created: monthly, steps: []step{{at: "Feb 1 03:10", happen: earlier(t, "", "Feb 1 03:00"), want: "Feb 1 03:00"}}},
		"from an earlier release, then changed": {created: monthly, steps: []step{
			{at: "Feb 20 12:00", happen: earlier(t, "Feb 1 03:00", "Mar 1 03:00"), want: ""}, {at: "Feb 20 12:01", happen: policy(withSchedule("0 3 10 * *")), want: ""}, {at: "Mar 10 03:00", want: "Mar 10 03:00"},
		}},
	} {
		t.Run(name, func(t *testing.T) {
			r := reconciler(t, &fakeVault{})
			at := moment(t, "Jan 1 00:00")
			createdAt(t, r, &at)
			sn := object()
			sn.CreationTimestamp, sn.Generation = metav1.NewTime(moment(t, "Jan 1 00:00")), 1
			sn.Spec.KeyRotation, sn.Spec.Backup = &v1alpha1.KeyRotationPolicy{Schedule: tc.created}, &v1alpha1.BackupPolicy{Schedule: tc.created}
			for _, step := range tc.steps {
				if at = moment(t, step.at); step.happen != nil {
					step.happen(t, r, sn)
				}
				for _, pass := range []*v1alpha1.SecureNotes{sn.DeepCopy(), sn, sn} {
					s := healthy(func(s *scope) { s.sn, s.now = pass, at })
					if err := errors.Join(r.manageRotations(t.Context(), s), r.manageBackups(t.Context(), s)); err != nil {
						t.Fatal(err)
					}
					invalid := sn.Spec.KeyRotation.Schedule == "whenever"
					if s.rotationFinding.status != metav1.ConditionTrue != invalid || (s.backupFinding.reason == v1alpha1.ReasonInvalidSchedule) != invalid {
						t.Fatalf("%s: %+v, %+v", step.at, s.rotationFinding, s.backupFinding)
					}
					if !equality.Semantic.DeepEqual(s.nextRotation, pass.Status.Backup.NextTime) {
						t.Fatalf("%s: the next rotation is at %s, the next backup at %s", step.at, s.nextRotation, pass.Status.Backup.NextTime)
					}
				}
				if got := strings.Join(scheduledFor(t, r), ", "); got != step.want {
					t.Fatalf("%s: the schedule has created rotations for %q, want %q", step.at, got, step.want)
				}
				// No earlier release made backups.
				if got := strings.Join(scheduledBackups(t, r), ", "); got != step.want && !strings.HasPrefix(name, "from an earlier release") {
					t.Fatalf("%s: the schedule has created backups for %q, want %q", step.at, got, step.want)
				}
			}
		})
	}
}

// createdAt makes the API server set the creation time of what the reconciler creates.
func createdAt(t *testing.T, r *Reconciler, at *time.Time) {
	t.Helper()
	own, ok := r.Client.(client.WithWatch)
	if !ok {
		t.Fatal("the operator's client cannot be wrapped")
	}
	r.Client = interceptor.NewClient(own, (&crashtest.Crash{}).Interceptor(func() time.Time { return *at }))
}

// scheduledFor returns the times for which the schedule has created rotations.
func scheduledFor(t *testing.T, r *Reconciler) []string {
	t.Helper()
	list := &v1alpha1.KeyRotationList{}
	if err := r.Client.List(t.Context(), list); err != nil {
		t.Fatal(err)
	}
	var times []string
	for _, kr := range list.Items {
		if kr.Status.CreatedBy == v1alpha1.CreatedBySchedule {
			times = append(times, dueOf(t, kr.Name))
		}
	}
	slices.Sort(times)
	return times
}

// dueOf returns the time for which a schedule has created an object.
func dueOf(t *testing.T, name string) string {
	t.Helper()
	minutes, err := time.ParseDuration(strings.TrimPrefix(name, "notes-") + "m")
	if err != nil {
		t.Fatal(err)
	}
	return time.Unix(0, 0).Add(minutes).UTC().Format("Jan 2 15:04")
}

// TestHistoryLimit: the newest scheduled rotation stays, whatever other rotations exist, and a
// running one is never deleted.
func TestHistoryLimit(t *testing.T) {
	t.Parallel()
	byHand := newRotation(object(), "by-hand")
	byHand.Labels[v1alpha1.LabelScheduled] = "true" // set by a user to get it deleted
	byHand.Status.Conditions = []metav1.Condition{{Type: v1alpha1.ConditionComplete, Status: metav1.ConditionTrue}}
	r := reconciler(t, &fakeVault{}, byHand)
	sn := object()
	sn.CreationTimestamp, sn.Generation = metav1.NewTime(moment(t, "Jan 1 00:00")), 1
	sn.Spec.KeyRotation = &v1alpha1.KeyRotationPolicy{Schedule: "0 3 * * *", HistoryLimit: new(int32(1))}
	for _, step := range []step{
		{at: "Jan 1 03:00", want: "Jan 1 03:00"}, {at: "Jan 1 04:00", happen: complete, want: "Jan 1 03:00"},
		{at: "Jan 2 03:00", want: "Jan 1 03:00, Jan 2 03:00"}, {at: "Jan 2 04:00", happen: complete, want: "Jan 2 03:00"},
		{at: "Jan 3 03:00", want: "Jan 2 03:00, Jan 3 03:00"}, {at: "Jan 3 04:00", happen: complete, want: "Jan 3 03:00"},
	} {
		if step.happen != nil {
			step.happen(t, r, sn)
		}
		s := healthy(func(s *scope) { s.sn, s.now = sn, moment(t, step.at) })
		if err := r.manageRotations(t.Context(), s); err != nil {
			t.Fatal(err)
		}
		if got := strings.Join(scheduledFor(t, r), ", "); got != step.want {
			t.Fatalf("%s: rotations for %q exist, want %q", step.at, got, step.want)
		}
		if !slices.Contains(rotationNames(t, r), "by-hand") {
			t.Fatal("a rotation that was created by hand was deleted")
		}
	}
}

// TestChangedRotationIsNotPruned: a rotation that has changed since it was cached, for example by a
// retry, is not deleted.
func TestChangedRotationIsNotPruned(t *testing.T) {
	t.Parallel()
	kr := newRotation(object(), "failed")
	kr.Status.CreatedBy = v1alpha1.CreatedBySchedule
	kr.Status.Conditions = []metav1.Condition{{Type: v1alpha1.ConditionComplete, Status: metav1.ConditionTrue}}
	r := reconciler(t, &fakeVault{}, kr)
	world := r.Client.(client.WithWatch)
	r.Client = interceptor.NewClient(world, interceptor.Funcs{
		List: func(ctx context.Context, c client.WithWatch, list client.ObjectList, options ...client.ListOption) error {
			err := c.List(ctx, list, options...)
			// The retry is requested after the cache read the rotation.
			latest := &v1alpha1.KeyRotation{}
			if err := c.Get(ctx, client.ObjectKeyFromObject(kr), latest); err != nil {
				return err
			}
			latest.Annotations = map[string]string{v1alpha1.AnnotationRetryRequestedAt: "now"}
			return errors.Join(err, c.Update(ctx, latest))
		},
	})
	s := healthy(func(s *scope) { s.sn.Spec.KeyRotation = &v1alpha1.KeyRotationPolicy{HistoryLimit: new(int32(0))} })
	if err := r.manageRotations(t.Context(), s); !apierrors.IsConflict(err) {
		t.Errorf("got error %v, want a conflict", err)
	}
	if err := world.Get(t.Context(), client.ObjectKeyFromObject(kr), kr); err != nil {
		t.Error(err)
	}
}

// TestHistoryLimitOfRequests: requested rotations are deleted too, and not created again.
func TestHistoryLimitOfRequests(t *testing.T) {
	t.Parallel()
	r := reconciler(t, &fakeVault{}, newRotation(object(), "by-hand"))
	sn := object()
	sn.Status.DeploymentID = "uid"
	sn.Spec.KeyRotation = &v1alpha1.KeyRotationPolicy{HistoryLimit: new(int32(1))}
	for i, value := range []string{"a", "b", "c", "c"} {
		sn.Annotations = map[string]string{v1alpha1.AnnotationRotateRequestedAt: value}
		for range 2 {
			s := healthy(func(s *scope) { s.sn, s.original = sn, sn })
			if err := r.manageRotations(t.Context(), s); err != nil {
				t.Fatal(err)
			}
			complete(t, r, sn)
		}
		if names := rotationNames(t, r); !slices.Contains(names, "by-hand") || len(names) > 3 {
			t.Fatalf("request %d: %v", i, names)
		}
	}
	s := healthy(func(s *scope) { s.sn, s.original = sn, sn })
	if err := r.manageRotations(t.Context(), s); err != nil {
		t.Fatal(err)
	}
	if names := rotationNames(t, r); len(names) != 2 || sn.Status.HandledRotateRequests != 3 {
		t.Errorf("%d requests have left %v, want by-hand and the newest", sn.Status.HandledRotateRequests, names)
	}
}
