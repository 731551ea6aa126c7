package keyrotation

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	clientgoscheme "k8s.io/client-go/kubernetes/scheme"
	"k8s.io/client-go/tools/events"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/fake"
	"sigs.k8s.io/controller-runtime/pkg/client/interceptor"

	"github.com/securenotes/securenotes/api/v1alpha1"
	"github.com/securenotes/securenotes/app/config"
	"github.com/securenotes/securenotes/controllers/internal/operand"
	"github.com/securenotes/securenotes/controllers/internal/vaultadmin"
)

// errCrash is what the operator sees of its own death: nothing after it happens.
var errCrash = errors.New("crash")

// crash counts everything that changes the world, in Kubernetes and in Vault, and strikes at one.
type crash struct {
	// at is the write that is struck, from 1; 0: none.
	at int
	// after says that the struck write goes through and only its answer is lost.
	after bool
	count int
}

func (c *crash) around(write func() error) error {
	c.count++
	if c.count != c.at {
		return write()
	}
	if c.after {
		if err := write(); err != nil {
			return err
		}
	}
	return errCrash
}

type fakeVault struct {
	crash *crash
	state vaultadmin.KeyState
}

func (v *fakeVault) Connection() vaultadmin.Connection {
	return vaultadmin.Connection{Name: "default", Address: "https://vault:8200", AuthMount: "kubernetes", TransitMount: "transit", KVMount: "secret", Audience: "vault"}
}

func (v *fakeVault) ReadKey(context.Context, string) (vaultadmin.KeyState, error) {
	return v.state, nil
}

func (v *fakeVault) Rotate(context.Context, string) error {
	return v.crash.around(func() error { v.state.Latest++; return nil })
}

func (v *fakeVault) RaiseMinEncryption(_ context.Context, _ string, version int64) error {
	return v.crash.around(func() error { v.state.MinEncryption = max(v.state.MinEncryption, version); return nil })
}

func (c *crash) interceptor() interceptor.Funcs {
	return interceptor.Funcs{
		Create: func(ctx context.Context, w client.WithWatch, o client.Object, opts ...client.CreateOption) error {
			return c.around(func() error {
				// As the API server does.
				if o.GetUID() == "" {
					o.SetUID(types.UID(fmt.Sprintf("made-%d", c.count)))
				}
				return w.Create(ctx, o, opts...)
			})
		},
		Patch: func(ctx context.Context, w client.WithWatch, o client.Object, p client.Patch, opts ...client.PatchOption) error {
			return c.around(func() error { return w.Patch(ctx, o, p, opts...) })
		},
		SubResourcePatch: func(ctx context.Context, w client.Client, sub string, o client.Object, p client.Patch, opts ...client.SubResourcePatchOption) error {
			return c.around(func() error { return w.SubResource(sub).Patch(ctx, o, p, opts...) })
		},
	}
}

func scheme(t *testing.T) *runtime.Scheme {
	t.Helper()
	s := runtime.NewScheme()
	for _, add := range []func(*runtime.Scheme) error{clientgoscheme.AddToScheme, v1alpha1.AddToScheme} {
		if err := add(s); err != nil {
			t.Fatal(err)
		}
	}
	return s
}

// drive runs a rotation to its end, starting the operator anew after a crash, and completing Jobs.
func drive(t *testing.T, c *crash) (*v1alpha1.KeyRotation, *v1alpha1.SecureNotes, *fakeVault, []batchv1.Job) {
	t.Helper()
	world := fake.NewClientBuilder().WithScheme(scheme(t)).
		WithStatusSubresource(&v1alpha1.SecureNotes{}, &v1alpha1.KeyRotation{}, &batchv1.Job{}).
		WithObjects(notes(), rotation("first")).WithInterceptorFuncs(c.interceptor()).Build()
	vault := &fakeVault{crash: c, state: vaultadmin.KeyState{Latest: 1, MinDecryption: 1}}
	request := ctrl.Request{NamespacedName: client.ObjectKey{Namespace: "ns", Name: "first"}}
	kr := &v1alpha1.KeyRotation{}
	for range 40 {
		// A new one for each pass: nothing may depend on what the last one remembered.
		r := &Reconciler{
			Client: world, Live: world, Recorder: events.NewFakeRecorder(100),
			Vault:       func(string) (Vault, bool) { return vault, true },
			Environment: operand.Environment{Image: "image", PullPolicy: corev1.PullIfNotPresent, ClusterID: "cluster"},
			Now:         func() time.Time { return time.Unix(5000, 0) },
		}
		if _, err := r.Reconcile(t.Context(), request); err != nil && !errors.Is(err, errCrash) {
			t.Fatalf("pass: %v", err)
		}
		completeJobs(t, world)
		if err := world.Get(t.Context(), request.NamespacedName, kr); err != nil {
			t.Fatal(err)
		}
		if Ended(kr) && !hasFinalizer(kr) {
			break
		}
	}
	parent := &v1alpha1.SecureNotes{}
	if err := world.Get(t.Context(), client.ObjectKey{Namespace: "ns", Name: "notes"}, parent); err != nil {
		t.Fatal(err)
	}
	jobs := &batchv1.JobList{}
	if err := world.List(t.Context(), jobs); err != nil {
		t.Fatal(err)
	}
	return kr, parent, vault, jobs.Items
}

