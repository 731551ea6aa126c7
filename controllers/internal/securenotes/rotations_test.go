package securenotes

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/tools/events"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/fake"
	"sigs.k8s.io/controller-runtime/pkg/client/interceptor"

	"github.com/securenotes/securenotes/api/v1alpha1"
	"github.com/securenotes/securenotes/app/config"
	"github.com/securenotes/securenotes/controllers/internal/apply"
	"github.com/securenotes/securenotes/controllers/internal/crashtest"
	"github.com/securenotes/securenotes/controllers/internal/operand"
	"github.com/securenotes/securenotes/controllers/internal/retirement"
	"github.com/securenotes/securenotes/controllers/internal/rotations"
	"github.com/securenotes/securenotes/controllers/internal/vaultadmin"
)

type fakeVault struct {
	floor, trimmed int64
	refusal        error
	recorded       []vaultadmin.DatabaseState
}

func (v *fakeVault) Connection() vaultadmin.Connection { return vaultadmin.Connection{Name: "default"} }

func (v *fakeVault) Ensure(context.Context, vaultadmin.Deployment) (vaultadmin.DeploymentState, error) {
	return vaultadmin.DeploymentState{}, nil
}

func (v *fakeVault) RecordDatabase(_ context.Context, _ vaultadmin.Deployment, _, after vaultadmin.DatabaseState) error {
	v.recorded = append(v.recorded, after)
	return nil
}

func (v *fakeVault) CreateDrillIdentity(ctx context.Context, _ vaultadmin.Deployment, _ string, _ *config.DrillIdentity, record func(context.Context) error) error {
	if v.refusal != nil {
		return v.refusal
	}
	return record(ctx)
}

func (v *fakeVault) DestroyDrillIdentity(context.Context, vaultadmin.Deployment, string) error {
	return v.refusal
}

func (v *fakeVault) Shred(context.Context, vaultadmin.Deployment) error { return nil }

func (v *fakeVault) RaiseMinDecryption(_ context.Context, _ vaultadmin.Deployment, version int64) (before int64, err error) {
	before, v.floor = v.floor, version
	return before, nil
}

func (v *fakeVault) Trim(_ context.Context, _ vaultadmin.Deployment, version, _ int64) error {
	if v.refusal != nil {
		return v.refusal
	}
	v.trimmed = version
	return nil
}

func reconciler(t *testing.T, vault *fakeVault, objects ...client.Object) *Reconciler {
	t.Helper()
	return reconcilerOf(crashtest.NewAPIServer(t, rotations.Indexes, objects...), vault)
}

// applyingReconciler returns a reconciler whose API server also does server-side apply.
func applyingReconciler(t *testing.T, vault *fakeVault, objects ...client.Object) *Reconciler {
	t.Helper()
	scheme, err := crashtest.Scheme()
	if err != nil {
		t.Fatal(err)
	}
	r := reconcilerOf(fake.NewClientBuilder().WithScheme(scheme).WithObjects(objects...).Build(), vault)
	r.Apply = apply.New(r.Client, r.Live)
	return r
}

func reconcilerOf(world client.Client, vault *fakeVault) *Reconciler {
	return &Reconciler{
		Client: world, Live: world, Recorder: events.NewFakeRecorder(100), Now: func() time.Time { return now },
		Vault:        func(string) (Vault, bool) { return vault, true },
		SetupCommand: setupCommand,
	}
}

func setupCommand(vaultadmin.Connection, *v1alpha1.SecureNotes) string { return "operator vault-setup" }

func rotationNames(t *testing.T, r *Reconciler) []string {
	t.Helper()
	list := &v1alpha1.KeyRotationList{}
	if err := r.Client.List(t.Context(), list); err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, kr := range list.Items {
		names = append(names, kr.Name)
	}
	slices.Sort(names)
	return names
}

func daily(s *scope) {
	s.sn.CreationTimestamp, s.sn.Generation = metav1.NewTime(now.Add(-100*time.Hour)), 1
	s.sn.Spec.KeyRotation = &v1alpha1.KeyRotationPolicy{Schedule: "@daily"}
}

