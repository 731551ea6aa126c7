//go:build e2e

package e2e

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/securenotes/securenotes/api/v1alpha1"
	"github.com/securenotes/securenotes/app/config"
	"github.com/securenotes/securenotes/hack/poll"
)

// TestEmbeddedDatabase creates a minimal object, kills its pod, rotates its key, and then deletes
// it together with all its data.
func TestEmbeddedDatabase(t *testing.T) {
	t.Parallel()
	c := open(t)
	namespace := c.newNamespace(t)
	sn := embedded(namespace, "small")
	sn.Spec.KeyRotation = &v1alpha1.KeyRotationPolicy{RetainOldVersionFor: "0s"}
	if err := c.Create(context.Background(), sn); err != nil {
		t.Fatal(err)
	}
	c.ready(t, sn)
	service, stop := c.connectTo(t, namespace, "service/small", "443")
	u := signUp(t, service)
	notes := map[string]string{u.write(t, "kept in SQLite"): "kept in SQLite"}
	u.mustRead(t, notes)
	stop()

	killed := c.apiPods(t, namespace, "small")[0]
	kubectl(t, "-n", namespace, "delete", "pod", killed.Name, "--grace-period=0", "--force")
	poll.Eventually(t, 2*time.Minute, "another pod to be ready", func(context.Context) error {
		for _, pod := range c.apiPods(t, namespace, "small") {
			if pod.UID != killed.UID && isReady(pod) {
				return nil
			}
		}
		return errors.New("none yet")
	})
	c.ready(t, sn)
	c.rotate(t, namespace, "small", "")
	again, _ := c.connectTo(t, namespace, "service/small", "443")
	u.moveTo(again)
	u.mustRead(t, notes)

	v := c.vault(t)
	key, kv := c.transitKey(t, namespace, "small"), config.KVPath(c.clusterID(t), namespace, "small")
	auditKey := "transit/keys/" + config.AuditKeyName(c.clusterID(t), namespace, "small")
	backupKey := "transit/keys/" + config.BackupKeyName(c.clusterID(t), namespace, "small")
	if err := c.Get(t.Context(), client.ObjectKeyFromObject(sn), sn); err != nil {
		t.Fatal(err)
	}
	secrets := []string{kv + "/" + sn.Status.Pepper.Entry, kv + "/" + sn.Status.SessionKeys, kv + "/" + config.MarkerLeaf}
	inVault := func(want bool) {
		t.Helper()
		for _, path := range []string{key, auditKey, backupKey} {
			if secret, err := v.Logical().Read(path); err != nil || (secret != nil) != want {
				t.Errorf("%s: in Vault %t, want %t, %v", path, secret != nil, want, err)
			}
		}
		for _, path := range secrets {
			if got := hasValue(t, v.Client, path); got != want {
				t.Errorf("%s: in Vault %t, want %t", path, got, want)
			}
		}
	}
	inVault(true)
	c.remove(t, sn)
	inVault(false)
	poll.Eventually(t, 2*time.Minute, "children to be deleted", func(context.Context) error {
		left := kubectl(t, "-n", namespace, "get", "deployment,service,configmap,secret,serviceaccount,job,pod,certificate,role,rolebinding,persistentvolumeclaim,keyrotation",
			"-o", "name")
		var ours []string
		for name := range strings.FieldsSeq(left) {
			if strings.Contains(name, "small") {
				ours = append(ours, name)
			}
		}
		// cert-manager leaves a certificate's Secret behind, by design.
		if len(ours) > 1 || len(ours) == 1 && ours[0] != "secret/small-securenotes-certificate" {
			return fmt.Errorf("these objects still exist: %s", strings.Join(ours, ", "))
		}
		return nil
	})
}

// TestRetainedKeyIsAdopted checks that a deletion keeps key and data by default, and that a new
// object of the same name adopts them only on request.
func TestRetainedKeyIsAdopted(t *testing.T) {
	t.Parallel()
	c := open(t)
	namespace := c.newNamespace(t)
	sn := embedded(namespace, "kept")
	sn.Spec.DeletionPolicy = ""
	if err := c.Create(context.Background(), sn); err != nil {
		t.Fatal(err)
	}
	c.ready(t, sn)
	service, stop := c.connectTo(t, namespace, "service/kept", "443")
	u := signUp(t, service)
	notes := map[string]string{u.write(t, "outlives its object"): "outlives its object"}
	stop()
	c.remove(t, sn)

	volume := &corev1.PersistentVolumeClaim{}
	if err := c.Get(context.Background(), client.ObjectKey{Namespace: namespace, Name: "kept-data"}, volume); err != nil {
		t.Fatalf("the volume was not retained: %v", err)
	}
	again := embedded(namespace, "kept")
	if err := c.Create(context.Background(), again); err != nil {
		t.Fatal(err)
	}
	message := c.condition(t, again, 2*time.Minute, v1alpha1.ConditionVaultReady, metav1.ConditionFalse, v1alpha1.ReasonKeyRetained)
	if !strings.Contains(message, "adoptRetainedKey") {
		t.Errorf("the message does not say what to do: %s", message)
	}
	kubectl(t, "-n", namespace, "patch", "securenotes", "kept", "--type=merge", "-p", `{"spec":{"adoptRetainedKey":true}}`)
	c.ready(t, again)
	adopted, _ := c.connectTo(t, namespace, "service/kept", "443")
	u.moveTo(adopted)
	u.logIn(t) // session keys are not adopted
	u.mustRead(t, notes)
}