func completeJobs(t *testing.T, world client.Client) {
	t.Helper()
	jobs := &batchv1.JobList{}
	if err := world.List(t.Context(), jobs); err != nil {
		t.Fatal(err)
	}
	for _, job := range jobs.Items {
		if len(job.Status.Conditions) > 0 {
			continue
		}
		job.Status.Conditions = []batchv1.JobCondition{{Type: batchv1.JobComplete, Status: corev1.ConditionTrue}}
		if err := world.Status().Update(t.Context(), &job); err != nil {
			t.Fatal(err)
		}
	}
}

// TestCrashAnywhere kills the operator before and after each of its writes. Whatever happens, the
// rotation ends, the key has one version more, each Job ran once, and the retirement is noted once.
func TestCrashAnywhere(t *testing.T) {
	whole := &crash{}
	drive(t, whole)
	if whole.count < 10 {
		t.Fatalf("a rotation has only %d writes", whole.count)
	}
	for at := 1; at <= whole.count; at++ {
		for _, after := range []bool{false, true} {
			t.Run(fmt.Sprintf("write %d, went through %t", at, after), func(t *testing.T) {
				kr, parent, vault, jobs := drive(t, &crash{at: at, after: after})
				if !Complete(kr) || *kr.Status.FromVersion != 1 || *kr.Status.ToVersion != 2 || kr.Status.Attempt != 1 {
					t.Errorf("status: %+v", kr.Status)
				}
				if vault.state.Latest != 2 || vault.state.MinEncryption != 2 || vault.state.MinDecryption != 1 {
					t.Errorf("key: %+v", vault.state)
				}
				if len(jobs) != 2 || string(jobs[0].UID) != kr.Status.ReencryptJobUID || string(jobs[1].UID) != kr.Status.VerifyJobUID {
					t.Errorf("%d Jobs, recorded %q and %q", len(jobs), kr.Status.ReencryptJobUID, kr.Status.VerifyJobUID)
				}
				if key := parent.Status.MasterKey; key == nil || len(key.PendingRetirements) != 1 || key.PendingRetirements[0].ToVersion != 2 {
					t.Errorf("retirements: %+v", key)
				}
			})
		}
	}
}

