package keyrotation

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync/atomic"
	"testing"

	batchv1 "k8s.io/api/batch/v1"
	"k8s.io/client-go/tools/events"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/interceptor"

	"github.com/securenotes/securenotes/api/v1alpha1"
	"github.com/securenotes/securenotes/controllers/internal/crashtest"
	"github.com/securenotes/securenotes/controllers/internal/rotations"
	"github.com/securenotes/securenotes/controllers/internal/secretrecord"
	"github.com/securenotes/securenotes/controllers/internal/vaultadmin"
)

// stall runs meanwhile once, when its operator is about to write, or to call Vault, for the at-th
// time.
type stall struct {
	at, count int
	meanwhile func()
	// rotating and replacing say that the operator was about to add a version to the master key and
	// to the backup key.
	rotating, replacing bool
}

// here counts a call and reports whether it was the at-th one.
func (s *stall) here() bool {
	s.count++
	if s.count != s.at || s.meanwhile == nil {
		return false
	}
	s.meanwhile()
	return true
}

// stalledVault is the Vault of an operator that can stall.
type stalledVault struct {
	*fakeVault
	stall *stall
}

func (v stalledVault) Rotate(ctx context.Context, d vaultadmin.Deployment) error {
	v.stall.rotating = v.stall.here()
	return v.fakeVault.Rotate(ctx, d)
}

func (v stalledVault) ReadKey(ctx context.Context, key string) (vaultadmin.KeyState, error) {
	v.stall.here()
	return v.fakeVault.ReadKey(ctx, key)
}

func (v stalledVault) ReplaceSessionKeys(ctx context.Context, d vaultadmin.Deployment, version int64) error {
	v.stall.here()
	record := d.Record
	d.Record = func(ctx context.Context, secrets vaultadmin.Secrets) error {
		defer v.stall.here() // between the record and what it is of
		return record(ctx, secrets)
	}
	return v.fakeVault.ReplaceSessionKeys(ctx, d, version)
}

func (v stalledVault) DeleteOtherSessionKeys(ctx context.Context, d vaultadmin.Deployment, replaced string) error {
	v.stall.here()
	return v.fakeVault.DeleteOtherSessionKeys(ctx, d, replaced)
}

func (v stalledVault) RevokeDatabaseCredentials(ctx context.Context, d vaultadmin.Deployment) error {
	v.stall.here()
	return v.fakeVault.RevokeDatabaseCredentials(ctx, d)
}

func (v stalledVault) LatestBackupKey(ctx context.Context, d vaultadmin.Deployment) (int64, error) {
	v.stall.here()
	return v.fakeVault.LatestBackupKey(ctx, d)
}

func (v stalledVault) ReplaceBackupKey(_ context.Context, _ vaultadmin.Deployment, from int64) (int64, error) {
	v.stall.here()
	return v.replaceBackupKey(from, func() { v.stall.replacing = v.stall.here() })
}

func (v stalledVault) RaiseMinEncryption(ctx context.Context, d vaultadmin.Deployment, version int64) error {
	v.stall.here()
	return v.fakeVault.RaiseMinEncryption(ctx, d, version)
}

// stalling returns an operator that can stall. Two in one world are as when a deposed leader does
// not know that it is deposed.
func (w *world) stalling(t *testing.T, s *stall) *Reconciler {
	t.Helper()
	r := w.reconciler(events.NewFakeRecorder(100))
	own, ok := r.Client.(client.WithWatch)
	if !ok {
		t.Fatal("the operator's client cannot be wrapped")
	}
	r.Vault = func(string) (Vault, bool) { return stalledVault{w.vault, s}, true }
	r.Client = interceptor.NewClient(own, interceptor.Funcs{
		Create: func(ctx context.Context, w client.WithWatch, object client.Object, opts ...client.CreateOption) error {
			s.here()
			return w.Create(ctx, object, opts...)
		},
		Delete: func(ctx context.Context, w client.WithWatch, object client.Object, opts ...client.DeleteOption) error {
			s.here()
			return w.Delete(ctx, object, opts...)
		},
		Patch: func(ctx context.Context, w client.WithWatch, object client.Object, p client.Patch, opts ...client.PatchOption) error {
			s.here()
			return w.Patch(ctx, object, p, opts...)
		},
		SubResourcePatch: func(ctx context.Context, w client.Client, sub string, object client.Object, p client.Patch, opts ...client.SubResourcePatchOption) error {
			s.here()
			return w.SubResource(sub).Patch(ctx, object, p, opts...)
		},
	})
	return r
}

// carryOut runs up to that many passes, and plays the other controllers after each, until the
// rotation has ended.
func (w *world) carryOut(t *testing.T, r *Reconciler, passes int) {
	t.Helper()
	key := client.ObjectKey{Namespace: "ns", Name: "first"}
	for range passes {
		if _, err := r.Reconcile(t.Context(), ctrl.Request{NamespacedName: key}); err != nil {
			t.Fatalf("pass: %v", err)
		}
		w.endJobs(t, batchv1.JobComplete)
		w.recreateAccounts(t)
		w.restart(t)
		if kr := w.rotation(t, "first"); rotations.Ended(kr) && !rotations.HasFinalizer(kr) {
			return
		}
	}
}

