package securenotes

import (
	"context"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/interceptor"

	"github.com/securenotes/securenotes/api/v1alpha1"
	"github.com/securenotes/securenotes/controllers/internal/apply"
	"github.com/securenotes/securenotes/controllers/internal/crashtest"
	"github.com/securenotes/securenotes/controllers/internal/operand"
	"github.com/securenotes/securenotes/controllers/internal/vaultadmin"
)

// askedVault records its calls, and returns err.
type askedVault struct {
	fakeVault
	deployments []vaultadmin.Deployment
	err         error
}

func (v *askedVault) Ensure(_ context.Context, d vaultadmin.Deployment) (vaultadmin.DeploymentState, error) {
	v.deployments = append(v.deployments, d)
	return vaultadmin.DeploymentState{DeploymentID: "first", Key: vaultadmin.KeyState{Latest: 1, MinDecryption: 1}}, v.err
}

func (v *askedVault) Shred(_ context.Context, d vaultadmin.Deployment) error {
	v.deployments = append(v.deployments, d)
	return v.err
}

func (v *askedVault) RaiseMinDecryption(context.Context, vaultadmin.Deployment, int64) (int64, error) {
	return 0, v.err
}

func (v *askedVault) Trim(context.Context, vaultadmin.Deployment, int64, int64) error { return v.err }

func askedReconciler(t *testing.T, vault Vault, objects ...client.Object) *Reconciler {
	t.Helper()
	r := reconciler(t, &fakeVault{}, objects...)
	r.Vault = func(string) (Vault, bool) { return vault, true }
	return r
}

// TestChangedClusterIDIsRefused: the key was created under another cluster id than the operator's.
// The operator does not call Vault, the pods keep their configuration, and the message names both
// ids.
func TestChangedClusterIDIsRefused(t *testing.T) {
	t.Parallel()
	vault := &askedVault{}
	r := askedReconciler(t, vault)
	sn := object()
	sn.Status.DeploymentID, sn.Status.MasterKey = "first", &v1alpha1.MasterKeyStatus{Name: "sn-lost.demo.notes", LatestVersion: 1}
	s := newScope(sn, operand.Environment{ClusterID: "rebuilt"}, now)
	for _, do := range []func(context.Context, *scope) error{r.vault, r.configuration, r.volume} {
		if err := do(t.Context(), s); err != nil {
			t.Fatal(err)
		}
	}
	status := computeStatus(s)
	for _, kind := range []string{v1alpha1.ConditionVaultReady, v1alpha1.ConditionReady, v1alpha1.ConditionStalled} {
		c := meta.FindStatusCondition(status.Conditions, kind)
		if c == nil || c.Reason != v1alpha1.ReasonClusterIDChanged || !strings.Contains(c.Message, "sn-lost.demo.notes") || !strings.Contains(c.Message, "sn-rebuilt.") {
			t.Errorf("%s: %+v", kind, c)
		}
	}
	if len(vault.deployments) != 0 || status.MasterKey.Name != "sn-lost.demo.notes" || s.configHash != "" {
		t.Errorf("Vault was asked %d times; the key is %s; the configuration's hash is %q", len(vault.deployments), status.MasterKey.Name, s.configHash)
	}

	sn.Spec.DeletionPolicy = v1alpha1.DeletionPolicyDelete
	sn.Finalizers = []string{v1alpha1.Finalizer}
	s = newScope(sn, operand.Environment{ClusterID: "rebuilt"}, now)
	if done, err := r.finalize(t.Context(), s); done || err != nil || s.vaultFinding.reason != v1alpha1.ReasonClusterIDChanged || len(vault.deployments) != 0 {
		t.Errorf("deletion: done %t, %v, %+v; Vault was asked %d times", done, err, s.vaultFinding, len(vault.deployments))
	}
}