// TestCompromiseTakesOver: a Compromise does not wait for a Routine rotation at work. That one ends,
// saying which one took over, before the Compromise takes a version of its own.
func TestCompromiseTakesOver(t *testing.T) {
	c := &crash{}
	world := fake.NewClientBuilder().WithScheme(scheme(t)).
		WithStatusSubresource(&v1alpha1.SecureNotes{}, &v1alpha1.KeyRotation{}, &batchv1.Job{}).
		WithObjects(notes(), rotation("first")).WithInterceptorFuncs(c.interceptor()).Build()
	vault := &fakeVault{crash: c, state: vaultadmin.KeyState{Latest: 1, MinDecryption: 1}}
	r := &Reconciler{
		Client: world, Live: world, Recorder: events.NewFakeRecorder(100),
		Vault:       func(string) (Vault, bool) { return vault, true },
		Environment: operand.Environment{Image: "image", PullPolicy: corev1.PullIfNotPresent, ClusterID: "cluster"},
		Now:         func() time.Time { return time.Unix(5000, 0) },
	}
	pass := func(name string) *v1alpha1.KeyRotation {
		key := client.ObjectKey{Namespace: "ns", Name: name}
		if _, err := r.Reconcile(t.Context(), ctrl.Request{NamespacedName: key}); err != nil {
			t.Fatal(err)
		}
		kr := &v1alpha1.KeyRotation{}
		if err := world.Get(t.Context(), key, kr); err != nil {
			t.Fatal(err)
		}
		return kr
	}
	if first := pass("first"); first.Status.State != v1alpha1.ReasonReencrypting {
		t.Fatalf("%+v", first.Status)
	}
	if err := world.Create(t.Context(), rotation("second", urgent)); err != nil {
		t.Fatal(err)
	}
	if second := pass("second"); !started(second) || second.Status.FromVersion != nil {
		t.Errorf("the Compromise has not begun, or has a version already: %+v", second.Status)
	}
	first := pass("first")
	failed := meta.FindStatusCondition(first.Status.Conditions, v1alpha1.ConditionFailed)
	if failed == nil || failed.Reason != config.ReasonSuperseded || !strings.Contains(failed.Message, "KeyRotation second") || strings.Contains(failed.Message, "retry") {
		t.Errorf("%+v", failed)
	}
	pass("second")
	completeJobs(t, world)
	pass("second")
	completeJobs(t, world)
	if second := pass("second"); !Complete(second) || *second.Status.FromVersion != 2 || *second.Status.ToVersion != 3 {
		t.Errorf("%+v", second.Status)
	}
}

// TestForgedJobs: a Job of the right name, labels and owner is believed only if the operator made it.
func TestForgedJobs(t *testing.T) {
	kr := rotation("first", running, from(1), to(2))
	kr.Status.Strategy = v1alpha1.StrategyReencrypt
	reconciler := func(image string) *Reconciler {
		vault := &fakeVault{crash: &crash{}}
		return &Reconciler{
			Vault:       func(string) (Vault, bool) { return vault, true },
			Environment: operand.Environment{Image: image, PullPolicy: corev1.PullIfNotPresent, ClusterID: "cluster"},
		}
	}
	for name, tc := range map[string]struct {
		image, recorded string
		change          func(*batchv1.Job)
		foreign         string
	}{
		"the one that was made":             {"image", "made", func(*batchv1.Job) {}, ""},
		"made by the operator before":       {"newer", "made", func(*batchv1.Job) {}, ""},
		"made, and not recorded":            {"image", "", func(*batchv1.Job) {}, ""},
		"another one of the name":           {"image", "made", func(j *batchv1.Job) { j.UID = "forged" }, "another of its name"},
		"not recorded, of another image":    {"image", "", func(j *batchv1.Job) { j.Spec.Template.Spec.Containers[0].Image = "true" }, "its image"},
		"not recorded, of another command":  {"image", "", func(j *batchv1.Job) { j.Spec.Template.Spec.Containers[0].Command = []string{"true"} }, "its command"},
		"not recorded, and somebody else's": {"image", "", func(j *batchv1.Job) { j.OwnerReferences[0].UID = "b" }, "does not belong to first"},
		"recorded, but given away":          {"image", "made", func(j *batchv1.Job) { j.OwnerReferences = nil }, "does not belong to first"},
		"one that the cache would not show": {"image", "made", func(j *batchv1.Job) { j.Labels = nil }, "does not belong to first"},
	} {
		t.Run(name, func(t *testing.T) {
			made, err := reconciler("image").verifyJob(kr, notes()).Build()
			if err != nil {
				t.Fatal(err)
			}
			made.UID = "made"
			made.Status.Conditions = []batchv1.JobCondition{{Type: batchv1.JobComplete, Status: corev1.ConditionTrue}}
			tc.change(made)
			now := kr.DeepCopy()
			now.Status.VerifyJobUID = tc.recorded
			world := fake.NewClientBuilder().WithScheme(scheme(t)).WithObjects(made).Build()
			got, err := ReadOutcome(t.Context(), world, reconciler(tc.image).verifyJob(now, notes()))
			if err != nil {
				t.Fatal(err)
			}
			want := JobComplete
			if tc.foreign != "" {
				want = JobForeign
			}
			if got.Phase != want || !strings.Contains(got.Message, tc.foreign) || (tc.foreign == "") != (got.UID == "made") {
				t.Errorf("%+v", got)
			}
		})
	}
}