// TestScheduleCreatesOne: only one of several missed times is caught up, and a pass that is
// repeated before it was recorded creates no second rotation.
func TestScheduleCreatesOne(t *testing.T) {
	t.Parallel()
	r := reconciler(t, &fakeVault{})
	for range 2 {
		s := healthy(daily)
		if err := r.manageRotations(t.Context(), s); err != nil {
			t.Fatal(err)
		}
		if want := now.UTC().Truncate(24 * time.Hour).Add(24 * time.Hour); !s.nextRotation.Time.Equal(want) {
			t.Errorf("next is %s, want %s", s.nextRotation, want)
		}
	}
	if names := rotationNames(t, r); len(names) != 1 {
		t.Errorf("created %v, want one", names)
	}
}

func TestScheduleWaits(t *testing.T) {
	t.Parallel()
	unended := &v1alpha1.KeyRotation{
		ObjectMeta: metav1.ObjectMeta{Name: "running", Namespace: "demo", Labels: map[string]string{v1alpha1.LabelScheduled: "true"}},
		Spec:       v1alpha1.KeyRotationSpec{SecureNotesRef: v1alpha1.LocalObjectReference{Name: "notes"}},
	}
	for name, tc := range map[string]struct {
		change  func(*scope)
		objects []client.Object
		want    int
	}{
		"while suspended":             {change: func(s *scope) { daily(s); s.sn.Spec.KeyRotation.Suspend = new(true) }, want: 0},
		"while the last one runs":     {change: daily, objects: []client.Object{unended}, want: 1},
		"until there is a master key": {change: func(s *scope) { daily(s); s.hasKeys = false }, want: 0},
		"until the next time":         {change: func(s *scope) { daily(s); s.sn.Status.LastScheduleTime = &metav1.Time{Time: now} }, want: 0},
		"with an invalid schedule":    {change: func(s *scope) { daily(s); s.sn.Spec.KeyRotation.Schedule = "x" }, want: 0},
	} {
		t.Run(name, func(t *testing.T) {
			r := reconciler(t, &fakeVault{}, tc.objects...)
			if err := r.manageRotations(t.Context(), healthy(tc.change)); err != nil {
				t.Fatal(err)
			}
			if names := rotationNames(t, r); len(names) != tc.want {
				t.Errorf("got KeyRotations %v, want %d", names, tc.want)
			}
		})
	}
}

func dueAt(to int64) func(*scope) {
	return func(s *scope) {
		s.connected = true
		s.sn.Status.MasterKey = &v1alpha1.MasterKeyStatus{
			MinDecryptionFloor: 1, PendingRetirements: []v1alpha1.PendingRetirement{{ToVersion: to, Due: metav1.NewTime(now), Attempt: 1}},
		}
	}
}

// endJob ends the only Job.
func endJob(t *testing.T, r *Reconciler, kind batchv1.JobConditionType) {
	t.Helper()
	endJobAt(t, r, kind, now)
}

func endJobAt(t *testing.T, r *Reconciler, kind batchv1.JobConditionType, at time.Time) {
	t.Helper()
	list := &batchv1.JobList{}
	if err := r.Live.List(t.Context(), list); err != nil || len(list.Items) != 1 {
		t.Fatalf("%v, %d Jobs", err, len(list.Items))
	}
	job := &list.Items[0]
	job.Status.CompletionTime = new(metav1.NewTime(at))
	job.Status.Conditions = []batchv1.JobCondition{{Type: kind, Status: corev1.ConditionTrue}}
	if kind == batchv1.JobComplete {
		job.Status.Succeeded, job.Status.CompletedIndexes = 1, "0"
	}
	if err := r.Client.Status().Update(t.Context(), job); err != nil {
		t.Fatal(err)
	}
}

