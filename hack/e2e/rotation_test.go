//go:build e2e

package e2e

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/hashicorp/vault/api"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/securenotes/securenotes/api/v1alpha1"
	"github.com/securenotes/securenotes/app/config"
	"github.com/securenotes/securenotes/hack/notesclient"
	"github.com/securenotes/securenotes/hack/poll"
)

// rotate creates a KeyRotation and waits until it is complete.
func (c *cluster) rotate(t testing.TB, namespace, name string, strategy v1alpha1.RotationStrategy) *v1alpha1.KeyRotation {
	t.Helper()
	kr := &v1alpha1.KeyRotation{
		ObjectMeta: metav1.ObjectMeta{Namespace: namespace, GenerateName: name + "-"},
		Spec:       v1alpha1.KeyRotationSpec{SecureNotesRef: v1alpha1.LocalObjectReference{Name: name}, Strategy: strategy},
	}
	c.complete(t, kr)
	return kr
}

// complete creates the KeyRotation and waits until it is complete.
func (c *cluster) complete(t testing.TB, kr *v1alpha1.KeyRotation) {
	t.Helper()
	if err := c.Create(context.Background(), kr); err != nil {
		t.Fatal(err)
	}
	poll.Eventually(t, 5*time.Minute, "KeyRotation "+kr.Name+" to complete", func(ctx context.Context) error {
		if err := c.Get(ctx, client.ObjectKeyFromObject(kr), kr); err != nil {
			return err
		}
		if meta.IsStatusConditionTrue(kr.Status.Conditions, v1alpha1.ConditionComplete) {
			return nil
		}
		return errors.New(describe(kr.Status.Conditions))
	})
}

// TestRotation rotates the sample's master key while a client writes, and checks that Vault refuses
// the old version afterwards.
func TestRotation(t *testing.T) {
	for _, strategy := range []v1alpha1.RotationStrategy{v1alpha1.StrategyReencrypt, v1alpha1.StrategyRewrap} {
		t.Run(string(strategy), func(t *testing.T) { testRotation(t, strategy) })
	}
}

func testRotation(t *testing.T, strategy v1alpha1.RotationStrategy) {
	c := open(t)
	db, v := c.database(t), c.vault(t)
	u := signUp(t, c.connect(t, c.url))
	notes := map[string]string{}
	for i := range 20 {
		content := fmt.Sprintf("before the rotation %d", i)
		notes[u.write(t, content)] = content
	}
	var oldWrapped string
	if err := db.QueryRow(context.Background(), "SELECT wrapped FROM owner_keys LIMIT 1").Scan(&oldWrapped); err != nil {
		t.Fatal(err)
	}
	key := c.transitKey(t, c.namespace, c.name)
	decrypts := func(wrapped string) error {
		// The context is wrong, so that an accepted version causes another error than a refused
		// one.
		_, err := v.Logical().Write(strings.Replace(key, "transit/keys/", "transit/decrypt/", 1), map[string]any{
			"ciphertext": wrapped, "context": "d3Jvbmc=",
		})
		return err
	}
	if err := decrypts(oldWrapped); err == nil || strings.Contains(err.Error(), "too old") {
		t.Fatalf("before the rotation: %v; Vault should accept the version but not the context", err)
	}

	stop := make(chan struct{})
	var writer sync.WaitGroup
	writer.Go(func() {
		for i := 0; ; i++ {
			select {
			case <-stop:
				return
			case <-time.After(50 * time.Millisecond):
			}
			content := fmt.Sprintf("during the rotation %d", i)
			note, err := u.CreateNote(context.Background(), notesclient.Content{Content: content})
			if err != nil {
				t.Errorf("a write during the rotation: %v", err)
				continue
			}
			notes[note.ID] = content
		}
	})
	kr := c.rotate(t, c.namespace, c.name, strategy)
	close(stop)
	writer.Wait()

	to := *kr.Status.ToVersion
	if p := kr.Status.Progress; p == nil || p.Percent != 100 || p.NotesDone < 20 {
		t.Errorf("progress at the end: %+v", p)
	}
	if stale := count(t, db, "SELECT count(*) FROM owner_keys WHERE kek_version < $1", to); stale != 0 {
		t.Errorf("%d owner keys are below version %d", stale, to)
	}
	if strategy == v1alpha1.StrategyReencrypt {
		if stale := count(t, db, "SELECT count(*) FROM owner_keys WHERE born_version < $1 OR state <> 'active'", to); stale != 0 {
			t.Errorf("%d owner keys are older than version %d, or inactive", stale, to)
		}
	}
	if stale := count(t, db, "SELECT count(*) FROM meta WHERE canary_version < $1", to); stale != 0 {
		t.Error("the canary is under the old version")
	}

	sn := c.sample()
	poll.Eventually(t, 2*time.Minute, "retirement of the old version", func(ctx context.Context) error {
		if err := c.Get(ctx, client.ObjectKeyFromObject(sn), sn); err != nil {
			return err
		}
		if sn.Status.MasterKey == nil || sn.Status.MasterKey.MinDecryptionVersion < to {
			return fmt.Errorf("masterKey %+v", sn.Status.MasterKey)
		}
		return nil
	})
	if err := decrypts(oldWrapped); err == nil || !strings.Contains(err.Error(), "too old") {
		t.Errorf("Vault still accepts the old version: %v", err)
	}
	u.mustRead(t, notes)
	c.ready(t, sn)

	// New pods have no cached keys.
	c.killAPIPods(t)
	u.Close()
	u.mustRead(t, notes)
}

