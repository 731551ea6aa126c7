package securenotes

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/tools/events"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/interceptor"

	"github.com/securenotes/securenotes/api/v1alpha1"
	"github.com/securenotes/securenotes/controllers/internal/crashtest"
	"github.com/securenotes/securenotes/controllers/internal/operand"
	"github.com/securenotes/securenotes/controllers/internal/rotations"
	"github.com/securenotes/securenotes/controllers/internal/secretrecord"
	"github.com/securenotes/securenotes/controllers/internal/vaultadmin"
)

// life is several days of a SecureNotes, its API server and its Vault. The test plays the other
// controllers.
type life struct {
	t *testing.T
	*crashtest.APIServer
	crash *crashtest.Crash
	now   time.Time
	key   vaultadmin.KeyState

	// made holds every KeyRotation that was created; floors, every version to which
	// min_decryption_version was raised; trims, every version to which min_available_version was
	// raised.
	made          []string
	floors, trims []int64
	// backups holds every NotesBackup that was created; archives, the version that each complete
	// one needs, the newest two of which are in the destination.
	backups  []string
	archives []int64
	// created holds the digest of every entry of session keys that was created in Vault.
	created map[string]string
	// shredded reports whether the keys were destroyed.
	shredded bool
	// deleted holds the Jobs that were deleted before their end, once each. If it is nil, none is.
	deleted map[string]bool
	// times are the times that are left; passes counts the passes at the first of them.
	times  []string
	passes int
}

func newLife(t *testing.T, c *crashtest.Crash) *life {
	t.Helper()
	sn := object()
	sn.Generation, sn.CreationTimestamp = 1, metav1.NewTime(moment(t, "Jan 1 00:00"))
	sn.Spec.KeyRotation = &v1alpha1.KeyRotationPolicy{Schedule: "0 3 * * *", HistoryLimit: new(int32(1)), Trim: &v1alpha1.Trim{After: "48h"}}
	sn.Spec.Backup = &v1alpha1.BackupPolicy{
		Schedule: "0 5 * * *", Keep: &v1alpha1.BackupKeep{Count: new(int32(2))},
		Destination: v1alpha1.BackupDestination{PersistentVolumeClaim: &v1alpha1.BackupVolume{ClaimName: "backups"}},
	}
	return &life{t: t, crash: c, created: map[string]string{}, key: vaultadmin.KeyState{Latest: 1, MinDecryption: 1}, APIServer: crashtest.NewAPIServer(t, rotations.Indexes, sn)}
}

// fork returns a copy of the life for another test that uses c.
func (l *life) fork(t *testing.T, c *crashtest.Crash) *life {
	t.Helper()
	fork := *l
	fork.t, fork.APIServer, fork.crash = t, l.Fork(t), c
	fork.made, fork.floors, fork.trims = slices.Clone(l.made), slices.Clone(l.floors), slices.Clone(l.trims)
	fork.backups, fork.archives = slices.Clone(l.backups), slices.Clone(l.archives)
	fork.created, fork.deleted = maps.Clone(l.created), maps.Clone(l.deleted)
	return &fork
}

// livedVault is the operator's Vault. It checks the two writes that cannot be undone.
type livedVault struct {
	*fakeVault
	*life
}

func (v livedVault) Connection() vaultadmin.Connection {
	return vaultadmin.Connection{Name: "default"}
}