// TestRetirementVerifiesFirst: a retirement raises the floor only after its own verification has
// succeeded.
func TestRetirementVerifiesFirst(t *testing.T) {
	t.Parallel()
	vault := &fakeVault{}
	r := reconciler(t, vault)
	s := healthy(dueAt(2))
	for range 2 {
		if err := retireAndTrim(t.Context(), r, s); err != nil {
			t.Fatal(err)
		}
	}
	if vault.floor != 0 {
		t.Fatal("the floor was raised while the verification ran")
	}
	endJob(t, r, batchv1.JobComplete)
	// The first pass dies before it records its work, so the Job must exist for the next one.
	unrecorded := healthy(dueAt(2), func(first *scope) { first.sn.Status = *s.sn.Status.DeepCopy() })
	for _, pass := range []*scope{unrecorded, s} {
		if err := retireAndTrim(t.Context(), r, pass); err != nil {
			t.Fatal(err)
		}
		if key := pass.sn.Status.MasterKey; vault.floor != 2 || len(key.PendingRetirements) != 0 || key.MinDecryptionFloor != 2 || pass.requeue.after == 0 {
			t.Errorf("floor %d, %+v", vault.floor, key)
		}
	}
}

func TestRetirementThatFailsIsPostponed(t *testing.T) {
	t.Parallel()
	vault := &fakeVault{}
	r := reconciler(t, vault)
	s := healthy(dueAt(2))
	if err := retireAndTrim(t.Context(), r, s); err != nil {
		t.Fatal(err)
	}
	endJob(t, r, batchv1.JobFailed)
	if err := retireAndTrim(t.Context(), r, s); err != nil {
		t.Fatal(err)
	}
	entry := s.sn.Status.MasterKey.PendingRetirements[0]
	if vault.floor != 0 || entry.Attempt != 2 || !entry.Due.After(now) || entry.Message == "" {
		t.Errorf("floor %d, %+v", vault.floor, entry)
	}
	status := computeStatus(s)
	if c := meta.FindStatusCondition(status.Conditions, v1alpha1.ConditionKeyRotationHealthy); c.Status != metav1.ConditionFalse {
		t.Errorf("got %+v, want False", c)
	}
}

