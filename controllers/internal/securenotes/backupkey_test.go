package securenotes

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"strings"
	"testing"
	"time"

	"github.com/go-logr/logr/funcr"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/tools/events"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/interceptor"
	"sigs.k8s.io/controller-runtime/pkg/log"

	"github.com/securenotes/securenotes/api/v1alpha1"
	"github.com/securenotes/securenotes/app/config"
	"github.com/securenotes/securenotes/controllers/internal/vaultadmin"
)

// signingVault is a complete Vault with a backup key. It counts its checks.
type signingVault struct {
	completeVault
	backupKey   vaultadmin.BackupKeyState
	deployments []vaultadmin.Deployment
}

func (v *signingVault) Ensure(ctx context.Context, d vaultadmin.Deployment) (vaultadmin.DeploymentState, error) {
	v.deployments = append(v.deployments, d)
	state, err := v.completeVault.Ensure(ctx, d)
	state.BackupKey = v.backupKey
	return state, err
}

// backupKeys returns a key with that many versions, a day apart.
func backupKeys(versions int) *config.BackupKeys {
	keys := &config.BackupKeys{Key: config.BackupKeyName("cluster", "demo", "notes")}
	for number := 1; number <= versions; number++ {
		version := config.BackupKey{
			Version: number, PublicKey: bytes.Repeat([]byte{byte(number)}, ed25519.PublicKeySize),
			// Vault has nanoseconds, and the status does not.
			Since: time.Date(2026, 1, number, 0, 0, 0, 123456789, time.UTC),
		}
		if number > 1 {
			keys.Versions[number-2].Until = &version.Since
		}
		keys.Versions = append(keys.Versions, version)
	}
	return keys
}

// settle runs passes over the object of [object], and returns it.
func settle(t *testing.T, r *Reconciler, passes int) *v1alpha1.SecureNotes {
	t.Helper()
	for range passes {
		if _, err := r.Reconcile(t.Context(), ctrl.Request{NamespacedName: client.ObjectKeyFromObject(object())}); err != nil {
			t.Fatal(err)
		}
	}
	sn := &v1alpha1.SecureNotes{}
	if err := r.Client.Get(t.Context(), client.ObjectKeyFromObject(object()), sn); err != nil {
		t.Fatal(err)
	}
	return sn
}

func signing(t *testing.T, vault Vault) *Reconciler {
	t.Helper()
	sn := object()
	sn.Spec.Replicas = new(int32(1))
	sn.UID = "0b1d0000-0000-4000-8000-00000000000a"
	return wholeReconciler(t, vault, sn)
}

// TestBackupKeysInStatus: the newest public keys are in the status. A settled object costs no write
// and no check of Vault for them.
func TestBackupKeysInStatus(t *testing.T) {
	t.Parallel()
	vault := &signingVault{backupKey: vaultadmin.BackupKeyState{Keys: backupKeys(maxBackupKeyVersions + 2)}}
	r := signing(t, vault)
	sn := settle(t, r, 3)
	got := sn.Status.BackupKeys
	if got == nil || got.Key != "sn-backup-cluster.demo.notes" || len(got.Versions) != maxBackupKeyVersions {
		t.Fatalf("got %+v, want the newest %d versions", got, maxBackupKeyVersions)
	}
	first, last := got.Versions[0], got.Versions[maxBackupKeyVersions-1]
	if first.Version != 3 || first.Until == nil || !first.Until.Time.Equal(time.Date(2026, 1, 4, 0, 0, 0, 0, time.UTC)) {
		t.Errorf("the oldest is %+v, want version 3, until version 4 was created", first)
	}
	if last.Version != maxBackupKeyVersions+2 || last.Until != nil || last.PublicKey != "QkJCQkJCQkJCQkJCQkJCQkJCQkJCQkJCQkJCQkJCQkI=" {
		t.Errorf("the newest is %+v, want version %d, which is in use", last, maxBackupKeyVersions+2)
	}

	writes, checks := 0, len(vault.deployments)
	whole, ok := r.Client.(client.WithWatch)
	if !ok {
		t.Fatal("the client cannot be wrapped")
	}
	r.Client = interceptor.NewClient(whole, interceptor.Funcs{
		SubResourcePatch: func(ctx context.Context, c client.Client, sub string, o client.Object, p client.Patch, opts ...client.SubResourcePatchOption) error {
			writes++
			return c.SubResource(sub).Patch(ctx, o, p, opts...)
		},
	})
	settle(t, r, 2)
	if writes != 0 || len(vault.deployments) != checks {
		t.Errorf("settled passes cost %d writes and %d checks", writes, len(vault.deployments)-checks)
	}
	// A later check finds the same keys, with fractions of a second.
	r.vaultChecks.drop(sn.UID)
	settle(t, r, 1)
	known := vault.deployments[len(vault.deployments)-1].BackupKeys
	if writes != 0 || len(vault.deployments) != checks+1 || len(known) != maxBackupKeyVersions || !bytes.Equal(known[0].PublicKey, backupKeys(3).Versions[2].PublicKey) {
		t.Errorf("another check cost %d writes and knew %d versions", writes, len(known))
	}
}

