package securenotes

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"testing"
	"time"

	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/tools/events"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/interceptor"

	"github.com/securenotes/securenotes/api/v1alpha1"
	"github.com/securenotes/securenotes/app/config"
	"github.com/securenotes/securenotes/controllers/internal/apply"
	"github.com/securenotes/securenotes/controllers/internal/crashtest"
	"github.com/securenotes/securenotes/controllers/internal/operand"
	"github.com/securenotes/securenotes/controllers/internal/rotations"
	"github.com/securenotes/securenotes/controllers/internal/vaultadmin"
)

// personsRecipient is an age recipient of a person.
const personsRecipient = "age1qqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqq"

// drillLife is several weeks of the drills of a SecureNotes, its API server and its Vault. The test
// plays the backups and the Job controller.
type drillLife struct {
	t *testing.T
	*crashtest.APIServer
	crash *crashtest.Crash
	now   time.Time

	// latest is the latest version of the master key.
	latest int64
	// entries are the recipients of the identities in Vault; created counts those that ever were.
	entries map[string]string
	created int
	// archive are the recipients of the newest backup, and sequence is its number.
	archive  []string
	sequence int64
	// drilled are the results of the drills, with the sequence of the backup.
	drilled []string
	times   []string
	passes  int
}

func newDrillLife(t *testing.T, c *crashtest.Crash) *drillLife {
	t.Helper()
	sn := object()
	sn.Generation, sn.CreationTimestamp = 1, metav1.NewTime(moment(t, "Jan 1 00:00"))
	sn.Spec.Backup = &v1alpha1.BackupPolicy{
		Recipients:  []v1alpha1.AgeRecipient{personsRecipient},
		Destination: v1alpha1.BackupDestination{PersistentVolumeClaim: &v1alpha1.BackupVolume{ClaimName: "backups"}},
	}
	sn.Status.DeploymentID = "uid"
	sn.Status.Backup = &v1alpha1.BackupStatus{ObservedSchedule: &v1alpha1.ObservedSchedule{TimeZone: "Etc/UTC", Since: sn.CreationTimestamp}}
	return &drillLife{t: t, crash: c, latest: 1, entries: map[string]string{}, APIServer: crashtest.NewAPIServer(t, rotations.Indexes, sn), times: weeks}
}

func (l *drillLife) fork(t *testing.T, c *crashtest.Crash) *drillLife {
	t.Helper()
	fork := *l
	fork.t, fork.APIServer, fork.crash = t, l.Fork(t), c
	fork.entries, fork.archive, fork.drilled = maps.Clone(l.entries), slices.Clone(l.archive), slices.Clone(l.drilled)
	return &fork
}

// drillVault is the operator's Vault.
type drillVault struct {
	*fakeVault
	*drillLife
}

func (v drillVault) Connection() vaultadmin.Connection {
	return vaultadmin.Connection{Name: "default", Address: "https://vault.example.com", AuthMount: "kubernetes", TransitMount: "transit", KVMount: "secret"}
}

// CreateDrillIdentity checks that the status records the identity before it is created.
func (v drillVault) CreateDrillIdentity(ctx context.Context, _ vaultadmin.Deployment, entry string, identity *config.DrillIdentity, record func(context.Context) error) error {
	if err := record(ctx); err != nil {
		return err
	}
	_, recipient, err := identity.Parse()
	if err != nil {
		v.t.Fatal(err)
	}
	if next := operand.DrillStatus(v.object()).NextIdentity; next == nil || next.Entry != entry || string(next.Recipient) != recipient {
		v.t.Errorf("%s is created, and the status records %+v", entry, next)
	}
	return v.crash.Around(func() error {
		if _, exists := v.entries[entry]; exists || !config.IsDrillEntry(entry) {
			v.t.Errorf("%s is created a second time", entry)
		}
		v.entries[entry] = recipient
		v.created++
		return nil
	})
}

// DestroyDrillIdentity checks that no identity is destroyed that the newest backup needs.
func (v drillVault) DestroyDrillIdentity(_ context.Context, _ vaultadmin.Deployment, entry string) error {
	return v.crash.Around(func() error {
		_, suspend := operand.DrillSchedule(v.object())
		if recipient := v.entries[entry]; recipient != "" && slices.Contains(v.archive, recipient) && !suspend {
			v.t.Errorf("%s: the newest backup cannot be tested without %s, which is destroyed", v.now, entry)
		}
		delete(v.entries, entry)
		return nil
	})
}

func (l *drillLife) object() *v1alpha1.SecureNotes {
	sn := &v1alpha1.SecureNotes{}
	if err := l.Get(l.t.Context(), client.ObjectKeyFromObject(object()), sn); err != nil {
		l.t.Fatal(err)
	}
	return sn
}