// Ensure creates session keys for an object that has none, and records them before and after.
func (v livedVault) Ensure(ctx context.Context, d vaultadmin.Deployment) (vaultadmin.DeploymentState, error) {
	secrets := d.Secrets
	if secrets.SessionKeys.Digest == "" {
		next := vaultadmin.Secret{Entry: fmt.Sprintf("session-keys-1%012d", len(v.created)+1), Digest: fmt.Sprintf("%064d", len(v.created)+1)}
		secrets.NextSessionKeys = next
		if err := d.Record(ctx, secrets); err != nil {
			return vaultadmin.DeploymentState{}, err
		}
		if err := v.crash.Around(func() error { v.created[next.Entry] = next.Digest; return nil }); err != nil {
			return vaultadmin.DeploymentState{}, err
		}
		secrets.SessionKeys, secrets.NextSessionKeys = next, vaultadmin.Secret{}
		if err := d.Record(ctx, secrets); err != nil {
			return vaultadmin.DeploymentState{}, err
		}
	}
	return vaultadmin.DeploymentState{DeploymentID: "uid", Key: v.key, Secrets: secrets}, nil
}

func (v livedVault) RecordDatabase(context.Context, vaultadmin.Deployment, vaultadmin.DatabaseState, vaultadmin.DatabaseState) error {
	return nil
}

func (v livedVault) Shred(context.Context, vaultadmin.Deployment) error {
	return v.crash.Around(func() error { v.shredded = true; return nil })
}

func (v livedVault) RaiseMinDecryption(_ context.Context, _ vaultadmin.Deployment, version int64) (before int64, err error) {
	err = v.crash.Around(func() error {
		if before = v.key.MinDecryption; version <= before {
			return nil
		}
		v.mustBeVerified("retire", version)
		for _, entry := range v.object().Status.MasterKey.PendingRetirements {
			if entry.ToVersion == version && v.now.Before(entry.Due.Time) {
				v.t.Errorf("the versions below %d were retired at %s, before they were due at %s", version, v.now, entry.Due)
			}
		}
		v.key.MinDecryption = version
		v.floors = append(v.floors, version)
		return nil
	})
	return before, err
}

func (v livedVault) Trim(_ context.Context, _ vaultadmin.Deployment, version, _ int64) error {
	return v.crash.Around(func() error {
		if version <= v.key.MinAvailable {
			return nil
		}
		v.mustBeVerified("trim", version)
		for _, entry := range v.object().Status.MasterKey.Retirements {
			if entry.ToVersion == version && v.now.Before(entry.Time.Add(48*time.Hour)) {
				v.t.Errorf("the versions below %d were destroyed at %s, too soon after their retirement at %s", version, v.now, entry.Time)
			}
		}
		if v.archives == nil || slices.Min(v.archives) < version || oldestOpen(allBackups(v.t, &Reconciler{Client: v.APIServer})) != nil {
			v.t.Errorf("the versions below %d were destroyed, while a backup may need them: %d", version, v.archives)
		}
		v.key.MinAvailable = version
		v.trims = append(v.trims, version)
		return nil
	})
}

// mustBeVerified checks that a verification of the version is complete.
func (l *life) mustBeVerified(what string, version int64) {
	for _, job := range l.jobs() {
		if strings.HasPrefix(job.Name, fmt.Sprintf("notes-%s-v%d-", what, version)) && job.Status.CompletionTime != nil {
			return
		}
	}
	l.t.Errorf("%s of the versions below %d without a complete verification", what, version)
}

func (l *life) object() *v1alpha1.SecureNotes {
	sn := &v1alpha1.SecureNotes{}
	if err := l.Get(l.t.Context(), client.ObjectKeyFromObject(object()), sn); err != nil {
		l.t.Fatal(err)
	}
	return sn
}

func (l *life) jobs() []batchv1.Job {
	list := &batchv1.JobList{}
	if err := l.List(l.t.Context(), list); err != nil {
		l.t.Fatal(err)
	}
	return list.Items
}

func (l *life) rotations() []v1alpha1.KeyRotation {
	list := &v1alpha1.KeyRotationList{}
	if err := l.List(l.t.Context(), list); err != nil {
		l.t.Fatal(err)
	}
	return list.Items
}