// TestKeysAreCheckedWithTheNamespaceUID: the marker in Vault is compared with the UID that the
// namespace has on the API server.
func TestKeysAreCheckedWithTheNamespaceUID(t *testing.T) {
	t.Parallel()
	vault := &askedVault{}
	r := askedReconciler(t, vault, &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: "demo", UID: "demo-uid"}})
	sn := object()
	sn.Spec.AdoptRetainedKeyOf = "old-uid"
	if err := r.vault(t.Context(), newScope(sn, operand.Environment{ClusterID: "cluster"}, now)); err != nil {
		t.Fatal(err)
	}
	if len(vault.deployments) != 1 || vault.deployments[0].NamespaceUID != "demo-uid" || vault.deployments[0].AdoptOf != "old-uid" || vault.deployments[0].DeploymentID != "" {
		t.Errorf("got %+v, want one deployment of namespace demo-uid that adopts old-uid", vault.deployments)
	}
}

// TestRightsOfAnEarlierRelease: an operator that may not read namespaces continues, with a UID that
// matches no marker.
func TestRightsOfAnEarlierRelease(t *testing.T) {
	t.Parallel()
	vault := &askedVault{}
	r := askedReconciler(t, vault)
	r.Live = interceptor.NewClient(crashtest.NewAPIServer(t, nil), interceptor.Funcs{
		Get: func(context.Context, client.WithWatch, client.ObjectKey, client.Object, ...client.GetOption) error {
			return apierrors.NewForbidden(corev1.Resource("namespaces"), "demo", nil)
		},
	})
	s := newScope(object(), operand.Environment{ClusterID: "cluster"}, now)
	if err := r.vault(t.Context(), s); err != nil {
		t.Fatal(err)
	}
	if s.vaultFinding.status != metav1.ConditionTrue || vault.deployments[0].NamespaceUID != "" {
		t.Errorf("%+v, asked with %+v", s.vaultFinding, vault.deployments)
	}
}

// TestTakenKeyIsNotReady: if any call finds that another object has the key, Ready says so, and
// later passes do not rely on earlier results.
func TestTakenKeyIsNotReady(t *testing.T) {
	t.Parallel()
	taken := &vaultadmin.Error{Problem: vaultadmin.Taken}
	for name, find := range map[string]func(*Reconciler, *scope) error{
		"ensure": func(r *Reconciler, s *scope) error { return r.vault(t.Context(), s) },
		"retire": func(r *Reconciler, s *scope) error { return r.raiseFloor(t.Context(), s, 2) },
		"trim": func(r *Reconciler, s *scope) error {
			return r.destroyVersions(t.Context(), s, &v1alpha1.Retirement{ToVersion: 2, JobUID: "job"}, 2)
		},
	} {
		t.Run(name, func(t *testing.T) {
			sn := object()
			sn.Status.DeploymentID, sn.Status.MasterKey = "first", &v1alpha1.MasterKeyStatus{Name: "sn-cluster.demo.notes", LatestVersion: 1}
			vault := &askedVault{err: taken}
			r := askedReconciler(t, vault, sn.DeepCopy())
			r.vaultChecks.put(sn.UID, check{until: now.Add(1), inputs: "x"})
			s := newScope(sn, operand.Environment{ClusterID: "cluster"}, now)
			s.key = &vaultadmin.KeyState{Latest: 1}
			if err := find(r, s); err != nil {
				t.Fatal(err)
			}
			status := computeStatus(s)
			if ready := meta.FindStatusCondition(status.Conditions, v1alpha1.ConditionReady); ready.Status != metav1.ConditionFalse || ready.Reason != v1alpha1.ReasonKeyTaken {
				t.Errorf("Ready: %+v", ready)
			}
			if r.vaultChecks.get(sn.UID).fresh("x", now) {
				t.Error("an earlier result of Vault still counts")
			}
		})
	}
}