// TestTwoOperators stalls one operator before each of its writes and calls to Vault, after it has
// read and decided. Meanwhile another operator continues the same rotation, for one pass or until
// it has ended. Each Job and the retirement must exist once. A key may have an extra version only
// if the first operator was stalled at the call that adds it. A Compromise must have replaced the
// service accounts once, and only the session keys in use may be left.
func TestTwoOperators(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		changes []func(*v1alpha1.KeyRotation)
		steps   int
		passes  []int
		check   func(*testing.T, *world)
	}{
		"routine":    {steps: 15, passes: []int{1, 2, 40}, check: func(*testing.T, *world) {}},
		"compromise": {changes: []func(*v1alpha1.KeyRotation){urgent}, steps: 30, passes: []int{1, 40}, check: checkReplacedOnce},
	} {
		whole := &stall{}
		twoOperators(t, whole, 0, tc.changes...)
		if whole.count < tc.steps {
			t.Fatalf("%s has only %d steps, want at least %d", name, whole.count, tc.steps)
		}
		var extra, extraBackupKey atomic.Int64
		t.Run(name, func(t *testing.T) {
			for at := 1; at <= whole.count; at++ {
				for _, passes := range tc.passes {
					t.Run(fmt.Sprintf("step %d, %d passes", at, passes), func(t *testing.T) {
						t.Parallel()
						w := twoOperators(t, &stall{at: at}, passes, tc.changes...)
						if w.vault.state.Latest == 3 {
							extra.Add(1)
						}
						if w.vault.backupKey == 3 {
							extraBackupKey.Add(1)
						}
						tc.check(t, w)
					})
				}
			}
		})
		// Otherwise no operator was stalled between the decision to rotate and the rotation.
		if extra.Load() == 0 {
			t.Errorf("%s: the operators never met at the rotation of the key", name)
		}
		if name == "compromise" && extraBackupKey.Load() == 0 {
			t.Error("the operators never met at the rotation of the backup key")
		}
	}
}

func checkReplacedOnce(t *testing.T, w *world) {
	inUse := secretrecord.Get(&w.parent(t).Status).SessionKeys
	if w.recreated != 2 || !slices.Equal(w.vault.sessionKeys, []string{inUse.Entry}) || inUse != w.vault.newest || !hasNewSessionKeys(w.rotation(t, "first"), w.parent(t)) {
		t.Errorf("%d service accounts were recreated; Vault has %v, the newest are %+v, in use %+v", w.recreated, w.vault.sessionKeys, w.vault.newest, inUse)
	}
	// If one operator is stalled between creating and recording session keys, the other creates
	// more and uses its own.
	if w.vault.made > 2 {
		t.Errorf("session keys were made %d times", w.vault.made)
	}
	for _, uid := range w.jobAccounts {
		if !strings.Contains(string(uid), "-recreated-") {
			t.Errorf("a Job was made for the service account %s", uid)
		}
	}
}

func twoOperators(t *testing.T, s *stall, passes int, changes ...func(*v1alpha1.KeyRotation)) *world {
	t.Helper()
	w := newWorld(t, &crashtest.Crash{}, rotation("first", changes...))
	other := w.stalling(t, &stall{})
	if passes > 0 {
		s.meanwhile = func() { w.carryOut(t, other, passes) }
	}
	w.carryOut(t, w.stalling(t, s), 40)
	kr, parent, jobs := w.rotation(t, "first"), w.parent(t), w.jobs(t)
	key := w.vault.state
	if !rotations.Complete(kr) || rotations.HasFinalizer(kr) || *kr.Status.FromVersion != 1 || *kr.Status.ToVersion < 2 || *kr.Status.ToVersion > key.Latest || kr.Status.Attempt != 1 {
		t.Errorf("got status %+v, want the first attempt complete from version 1 to at most %d", kr.Status, key.Latest)
	}
	if most := map[bool]int64{false: 2, true: 3}[s.rotating]; key.Latest > most || key.MinEncryption != *kr.Status.ToVersion || key.MinDecryption != 1 {
		t.Errorf("got key %+v, want at most version %d, encryption from version %d, decryption from 1", key, most, *kr.Status.ToVersion)
	}
	if n := len(jobs); n != 2 || string(jobs[0].UID) != kr.Status.ReencryptJobUID || string(jobs[1].UID) != kr.Status.VerifyJobUID {
		t.Errorf("%d Jobs, recorded %q and %q", n, kr.Status.ReencryptJobUID, kr.Status.VerifyJobUID)
	}
	if m := parent.Status.MasterKey; m == nil || len(m.PendingRetirements) != 1 || m.PendingRetirements[0].ToVersion != *kr.Status.ToVersion {
		t.Errorf("retirements: %+v", m)
	}
	if most := map[bool]int64{false: 2, true: 3}[s.replacing]; rotations.Compromise(kr) && (w.vault.backupKey < 2 || w.vault.backupKey > most || w.vault.signs != w.vault.backupKey) {
		t.Errorf("the backup key has version %d, want at most %d, and signs from version %d", w.vault.backupKey, most, w.vault.signs)
	}
	return w
}