// pass runs one pass of a new operator, because nothing may depend on the memory of the last one.
func (l *drillLife) pass() {
	l.crash.Restart()
	funcs := l.crash.Interceptor(func() time.Time { return l.now })
	funcs.Apply = func(ctx context.Context, w client.WithWatch, o runtime.ApplyConfiguration, _ ...client.ApplyOption) error {
		return l.crash.Around(func() error { return applyConfigMap(ctx, w, o) })
	}
	r := &Reconciler{
		Client: interceptor.NewClient(l.APIServer, funcs), Live: l.APIServer, Recorder: events.NewFakeRecorder(100), Now: func() time.Time { return l.now },
		Vault: func(string) (Vault, bool) { return drillVault{&fakeVault{}, l}, true }, SetupCommand: setupCommand,
		Environment: operand.Environment{ClusterID: "cluster", Image: "image"},
	}
	r.Apply = apply.New(r.Client, l.APIServer)
	s := newScope(l.object(), r.Environment, l.now)
	if _, err := r.connect(s); err != nil {
		l.t.Fatal(err)
	}
	s.key = &vaultadmin.KeyState{Latest: l.latest, MinDecryption: 1}
	s.vaultFinding = good(v1alpha1.ReasonReady, "ready")
	err := r.manageDrill(l.t.Context(), s)
	if err = errors.Join(err, r.patchStatus(l.t.Context(), s)); err != nil && !errors.Is(err, crashtest.ErrCrash) {
		l.t.Fatalf("%s: %v", l.now, err)
	}
}

// applyConfigMap applies a ConfigMap, whose only manager is the operator.
func applyConfigMap(ctx context.Context, w client.Client, o runtime.ApplyConfiguration) error {
	raw, err := json.Marshal(o)
	if err != nil {
		return err
	}
	cm := &corev1.ConfigMap{}
	if err := json.Unmarshal(raw, cm); err != nil {
		return err
	}
	err = w.Create(ctx, cm)
	if apierrors.IsAlreadyExists(err) {
		return w.Update(ctx, cm)
	}
	return err
}

// backUp makes a backup, with the recipients that its Job gets.
func (l *drillLife) backUp() {
	sn := l.object()
	nb := backup("first")
	cm, err := operand.BackupConfigMap(nb, sn, operand.Environment{ClusterID: "cluster", DeploymentID: "uid", Connection: drillVault{}.Connection()})
	if err != nil {
		l.t.Fatal(err)
	}
	c, err := config.Parse([]byte(cm.Data[config.BackupFile]))
	if err != nil {
		l.t.Fatal(err)
	}
	l.sequence++
	l.archive = c.Backup.Recipients
	sn.Status.Backup.Last = &v1alpha1.LastBackup{Name: "first", CompletionTime: new(metav1.NewTime(l.now)), BackupResult: v1alpha1.BackupResult{
		ID: "20260101T000000Z-aaaaaaaaaaaaaaaa", Sequence: l.sequence, Location: "persistentVolumeClaim/backups", SnapshotTime: new(metav1.NewTime(l.now)),
	}}
	if err := l.Status().Update(l.t.Context(), sn); err != nil {
		l.t.Fatal(err)
	}
}

// drill runs the drill Jobs that have not ended: each opens the newest backup with an identity that
// is in its configuration and in Vault.
func (l *drillLife) drill() {
	list := &batchv1.JobList{}
	if err := l.List(l.t.Context(), list); err != nil {
		l.t.Fatal(err)
	}
	for _, job := range list.Items {
		if len(job.Status.Conditions) > 0 {
			continue
		}
		cm := &corev1.ConfigMap{}
		if err := l.Get(l.t.Context(), client.ObjectKey{Namespace: job.Namespace, Name: operand.DrillConfigMapName("notes")}, cm); err != nil {
			l.t.Fatal(err)
		}
		c, err := config.Parse([]byte(cm.Data[config.DrillFile]))
		if err != nil {
			l.t.Fatal(err)
		}
		if c.Backup.Drill.Sequence != l.sequence {
			l.t.Errorf("the drill expects sequence %d, want %d", c.Backup.Drill.Sequence, l.sequence)
		}
		message, condition, code := "", batchv1.JobFailed, int32(config.ExitConfiguration)
		for _, identity := range c.Backup.Drill.Identities {
			if slices.Contains(l.archive, l.entries[identity.Entry]) && l.entries[identity.Entry] == identity.Recipient {
				message = fmt.Sprintf(`{"reason":"Complete","message":"fine","drill":{"result":"Passed","id":"20260101T000000Z-aaaaaaaaaaaaaaaa","sequence":%d,"entry":%q,"accounts":1,"notes":2,"ownerKeys":1,"values":1}}`,
					l.sequence, identity.Entry)
				condition, code = batchv1.JobComplete, 0
			}
		}
		if message == "" {
			message = `{"reason":"DrillIdentityMissing","message":"not in Vault"}`
		}
		pod := &corev1.Pod{
			ObjectMeta: metav1.ObjectMeta{
				Name: job.Name + "-0-abcde", Namespace: job.Namespace, Labels: map[string]string{batchv1.JobNameLabel: job.Name, operand.LabelManagedBy: operand.ManagedBy},
				OwnerReferences: []metav1.OwnerReference{*metav1.NewControllerRef(&job, batchv1.SchemeGroupVersion.WithKind("Job"))},
			},
			Status: corev1.PodStatus{ContainerStatuses: []corev1.ContainerStatus{{
				Name: operand.JobContainer, State: corev1.ContainerState{Terminated: &corev1.ContainerStateTerminated{ExitCode: code, Message: message}},
			}}},
		}
		if err := l.Create(l.t.Context(), pod); err != nil {
			l.t.Fatal(err)
		}
		job.Status.CompletionTime = new(metav1.NewTime(l.now))
		job.Status.Conditions = []batchv1.JobCondition{{Type: condition, Status: corev1.ConditionTrue}}
		if condition == batchv1.JobComplete {
			job.Status.Succeeded, job.Status.CompletedIndexes = 1, "0"
		}
		if err := l.Status().Update(l.t.Context(), &job); err != nil {
			l.t.Fatal(err)
		}
		l.drilled = append(l.drilled, fmt.Sprintf("%s of %d at %s", condition, l.sequence, l.now.Format("Jan 2 15:04")))
	}
}