// TestConflictsAreNamedAtOnce: one message names every name conflict, also after another refusal.
func TestConflictsAreNamedAtOnce(t *testing.T) {
	t.Parallel()
	s := healthy()
	s.refusals = []finding{bad(v1alpha1.ReasonApplyFailed, "a quota")}
	for _, kind := range []string{"ConfigMap", "Service"} {
		s.conflicts = append(s.conflicts, &apply.ConflictError{Kind: kind, Name: "notes", Owner: ""})
	}
	want := "ConfigMap notes already exists and has no owner; Service notes already exists and has no owner: delete them or recreate them under other names, or create the SecureNotes under another name"
	if got := childTrouble(s); got.reason != v1alpha1.ReasonNameConflict || got.message != want {
		t.Errorf("got %+v, want %s with %q", got, v1alpha1.ReasonNameConflict, want)
	}
}

// TestAConflictIsNamedOnce: a child that is applied twice in a pass, as the configuration is when
// the record of the database changes, is named once.
func TestAConflictIsNamedOnce(t *testing.T) {
	t.Parallel()
	s := healthy()
	foreign := operand.ProgressConfigMap(s.sn)
	foreign.OwnerReferences = []metav1.OwnerReference{{APIVersion: "v1", Kind: "ConfigMap", Name: "other", UID: "other", Controller: new(true)}}
	r := applyingReconciler(t, &fakeVault{}, foreign)
	for range 2 {
		if accepted, err := r.apply(t.Context(), s, operand.ProgressConfigMap(s.sn), nil); accepted || err != nil {
			t.Fatalf("accepted %t, error %v, want a conflict", accepted, err)
		}
	}
	if got := childTrouble(s); got.reason != v1alpha1.ReasonNameConflict || strings.Count(got.message, foreign.Name) != 1 {
		t.Errorf("got %+v, want %s with %s once", got, v1alpha1.ReasonNameConflict, foreign.Name)
	}
}

// TestRetainedKeysAreCounted counts objects that found the keys of another one, and deleted objects
// whose keys stay.
func TestRetainedKeysAreCounted(t *testing.T) {
	t.Parallel()
	waiting := object()
	waiting.Status.Conditions = []metav1.Condition{{Type: v1alpha1.ConditionVaultReady, Status: metav1.ConditionFalse, Reason: v1alpha1.ReasonKeyRetained}}
	going := func(name string, policy v1alpha1.DeletionPolicy, established bool) *v1alpha1.SecureNotes {
		sn := object()
		sn.Name, sn.Finalizers, sn.Spec.DeletionPolicy = name, []string{v1alpha1.Finalizer}, policy
		sn.DeletionTimestamp = new(metav1.NewTime(now))
		if established {
			sn.Status.DeploymentID = "first"
		}
		return sn
	}
	kept, destroyed, never := going("kept", "", true), going("destroyed", v1alpha1.DeletionPolicyDelete, true), going("never", "", false)
	deposed := going("deposed", v1alpha1.DeletionPolicyDelete, true) // another cluster uses its keys
	vault := &askedVault{}
	r := askedReconciler(t, vault, waiting, kept, destroyed, never, deposed)
	for _, sn := range []*v1alpha1.SecureNotes{kept, destroyed, never, deposed} {
		if sn == deposed {
			vault.err = &vaultadmin.Error{Problem: vaultadmin.Taken}
		}
		if err := r.Client.Get(t.Context(), client.ObjectKeyFromObject(sn), sn); err != nil {
			t.Fatal(err)
		}
		if done, err := r.finalize(t.Context(), newScope(sn, operand.Environment{ClusterID: "cluster"}, now)); !done || err != nil {
			t.Fatalf("%s: done %t, %v", sn.Name, done, err)
		}
	}
	registry := prometheus.NewRegistry()
	registry.MustRegister(collector{r})
	answer := httptest.NewRecorder()
	promhttp.HandlerFor(registry, promhttp.HandlerOpts{}).ServeHTTP(answer, httptest.NewRequest(http.MethodGet, "/metrics", nil))
	for _, line := range []string{"\nsecurenotes_retained_keys 1\n", "\nsecurenotes_keys_left_in_vault_total 1\n"} {
		if !strings.Contains(answer.Body.String(), line) {
			t.Errorf("no %q in:\n%s", strings.TrimSpace(line), answer.Body.String())
		}
	}
}
