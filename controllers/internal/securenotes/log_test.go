package securenotes

import (
	"context"
	"encoding/json"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/go-logr/logr/funcr"
	appsv1 "k8s.io/api/apps/v1"
	"k8s.io/apimachinery/pkg/runtime"
	clientgoscheme "k8s.io/client-go/kubernetes/scheme"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/fake"
	"sigs.k8s.io/controller-runtime/pkg/log"

	"github.com/securenotes/securenotes/api/v1alpha1"
	"github.com/securenotes/securenotes/app/config"
	"github.com/securenotes/securenotes/controllers/internal/apply"
	"github.com/securenotes/securenotes/controllers/internal/backups"
	"github.com/securenotes/securenotes/controllers/internal/operand"
	"github.com/securenotes/securenotes/controllers/internal/restores"
	"github.com/securenotes/securenotes/controllers/internal/rotations"
	"github.com/securenotes/securenotes/controllers/internal/vaultadmin"
)

// line is one line of the log.
type line struct {
	Level     int
	Msg       string
	Step      string
	Kind      string
	Operation string
	After     string
	Reason    string
	Condition string
}

// logged runs a pass over the object of [object], and returns what it logs at V(0) and V(1).
func logged(t *testing.T, r *Reconciler) (changes, details []line) {
	t.Helper()
	var raw []string
	logger := funcr.NewJSON(func(text string) { raw = append(raw, text) }, funcr.Options{Verbosity: 1})
	if _, err := r.Reconcile(log.IntoContext(t.Context(), logger), ctrl.Request{NamespacedName: client.ObjectKeyFromObject(object())}); err != nil {
		t.Fatal(err)
	}
	for _, text := range raw {
		l := line{}
		if err := json.Unmarshal([]byte(text), &l); err != nil {
			t.Fatalf("%s: %v", text, err)
		}
		if l.Level == 0 {
			changes = append(changes, l)
		} else {
			details = append(details, l)
		}
	}
	return changes, details
}

// TestPassesAreLogged: the first passes log each change once, with its step. A settled pass logs
// nothing but its requeue, with the reason, at V(1).
func TestPassesAreLogged(t *testing.T) {
	t.Parallel()
	sn := object()
	sn.Spec.Replicas, sn.Spec.Backup = new(int32(1)), &v1alpha1.BackupPolicy{Schedule: "@daily"}
	sn.UID = "0b1d0000-0000-4000-8000-00000000000a"
	r := wholeReconciler(t, &completeVault{}, sn)

	if changes, _ := logged(t, r); len(changes) != 1 || changes[0].Msg != "finalizers changed" || changes[0].Step != "finalizer" {
		t.Errorf("the first pass logs %+v, want one line about the finalizer", changes)
	}
	changes, _ := logged(t, r)
	for _, want := range []line{
		{Msg: "applied an object", Step: "service", Kind: "Service", Operation: "created"},
		{Msg: "applied an object", Step: "workload", Kind: "Deployment", Operation: "created"},
		{Msg: "condition changed", Step: "status", Condition: v1alpha1.ConditionReady, Reason: v1alpha1.ReasonProgressing},
	} {
		if !slices.Contains(changes, want) {
			t.Errorf("the second pass logs %+v, want %+v among them", changes, want)
		}
	}
	deployment := &appsv1.Deployment{}
	if err := r.Client.Get(t.Context(), client.ObjectKeyFromObject(sn), deployment); err != nil {
		t.Fatal(err)
	}
	deployment.Status = appsv1.DeploymentStatus{ObservedGeneration: deployment.Generation, Replicas: 1, UpdatedReplicas: 1, AvailableReplicas: 1, ReadyReplicas: 1}
	if err := r.Client.Status().Update(t.Context(), deployment); err != nil {
		t.Fatal(err)
	}
	for range 3 {
		logged(t, r)
	}
	changes, details := logged(t, r)
	if len(changes) != 0 {
		t.Errorf("a settled pass logs %+v, want nothing", changes)
	}
	if len(details) != 1 || details[0].Msg != "requeued" || strings.TrimSpace(details[0].Reason) == "" || details[0].After == "" {
		t.Errorf("a settled pass logs %+v at V(1), want one requeue with its reason", details)
	}
	settled := &v1alpha1.SecureNotes{}
	if err := r.Client.Get(t.Context(), client.ObjectKeyFromObject(sn), settled); err != nil {
		t.Fatal(err)
	}
	if len(settled.Status.Conditions) == 0 || settled.Status.DeploymentID == "" || settled.Status.Backup == nil {
		t.Errorf("status %+v, want that of an object with keys and backups", settled.Status)
	}
}

// completeVault holds the keys of an object.
type completeVault struct{ fakeVault }

func (*completeVault) Connection() vaultadmin.Connection {
	return vaultadmin.Connection{
		Name: "default", Address: "https://vault:8200", AuthMount: "kubernetes", TransitMount: "transit", KVMount: "secret", Audience: "vault",
	}
}

func (*completeVault) Ensure(_ context.Context, d vaultadmin.Deployment) (vaultadmin.DeploymentState, error) {
	secrets, digest := d.Secrets, strings.Repeat("a", 64)
	if d.DeploymentID == "" {
		secrets.SessionKeys = vaultadmin.Secret{Entry: config.NewSessionKeysEntry(1), Digest: digest}
		secrets.Pepper = vaultadmin.Secret{Entry: config.NewPepperEntry(), Digest: digest}
	}
	return vaultadmin.DeploymentState{
		DeploymentID: d.UID, Key: vaultadmin.KeyState{Latest: 1, MinDecryption: 1}, Secrets: secrets,
		Database: vaultadmin.DatabaseState{Claimed: d.DeploymentID != ""},
	}, nil
}

// wholeReconciler returns a reconciler that can run every phase.
func wholeReconciler(t *testing.T, vault Vault, objects ...client.Object) *Reconciler {
	t.Helper()
	scheme := runtime.NewScheme()
	for _, add := range []func(*runtime.Scheme) error{clientgoscheme.AddToScheme, v1alpha1.AddToScheme} {
		if err := add(scheme); err != nil {
			t.Fatal(err)
		}
	}
	builder := fake.NewClientBuilder().WithScheme(scheme).WithObjects(objects...).WithStatusSubresource(&v1alpha1.SecureNotes{}, &appsv1.Deployment{})
	for name, index := range rotations.Indexes {
		builder = builder.WithIndex(&v1alpha1.KeyRotation{}, name, index)
	}
	for name, index := range backups.Indexes {
		builder = builder.WithIndex(&v1alpha1.NotesBackup{}, name, index)
	}
	for name, index := range restores.Indexes {
		builder = builder.WithIndex(&v1alpha1.NotesRestore{}, name, index)
	}
	r := reconcilerOf(builder.Build(), nil)
	r.Apply = apply.New(r.Client, r.Live)
	r.Vault = func(string) (Vault, bool) { return vault, true }
	r.Environment = operand.Environment{ClusterID: "cluster", Image: "image"}
	r.VaultResyncInterval = time.Hour
	return r
}