// operator returns a new operator, because nothing may depend on the memory of the last one.
func (l *life) operator() *Reconciler {
	l.crash.Restart()
	funcs := l.crash.Interceptor(func() time.Time { return l.now })
	create := funcs.Create
	funcs.Create = func(ctx context.Context, c client.WithWatch, o client.Object, opts ...client.CreateOption) error {
		err := create(ctx, c, o, opts...)
		if _, ok := o.(*v1alpha1.KeyRotation); ok && c.Get(ctx, client.ObjectKeyFromObject(o), &v1alpha1.KeyRotation{}) == nil && !slices.Contains(l.made, o.GetName()) {
			l.made = append(l.made, o.GetName())
		}
		if _, ok := o.(*v1alpha1.NotesBackup); ok && c.Get(ctx, client.ObjectKeyFromObject(o), &v1alpha1.NotesBackup{}) == nil && !slices.Contains(l.backups, o.GetName()) {
			l.backups = append(l.backups, o.GetName())
		}
		return err
	}
	return &Reconciler{
		Client: interceptor.NewClient(l.APIServer, funcs), Live: l.APIServer, Recorder: events.NewFakeRecorder(100), Now: func() time.Time { return l.now },
		Vault: func(string) (Vault, bool) { return livedVault{life: l}, true }, VaultResyncInterval: 10 * time.Minute,
		SetupCommand: setupCommand,
		Environment:  operand.Environment{ClusterID: "cluster", Image: "image"},
	}
}

// pass runs the phases that this test is about.
func (l *life) pass() {
	r := l.operator()
	s := newScope(l.object(), r.Environment, l.now)
	var err error
	for _, do := range []func(context.Context, *scope) error{r.vault, r.manageRotations, r.retireVersions, r.trim, r.manageBackups} {
		err = errors.Join(err, do(l.t.Context(), s))
	}
	if err = errors.Join(err, r.patchStatus(l.t.Context(), s)); err != nil && !errors.Is(err, crashtest.ErrCrash) {
		l.t.Fatalf("%s: %v", l.now, err)
	}
	if s.rotationFinding.status != metav1.ConditionTrue || s.backupFinding.status == metav1.ConditionFalse {
		l.t.Errorf("%s: %+v, %+v", l.now, s.rotationFinding, s.backupFinding)
	}
}

// rotate plays the controller of KeyRotations. The old version is to be retired an hour later.
func (l *life) rotate() {
	for _, kr := range l.rotations() {
		if rotations.Ended(&kr) {
			continue
		}
		l.key.Latest++
		kr.Status.FromVersion, kr.Status.ToVersion, kr.Status.CompletionTime = new(l.key.Latest-1), new(l.key.Latest), new(metav1.NewTime(l.now))
		meta.SetStatusCondition(&kr.Status.Conditions, metav1.Condition{Type: v1alpha1.ConditionComplete, Status: metav1.ConditionTrue, Reason: v1alpha1.ReasonComplete})
		sn := l.object()
		sn.Status.MasterKey.PendingRetirements = append(sn.Status.MasterKey.PendingRetirements,
			v1alpha1.PendingRetirement{ToVersion: l.key.Latest, Due: metav1.NewTime(l.now.Add(time.Hour)), Attempt: 1})
		for _, changed := range []client.Object{&kr, sn} {
			if err := l.Status().Update(l.t.Context(), changed); err != nil {
				l.t.Fatal(err)
			}
		}
	}
}

// backUp plays the controller of NotesBackups.
func (l *life) backUp() {
	r := &Reconciler{Client: l.APIServer}
	for _, nb := range allBackups(l.t, r) {
		if nb.Status.CompletionTime == nil {
			l.archives = append(l.archives, l.key.Latest)
			l.archives = l.archives[max(0, len(l.archives)-2):]
			listed(l.now, slices.Min(l.archives))(&nb)
			end(l.t, r, &nb, v1alpha1.ConditionComplete, l.now)
		}
	}
}