// TestBackupKeyOfAnEarlierSetup: a Vault that an earlier release has set up affects nothing but the
// public keys, and the log says once what to do.
func TestBackupKeyOfAnEarlierSetup(t *testing.T) {
	t.Parallel()
	denied := vaultadmin.NeededBy("the signing of backups", &vaultadmin.Error{Problem: vaultadmin.Denied})
	vault := &signingVault{backupKey: vaultadmin.BackupKeyState{Problem: denied}}
	r := signing(t, vault)
	var lines []string
	logger := funcr.NewJSON(func(text string) { lines = append(lines, text) }, funcr.Options{})
	for range 3 {
		if _, err := r.Reconcile(log.IntoContext(t.Context(), logger), ctrl.Request{NamespacedName: client.ObjectKeyFromObject(object())}); err != nil {
			t.Fatal(err)
		}
		r.vaultChecks.drop("0b1d0000-0000-4000-8000-00000000000a")
	}
	sn := settle(t, r, 1)
	for kind, want := range map[string]metav1.ConditionStatus{v1alpha1.ConditionVaultReady: metav1.ConditionTrue, v1alpha1.ConditionBackupKeyUnusable: ""} {
		got := metav1.ConditionStatus("")
		if c := meta.FindStatusCondition(sn.Status.Conditions, kind); c != nil {
			got = c.Status
		}
		if got != want {
			t.Errorf("%s is %q, want %q", kind, got, want)
		}
	}
	if sn.Status.DeploymentID == "" || sn.Status.BackupKeys != nil {
		t.Errorf("got %+v, want keys of notes and none of backups", sn.Status)
	}
	told := 0
	for _, text := range lines {
		if strings.Contains(text, "no backups can be signed") {
			told++
			if !strings.Contains(text, "the Vault administrator must run `operator vault-setup`") {
				t.Errorf("%s does not say what to run", text)
			}
		}
	}
	if told != 1 || len(vault.deployments) < 3 {
		t.Errorf("the log says it %d times in %d checks, want once", told, len(vault.deployments))
	}
	vault.backupKey = vaultadmin.BackupKeyState{Keys: backupKeys(1)}
	r.vaultChecks.drop(sn.UID)
	if sn = settle(t, r, 1); sn.Status.BackupKeys == nil {
		t.Error("after vault-setup has run again, the status has no public keys")
	}
}

// TestLostBackupKey: the public keys of a lost key stay in the status, a condition says that it is
// lost, and the service stays ready. Once the user has removed the keys from the status, another
// key is accepted.
func TestLostBackupKey(t *testing.T) {
	t.Parallel()
	vault := &signingVault{backupKey: vaultadmin.BackupKeyState{Keys: backupKeys(1)}}
	r := signing(t, vault)
	recorder := events.NewFakeRecorder(100)
	r.Recorder = recorder
	before := settle(t, r, 3)
	vault.backupKey = vaultadmin.BackupKeyState{Problem: &vaultadmin.Error{Problem: vaultadmin.Missing}}
	r.vaultChecks.drop(before.UID)
	sn := settle(t, r, 2)
	if got := sn.Status.BackupKeys; got == nil || len(got.Versions) != 1 || got.Versions[0].PublicKey != before.Status.BackupKeys.Versions[0].PublicKey {
		t.Errorf("got %+v, want the public keys of the lost key", got)
	}
	c := meta.FindStatusCondition(sn.Status.Conditions, v1alpha1.ConditionBackupKeyUnusable)
	if c == nil || c.Status != metav1.ConditionTrue || c.Reason != v1alpha1.ReasonKeyMissing || !strings.Contains(c.Message, "docs/lost-state.md") {
		t.Errorf("got %+v, want True, %s and where to read on", c, v1alpha1.ReasonKeyMissing)
	}
	for _, kind := range []string{v1alpha1.ConditionVaultReady, v1alpha1.ConditionReady, v1alpha1.ConditionStalled} {
		was, is := meta.FindStatusCondition(before.Status.Conditions, kind), meta.FindStatusCondition(sn.Status.Conditions, kind)
		if (was == nil) != (is == nil) || was != nil && (was.Status != is.Status || was.Reason != is.Reason) {
			t.Errorf("%s was %+v and is %+v, want no difference", kind, was, is)
		}
	}
	warnings := 0
	for len(recorder.Events) > 0 {
		if event := <-recorder.Events; strings.HasPrefix(event, corev1.EventTypeWarning+" "+v1alpha1.ReasonKeyMissing) {
			warnings++
		}
	}
	if warnings != 1 {
		t.Errorf("%d events warn of it, want 1", warnings)
	}

	sn.Status.BackupKeys = nil
	if err := r.Client.Status().Update(t.Context(), sn); err != nil {
		t.Fatal(err)
	}
	vault.backupKey = vaultadmin.BackupKeyState{Keys: backupKeys(1)}
	sn = settle(t, r, 1)
	if asked := vault.deployments[len(vault.deployments)-1]; len(asked.BackupKeys) != 0 {
		t.Errorf("Vault was asked for versions %+v, want none", asked.BackupKeys)
	}
	if c := meta.FindStatusCondition(sn.Status.Conditions, v1alpha1.ConditionBackupKeyUnusable); c != nil || sn.Status.BackupKeys == nil {
		t.Errorf("got %+v and %+v, want other public keys and no condition", sn.Status.BackupKeys, c)
	}
}