// TestDeletedDuringItsRotation deletes a SecureNotes in the middle of a rotation. Key and data
// stay. An object that adopts them has every note, and another rotation completes the work.
func TestDeletedDuringItsRotation(t *testing.T) {
	t.Parallel()
	c := open(t)
	namespace := c.newNamespace(t)
	sn := embedded(namespace, "halfway")
	sn.Spec.DeletionPolicy = v1alpha1.DeletionPolicyRetain
	sn.Spec.KeyRotation = &v1alpha1.KeyRotationPolicy{RetainOldVersionFor: "0s", MaxNotesPerSecond: new(int32(1))}
	if err := c.Create(context.Background(), sn); err != nil {
		t.Fatal(err)
	}
	c.ready(t, sn)
	service, stop := c.connectTo(t, namespace, "service/halfway", "443")
	u := signUp(t, service)
	notes := map[string]string{}
	for i := range 90 { // a minute and a half of work
		content := fmt.Sprintf("note %d", i)
		notes[u.write(t, content)] = content
	}
	stop()
	kr := &v1alpha1.KeyRotation{
		ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: "first"},
		Spec:       v1alpha1.KeyRotationSpec{SecureNotesRef: v1alpha1.LocalObjectReference{Name: "halfway"}},
	}
	if err := c.Create(context.Background(), kr); err != nil {
		t.Fatal(err)
	}
	poll.Eventually(t, 3*time.Minute, "the first notes to be moved", func(ctx context.Context) error {
		if err := c.Get(ctx, client.ObjectKeyFromObject(kr), kr); err != nil {
			return err
		}
		if p := kr.Status.Progress; p == nil || p.NotesDone == 0 {
			return errors.New(describe(kr.Status.Conditions))
		}
		return nil
	})
	if kr.Status.Progress.NotesDone >= int64(len(notes)) {
		t.Fatalf("all notes were moved before the deletion: %+v", kr.Status.Progress)
	}
	c.remove(t, sn)
	poll.Eventually(t, 2*time.Minute, "the rotation and its pods to be deleted", func(context.Context) error {
		left := kubectl(t, "-n", namespace, "get", "keyrotation,job,pod", "-o", "name")
		if left != "" {
			return errors.New(left)
		}
		return nil
	})

	again := embedded(namespace, "halfway")
	again.Spec.AdoptRetainedKey = new(true)
	again.Spec.KeyRotation = &v1alpha1.KeyRotationPolicy{RetainOldVersionFor: "0s"}
	if err := c.Create(context.Background(), again); err != nil {
		t.Fatal(err)
	}
	c.ready(t, again)
	adopted, _ := c.connectTo(t, namespace, "service/halfway", "443")
	u.moveTo(adopted)
	u.logIn(t) // session keys are not adopted
	u.mustRead(t, notes)
	second := c.rotate(t, namespace, "halfway", "")
	poll.Eventually(t, 2*time.Minute, "retirement of both older versions", func(ctx context.Context) error {
		if err := c.Get(ctx, client.ObjectKeyFromObject(again), again); err != nil {
			return err
		}
		if key := again.Status.MasterKey; key == nil || key.MinDecryptionVersion < *second.Status.ToVersion {
			return fmt.Errorf("masterKey %+v", key)
		}
		return nil
	})
	u.mustRead(t, notes)
}

func TestInvalidObjectsAreRefused(t *testing.T) {
	t.Parallel()
	c := open(t)
	namespace := c.newNamespace(t)
	for name, tc := range map[string]struct {
		change func(*v1alpha1.SecureNotes)
		want   string
	}{
		"two replicas of SQLite": {func(sn *v1alpha1.SecureNotes) { sn.Spec.Replicas = new(int32(2)) }, "set replicas to 1, or use database.postgres"},
		"two certificates": {func(sn *v1alpha1.SecureNotes) {
			sn.Spec.TLS.SecretRef = &v1alpha1.LocalObjectReference{Name: "tls"}
		}, "exactly one of certManager and secretRef"},
		"a long name": {func(sn *v1alpha1.SecureNotes) { sn.Name = strings.Repeat("x", 41) }, "at most 40 characters"},
		"a duration in days": {func(sn *v1alpha1.SecureNotes) {
			sn.Spec.KeyRotation = &v1alpha1.KeyRotationPolicy{RetainOldVersionFor: "3d"}
		}, "retainOldVersionFor"},
		"a weak password hash": {func(sn *v1alpha1.SecureNotes) { sn.Spec.Auth = &v1alpha1.Auth{BcryptCost: new(int32(4))} }, "bcryptCost"},
	} {
		sn := embedded(namespace, "bad")
		tc.change(sn)
		err := c.Create(context.Background(), sn)
		if !apierrors.IsInvalid(err) || !strings.Contains(err.Error(), tc.want) {
			t.Errorf("%s: %v; want a refusal that says %q", name, err, tc.want)
		}
	}
	list := &v1alpha1.SecureNotesList{}
	if err := c.List(context.Background(), list, client.InNamespace(namespace)); err != nil || len(list.Items) != 0 {
		t.Errorf("%d objects were stored, %v", len(list.Items), err)
	}
}