// verify plays the Job controller.
func (l *life) verify() {
	for _, job := range l.jobs() {
		if l.deleted != nil && !l.deleted[job.Name] {
			l.deleted[job.Name] = true
			if err := l.Delete(l.t.Context(), &job); err != nil {
				l.t.Fatal(err)
			}
			continue
		}
		job.Status.CompletionTime = new(metav1.NewTime(l.now))
		job.Status.Conditions = []batchv1.JobCondition{{Type: batchv1.JobComplete, Status: corev1.ConditionTrue}}
		job.Status.Succeeded, job.Status.CompletedIndexes = 1, "0"
		if err := l.Status().Update(l.t.Context(), &job); err != nil {
			l.t.Fatal(err)
		}
	}
}

func (l *life) request() {
	sn := l.object()
	sn.Annotations = map[string]string{v1alpha1.AnnotationRotateRequestedAt: "now", v1alpha1.AnnotationBackupRequestedAt: "now"}
	if err := l.Update(l.t.Context(), sn); err != nil {
		l.t.Fatal(err)
	}
}

// days are the times at which something happens: scheduled rotations, a missed one, a requested
// one, four retirements, a trim, and pruning; and backups: scheduled ones, a requested one, and one
// after each rotation.
var days = []string{
	"Jan 1 00:01", "Jan 1 03:00", "Jan 1 03:30", "Jan 1 04:05", "Jan 1 04:35", "Jan 2 03:00", "Jan 2 04:05", "Jan 4 05:00", "Jan 4 06:05", "Jan 4 07:00",
}

// play runs one pass, and the other controllers if the operator wrote something. It reports whether
// any time is left.
func (l *life) play() bool {
	at := l.times[0]
	l.now = moment(l.t, at)
	if at == "Jan 1 03:30" && l.passes == 0 {
		l.request()
	}
	before := l.crash.Count
	l.pass()
	if l.crash.Count == before {
		l.times, l.passes = l.times[1:], 0
		return len(l.times) > 0
	}
	l.rotate()
	l.backUp()
	l.verify()
	if l.passes++; l.passes == 12 {
		l.t.Fatalf("%s: the operator does not settle", at)
	}
	return true
}

func lifeThrough(times []string, deleted map[string]bool) crashtest.Story[*life] {
	return crashtest.Story[*life]{
		Begin: func(t *testing.T, c *crashtest.Crash) *life {
			l := newLife(t, c)
			l.times, l.deleted = times, deleted
			return l
		},
		Fork: func(t *testing.T, l *life, c *crashtest.Crash) *life { return l.fork(t, c) },
		Pass: func(_ *testing.T, l *life) bool { return l.play() },
	}
}