// change changes the spec.
func (l *drillLife) change(change func(*v1alpha1.BackupPolicy)) {
	sn := l.object()
	change(sn.Spec.Backup)
	if err := l.Update(l.t.Context(), sn); err != nil {
		l.t.Fatal(err)
	}
}

// weeks are the times at which something happens. Jan 4 2026 is a Sunday.
var weeks = []string{
	"Jan 1 00:01",  // the first identity
	"Jan 4 04:00",  // no drill: there is no backup
	"Jan 4 05:00",  // a backup, and the drill that was due
	"Jan 5 00:00",  // a rotation, and another identity
	"Jan 11 04:00", // a drill of the same backup, with the older identity
	"Jan 12 00:00", // a backup
	"Jan 18 04:00", // a drill with the newer identity, after which the older one is destroyed
	"Jan 24 00:00", // the identity is lost in Vault
	"Jan 25 04:00", // a drill that fails, and another identity
	"Jan 26 04:00", // no drill: the backup is older than the identity
	"Jan 26 05:00", // a backup, and the drill is made again
	"Jan 27 00:00", // drills are suspended, and all identities are destroyed
	"Feb 1 04:00",  // no drill
	"Feb 2 00:00",  // drills go on
}

// play runs one pass, and the Jobs if the operator wrote something.
func (l *drillLife) play() bool {
	at := l.times[0]
	l.now = moment(l.t, at)
	if l.passes == 0 {
		switch at {
		case "Jan 4 05:00", "Jan 12 00:00", "Jan 26 05:00":
			l.backUp()
		case "Jan 5 00:00":
			l.latest++
		case "Jan 24 00:00":
			clear(l.entries)
		case "Jan 27 00:00":
			l.change(func(p *v1alpha1.BackupPolicy) { p.Drill = &v1alpha1.BackupDrill{Suspend: new(true)} })
		case "Feb 2 00:00":
			l.change(func(p *v1alpha1.BackupPolicy) { p.Drill = nil })
		}
	}
	before := l.crash.Count
	l.pass()
	if l.crash.Count == before {
		l.times, l.passes = l.times[1:], 0
		return len(l.times) > 0
	}
	l.drill()
	if l.passes++; l.passes == 14 {
		l.t.Fatalf("%s: the operator does not settle", at)
	}
	return true
}

// TestDrillCrashAnywhere crashes the operator before and after each of its writes to Kubernetes and
// to Vault. In each case the same drills are made, each identity is recorded before it is created,
// none that is needed is destroyed, and none is left that is not recorded.
func TestDrillCrashAnywhere(t *testing.T) {
	t.Parallel()
	story := crashtest.Story[*drillLife]{
		Begin: newDrillLife,
		Fork:  func(t *testing.T, l *drillLife, c *crashtest.Crash) *drillLife { return l.fork(t, c) },
		Pass:  func(_ *testing.T, l *drillLife) bool { return l.play() },
	}
	want := []string{
		"Complete of 1 at Jan 4 05:00", "Complete of 1 at Jan 11 04:00", "Complete of 2 at Jan 18 04:00", "Failed of 2 at Jan 25 04:00", "Complete of 3 at Jan 26 05:00",
	}
	story.Everywhere(t, 40, func(t *testing.T, l *drillLife) {
		if !slices.Equal(l.drilled, want) {
			t.Errorf("drills: %q, want %q", l.drilled, want)
		}
		status := operand.DrillStatus(l.object())
		if len(status.Identities) != 1 || status.NextIdentity != nil || len(l.entries) != 1 || l.entries[status.Identities[0].Entry] != string(status.Identities[0].Recipient) {
			t.Errorf("Vault has %v, the status %+v and %+v", l.entries, status.Identities, status.NextIdentity)
		}
		if status.Identities[0].KeyVersion != 2 || status.StartTime != nil || status.JobUID != "" || status.Result != v1alpha1.DrillPassed || status.Notes != 2 {
			t.Errorf("the status is %+v", status)
		}
		if l.created < 4 || l.created > 5 {
			t.Errorf("%d identities were created, want 4, and one more after a crash", l.created)
		}
	})
}