// TestCompromise checks that after a Compromise earlier sessions, session keys and service accounts
// are invalid, that Vault refuses the old version of the master key, and that users who log in
// again have all their notes.
func TestCompromise(t *testing.T) {
	c := open(t)
	v := c.vault(t)
	u := signUp(t, c.connect(t, c.url))
	notes := map[string]string{u.write(t, "before the compromise"): "before the compromise"}
	accounts := c.accountUIDs(t)
	sn := c.sample()
	c.ready(t, sn)
	directory := config.KVPath(c.clusterID(t), c.namespace, c.name)
	before := cmp.Or(sn.Status.SessionKeys, config.SessionKeysLeaf)
	pods := c.apiPods(t, c.namespace, c.name)

	kr := &v1alpha1.KeyRotation{
		ObjectMeta: metav1.ObjectMeta{Namespace: c.namespace, GenerateName: c.name + "-compromise-"},
		Spec:       v1alpha1.KeyRotationSpec{SecureNotesRef: v1alpha1.LocalObjectReference{Name: c.name}, Reason: v1alpha1.RotationCompromise},
	}
	c.complete(t, kr)

	u.Close()
	eventuallyRefused(t, http.StatusUnauthorized, u.list)
	u.logIn(t)
	u.mustRead(t, notes)
	for name, uid := range c.accountUIDs(t) {
		if uid == accounts[name] {
			t.Errorf("service account %s still has the UID %s", name, uid)
		}
	}
	for _, old := range pods {
		// The pod's process has ended, but its object may exist a moment longer.
		poll.Eventually(t, time.Minute, "end of pod "+old.Name+", which began with the previous session keys", func(ctx context.Context) error {
			if err := c.Get(ctx, client.ObjectKeyFromObject(&old), &corev1.Pod{}); !apierrors.IsNotFound(err) {
				return errors.Join(errors.New("it still exists"), err)
			}
			return nil
		})
	}
	if err := c.Get(t.Context(), client.ObjectKeyFromObject(sn), sn); err != nil {
		t.Fatal(err)
	}
	if got := config.SessionKeysVersion(sn.Status.SessionKeys); got != *kr.Status.ToVersion || sn.Status.SessionKeysDigest == "" {
		t.Errorf("the session keys in use are %s with digest %q", sn.Status.SessionKeys, sn.Status.SessionKeysDigest)
	}
	for entry, want := range map[string]bool{before: false, sn.Status.SessionKeys: true, config.PepperLeaf: true} {
		if got := hasValue(t, v.Client, directory+"/"+entry); got != want {
			t.Errorf("%s in Vault: %t, want %t", entry, got, want)
		}
	}
	poll.Eventually(t, 2*time.Minute, "retirement of the old version", func(ctx context.Context) error {
		if err := c.Get(ctx, client.ObjectKeyFromObject(kr), kr); err != nil {
			return err
		}
		if !meta.IsStatusConditionTrue(kr.Status.Conditions, v1alpha1.ConditionOldVersionRetired) {
			return errors.New(describe(kr.Status.Conditions))
		}
		return nil
	})
	u.mustRead(t, notes)
	c.ready(t, sn)
}

// hasValue reports whether an entry of KV has a version that can be read.
func hasValue(t testing.TB, v *api.Client, path string) bool {
	t.Helper()
	secret, err := v.Logical().Read("secret/data/" + path)
	if err != nil {
		t.Fatal(err)
	}
	return secret != nil && secret.Data["data"] != nil
}

// accountUIDs returns the UIDs of the sample's service accounts.
func (c *cluster) accountUIDs(t testing.TB) map[string]types.UID {
	t.Helper()
	uids := map[string]types.UID{}
	for _, suffix := range []string{config.ServiceAccountAPISuffix, config.ServiceAccountRotationSuffix} {
		account := &corev1.ServiceAccount{}
		if err := c.Get(context.Background(), client.ObjectKey{Namespace: c.namespace, Name: c.name + suffix}, account); err != nil {
			t.Fatal(err)
		}
		uids[account.Name] = account.UID
	}
	return uids
}

// TestRotationOnRequest checks that the annotation for GitOps starts a rotation, and that the
// status repeats its value.
func TestRotationOnRequest(t *testing.T) {
	c := open(t)
	sn := c.sample()
	c.ready(t, sn)
	before := sn.Status.MasterKey.LatestVersion
	request := time.Now().UTC().Format(time.RFC3339Nano)
	kubectl(t, "-n", c.namespace, "annotate", "securenotes", c.name, v1alpha1.AnnotationRotateRequestedAt+"="+request, "--overwrite")
	poll.Eventually(t, 5*time.Minute, "the requested rotation", func(ctx context.Context) error {
		if err := c.Get(ctx, client.ObjectKeyFromObject(sn), sn); err != nil {
			return err
		}
		if sn.Status.LastHandledRotateRequest != request || sn.Status.MasterKey.MinDecryptionVersion <= before {
			return fmt.Errorf("status: request %q, masterKey %+v", sn.Status.LastHandledRotateRequest, sn.Status.MasterKey)
		}
		return nil
	})
}