// TestCrashAnywhere crashes the operator before and after each of its writes to Kubernetes and to
// Vault. In each case, one rotation is created for each due time and for the request. Each
// retirement and each trim happens once, when it is due, and after a complete verification. One
// backup is created for each due time, for the request, and after each rotation. The
// session keys in use were recorded before they were created. Nothing is left behind.
func TestCrashAnywhere(t *testing.T) {
	t.Parallel()
	lifeThrough(days, nil).Everywhere(t, 35, func(t *testing.T, l *life) {
		requested := slices.DeleteFunc(slices.Clone(l.made), func(name string) bool { return !strings.HasPrefix(name, "notes-req-") })
		if len(l.made) != 4 || len(requested) != 1 {
			t.Errorf("created %v, want one for each of three days, and a requested one", l.made)
		}
		if left := scheduledFor(t, l.operator()); len(l.rotations()) != 1 || !slices.Equal(left, []string{"Jan 4 03:00"}) {
			t.Errorf("%d rotations are left, scheduled ones for %v; want one, for Jan 4", len(l.rotations()), left)
		}
		if !slices.Equal(l.floors, []int64{2, 3, 4, 5}) || !slices.Equal(l.trims, []int64{4}) {
			t.Errorf("the floor was raised to %v, and the versions below %v were destroyed", l.floors, l.trims)
		}
		if jobs := l.jobs(); len(jobs) != 0 {
			t.Errorf("%d Jobs are left, the first is %s", len(jobs), jobs[0].Name)
		}
		status := l.object().Status
		key := status.MasterKey
		if len(key.PendingRetirements) != 0 || key.MinDecryptionFloor != 5 || key.MinAvailableVersion != 4 || len(key.Retirements) != 1 || key.Retirements[0].ToVersion != 5 {
			t.Errorf("got master key %+v, want floor 5, version 4 the first available, and the retirement of version 5 alone", key)
		}
		if status.LastHandledRotateRequest != "now" || status.HandledRotateRequests != 1 || !status.LastScheduleTime.Time.Equal(moment(t, "Jan 4 03:00")) {
			t.Errorf("got status %+v, want one handled request, now, and Jan 4 03:00 as the last time of the schedule", status)
		}
		secrets := secretrecord.Get(&status)
		if digest, created := l.created[secrets.SessionKeys.Entry]; !created || digest != secrets.SessionKeys.Digest || secrets.NextSessionKeys != (vaultadmin.Secret{}) || len(l.created) > 2 {
			t.Errorf("recorded %+v, want one of the created %v in use, and none as next", secrets, l.created)
		}
		l.checkBackups()
		before := l.crash.Count
		l.pass()
		if l.crash.Count != before {
			t.Errorf("a settled pass did %d writes, want none", l.crash.Count-before)
		}
	})
}

// checkBackups checks the backups of [days] and their record in the status.
func (l *life) checkBackups() {
	l.t.Helper()
	var scheduled, others []string
	for _, name := range slices.Sorted(slices.Values(l.backups)) {
		switch {
		case strings.HasPrefix(name, "notes-after-"):
			others = append(others, name)
		case strings.HasPrefix(name, "notes-req-"):
			others = append(others, "requested")
		default:
			scheduled = append(scheduled, dueOf(l.t, name))
		}
	}
	if !slices.Equal(scheduled, []string{"Jan 1 05:00", "Jan 4 05:00"}) || !slices.Equal(others, []string{"notes-after-v2", "notes-after-v3", "notes-after-v4", "notes-after-v5", "requested"}) {
		l.t.Errorf("created backups for %v, and %v", scheduled, others)
	}
	left := allBackups(l.t, &Reconciler{Client: l.APIServer})
	if len(left) != 2 || slices.ContainsFunc(left, func(nb v1alpha1.NotesBackup) bool { return nb.Status.CreatedBy == "" }) {
		l.t.Errorf("the backups %+v are left, want the newest two", left)
	}
	status := l.object().Status.Backup
	if status.HandledRotation != 5 || status.LastHandledRequest != "now" || status.HandledRequests != 1 || !status.LastScheduleTime.Time.Equal(moment(l.t, "Jan 4 05:00")) ||
		!slices.ContainsFunc(left, func(nb v1alpha1.NotesBackup) bool { return nb.Name == status.Last.Name }) {
		l.t.Errorf("got status %+v, want rotation 5, one handled request, now, Jan 4 05:00 as the last time of the schedule, and one of the backups as the last", status)
	}
}

// TestDeletedVerifications: somebody deletes the Job of a retirement before its end. The operator
// recreates it once, wherever it crashes, and postpones nothing.
func TestDeletedVerifications(t *testing.T) {
	t.Parallel()
	lifeThrough(days[:4], map[string]bool{}).Everywhere(t, 10, func(t *testing.T, l *life) {
		if len(l.deleted) != 1 || !slices.Equal(l.floors, []int64{2}) || len(l.jobs()) != 0 {
			t.Errorf("deleted %v, the floor was raised to %v, %d Jobs are left; want 1 deleted, [2], and no Job", l.deleted, l.floors, len(l.jobs()))
		}
	})
}