// TestRetirementBehindAForeignJob: a Job that the cache does not hold is named in the message, and
// retried with a backoff.
func TestRetirementBehindAForeignJob(t *testing.T) {
	t.Parallel()
	own := metav1.NewControllerRef(object(), v1alpha1.GroupVersion.WithKind("SecureNotes"))
	unchanged := func(*batchv1.Job) {}
	other := metav1.NewControllerRef(&v1alpha1.SecureNotes{ObjectMeta: metav1.ObjectMeta{Name: "other", UID: "other-uid"}}, v1alpha1.GroupVersion.WithKind("SecureNotes"))
	for name, tc := range map[string]struct {
		meta    metav1.ObjectMeta
		change  func(*batchv1.Job)
		attempt int32
		wake    time.Duration
	}{
		"without owner":    {meta: metav1.ObjectMeta{}, change: unchanged, attempt: 2, wake: retirement.Retry},
		"of another owner": {meta: metav1.ObjectMeta{OwnerReferences: []metav1.OwnerReference{*other}, Labels: operand.Labels(object(), operand.ComponentVerify)}, change: unchanged, attempt: 2, wake: retirement.Retry},
		"without labels":   {meta: metav1.ObjectMeta{OwnerReferences: []metav1.OwnerReference{*own}}, change: unchanged, attempt: 2, wake: retirement.Retry},
		"of the last pass": {meta: metav1.ObjectMeta{OwnerReferences: []metav1.OwnerReference{*own}, Labels: operand.Labels(object(), operand.ComponentVerify)}, change: unchanged, attempt: 1, wake: retryInterval},
		"that does nothing": {meta: metav1.ObjectMeta{OwnerReferences: []metav1.OwnerReference{*own}, Labels: operand.Labels(object(), operand.ComponentVerify)},
			change: func(job *batchv1.Job) { job.Spec.Template.Spec.Containers[0].Command = []string{"true"} }, attempt: 2, wake: retirement.Retry},
	} {
		t.Run(name, func(t *testing.T) {
			tc.meta.Name, tc.meta.Namespace = operand.RetireJobName("notes", 2, 1), "demo"
			s := healthy(dueAt(2))
			job, err := reconciler(t, &fakeVault{}).verificationJob(s, verification{name: tc.meta.Name, to: 2, jobUID: new(string), jobDigest: new(string)}).Build(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			job.ObjectMeta = tc.meta
			tc.change(job)
			r := reconciler(t, &fakeVault{}, job)
			// The cache holds no Jobs.
			r.Client = interceptor.NewClient(r.Client.(client.WithWatch), interceptor.Funcs{
				Get: func(ctx context.Context, w client.WithWatch, key client.ObjectKey, o client.Object, opts ...client.GetOption) error {
					if _, ok := o.(*batchv1.Job); ok {
						return apierrors.NewNotFound(batchv1.Resource("jobs"), key.Name)
					}
					return w.Get(ctx, key, o, opts...)
				},
				List: func(context.Context, client.WithWatch, client.ObjectList, ...client.ListOption) error { return nil },
			})
			if err := retireAndTrim(t.Context(), r, s); err != nil {
				t.Fatal(err)
			}
			entry := s.sn.Status.MasterKey.PendingRetirements[0]
			if entry.Attempt != tc.attempt || s.requeue.after < tc.wake {
				t.Errorf("attempt %d, requeued after %s", entry.Attempt, s.requeue.after)
			}
			if entry.Attempt > 1 && !strings.Contains(entry.Message, "Job notes-retire-v2-1") {
				t.Errorf("the message is %q", entry.Message)
			}
		})
	}
}

func withRequest(value string, handled int64, last string) func(*scope) {
	return func(s *scope) {
		s.sn.Annotations = map[string]string{v1alpha1.AnnotationRotateRequestedAt: value}
		s.sn.Status.HandledRotateRequests, s.sn.Status.LastHandledRotateRequest = handled, last
	}
}

// TestEachRequestCreatesOne: a value that is used again requests another rotation. A pass that is
// repeated before the request was recorded creates no second one.
func TestEachRequestCreatesOne(t *testing.T) {
	t.Parallel()
	r := reconciler(t, &fakeVault{})
	handled, last := int64(0), ""
	for i, value := range []string{"1", "2", "1", "1"} {
		for range 2 {
			s := healthy(withRequest(value, handled, last))
			if err := r.manageRotations(t.Context(), s); err != nil {
				t.Fatal(err)
			}
			if s.sn.Status.LastHandledRotateRequest != value || s.rotationFinding.status != metav1.ConditionTrue {
				t.Errorf("request %d: %+v, %+v", i, s.sn.Status, s.rotationFinding)
			}
			if value != last {
				handled = s.sn.Status.HandledRotateRequests - 1
			}
		}
		if value != last {
			handled++
		}
		last = value
	}
	if names := rotationNames(t, r); len(names) != 3 || handled != 3 {
		t.Errorf("%d requests created %v, want 3", handled, names)
	}
}

// TestRequestOlderThanTheKeys: an object that is created with the annotation, for example by
// GitOps, is not rotated, neither before nor after it has keys, until the value changes.
func TestRequestOlderThanTheKeys(t *testing.T) {
	t.Parallel()
	r := reconciler(t, &fakeVault{})
	sn := object()
	for _, step := range []struct {
		value, deployment string
		keyed             bool
		made              int
	}{{value: "1"}, {value: "1", keyed: true}, {value: "1", deployment: "uid", keyed: true}, {value: "2", deployment: "uid", keyed: true, made: 1}} {
		sn.Status.DeploymentID = step.deployment
		s := healthy(withRequest(step.value, 0, sn.Status.LastHandledRotateRequest), func(s *scope) {
			s.original.Status.DeploymentID, s.hasKeys = step.deployment, step.keyed
		})
		if err := r.manageRotations(t.Context(), s); err != nil {
			t.Fatal(err)
		}
		if sn.Status.LastHandledRotateRequest = s.sn.Status.LastHandledRotateRequest; sn.Status.LastHandledRotateRequest != step.value {
			t.Errorf("%+v: handled %q", step, sn.Status.LastHandledRotateRequest)
		}
		if names := rotationNames(t, r); len(names) != step.made {
			t.Errorf("%+v: created %v", step, names)
		}
	}
}

// TestRotationOfTheSameName: a KeyRotation that only has the name of the due rotation does not
// replace it.
func TestRotationOfTheSameName(t *testing.T) {
	t.Parallel()
	due := now.UTC().Truncate(24 * time.Hour)
	good := func() *v1alpha1.KeyRotation {
		kr := newRotation(object(), fmt.Sprintf("notes-%d", due.Unix()/60))
		kr.Labels[v1alpha1.LabelScheduled] = "true"
		kr.CreationTimestamp = metav1.NewTime(due.Add(time.Second))
		return kr
	}
	for name, tc := range map[string]struct {
		change func(*v1alpha1.KeyRotation)
		taken  bool
	}{
		"created by an interrupted pass": {change: func(*v1alpha1.KeyRotation) {}, taken: true},
		"by a slow clock":                {change: func(kr *v1alpha1.KeyRotation) { kr.CreationTimestamp = metav1.NewTime(due.Add(-time.Second)) }, taken: true},
		"created long before it is due":  {change: func(kr *v1alpha1.KeyRotation) { kr.CreationTimestamp = metav1.NewTime(due.Add(-time.Hour)) }},
		"without owner":                  {change: func(kr *v1alpha1.KeyRotation) { kr.OwnerReferences = nil }},
		"of another owner":               {change: func(kr *v1alpha1.KeyRotation) { kr.OwnerReferences[0].UID = "other" }},
		"created by hand":                {change: func(kr *v1alpha1.KeyRotation) { kr.Labels = nil }},
		"of another SecureNotes":         {change: func(kr *v1alpha1.KeyRotation) { kr.Spec.SecureNotesRef.Name = "other" }},
		"with a weaker strategy":         {change: func(kr *v1alpha1.KeyRotation) { kr.Spec.Strategy = v1alpha1.StrategyRewrap }},
	} {
		t.Run(name, func(t *testing.T) {
			existing := good()
			tc.change(existing)
			// A running one would prevent the schedule from creating another.
			existing.Status.Conditions = []metav1.Condition{{Type: v1alpha1.ConditionComplete, Status: metav1.ConditionTrue}}
			r := reconciler(t, &fakeVault{}, existing)
			s := healthy(daily)
			if err := r.manageRotations(t.Context(), s); err != nil {
				t.Fatal(err)
			}
			if taken := s.sn.Status.LastScheduleTime != nil; taken != tc.taken {
				t.Errorf("taken is %t", taken)
			}
			if !tc.taken && (s.rotationFinding.reason != v1alpha1.ReasonNameConflict || !strings.Contains(s.rotationFinding.message, existing.Name)) {
				t.Errorf("got %+v, want %s that names %s", s.rotationFinding, v1alpha1.ReasonNameConflict, existing.Name)
			}
		})
	}
}

// TestResourcesThatCannotBeRead: invalid resources start no pod. The Deployment is not changed, and
// the Job of a retirement is not created.
func TestResourcesThatCannotBeRead(t *testing.T) {
	t.Parallel()
	r := reconciler(t, &fakeVault{})
	s := healthy(dueAt(2), func(s *scope) {
		s.configHash, s.deployment = "hash", nil
		s.sn.Spec.Resources = &v1alpha1.Resources{Limits: map[string]v1alpha1.Quantity{"cpu": "1e1.5"}}
	})
	// There is no Applier, so applying anything would panic.
	for _, do := range []func(context.Context, *scope) error{r.workload, r.retireVersions} {
		if err := do(t.Context(), s); err != nil {
			t.Fatal(err)
		}
	}
	if childTrouble(s).reason != v1alpha1.ReasonInvalidResources || !strings.Contains(childTrouble(s).message, `spec.resources.limits of "cpu"`) {
		t.Errorf("got %+v, want %s that names the limit of cpu", childTrouble(s), v1alpha1.ReasonInvalidResources)
	}
	jobs := &batchv1.JobList{}
	if err := r.Client.List(t.Context(), jobs); err != nil || len(jobs.Items) != 0 {
		t.Errorf("error %v with %d Jobs, want none", err, len(jobs.Items))
	}
	if entry := s.sn.Status.MasterKey.PendingRetirements[0]; entry.Attempt != 2 || !strings.Contains(entry.Message, "spec.resources") {
		t.Errorf("got %+v, want a second attempt that names spec.resources", entry)
	}
}
