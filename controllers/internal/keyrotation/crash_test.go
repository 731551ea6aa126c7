package keyrotation

import (
	"strings"
	"testing"

	batchv1 "k8s.io/api/batch/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/securenotes/securenotes/api/v1alpha1"
	"github.com/securenotes/securenotes/app/config"
	"github.com/securenotes/securenotes/controllers/internal/crashtest"
	"github.com/securenotes/securenotes/controllers/internal/retirement"
	"github.com/securenotes/securenotes/controllers/internal/rotations"
	"github.com/securenotes/securenotes/controllers/internal/secretrecord"
	"github.com/securenotes/securenotes/controllers/internal/stalecache"
	"github.com/securenotes/securenotes/controllers/internal/vaultadmin"
)

// drive runs a rotation until it has ended, with a new operator in each pass, and plays the other
// controllers.
func drive(t *testing.T, c *crashtest.Crash, changes ...func(*v1alpha1.KeyRotation)) *world {
	t.Helper()
	return newWorld(t, c, rotation("first", changes...)).drive(t)
}

func (w *world) drive(t *testing.T) *world {
	t.Helper()
	for w.play(t) {
	}
	return w
}

// play runs one pass, then plays the other controllers, and reports whether the rotation continues.
// No Job ends after a pass in which somebody has deleted one.
func (w *world) play(t *testing.T) bool {
	t.Helper()
	kr := w.pass(t, "first")
	if !w.deleteJob(t) {
		w.endJobs(t, batchv1.JobComplete)
	}
	w.recreateAccounts(t)
	w.restart(t)
	if rotations.Ended(kr) && !rotations.HasFinalizer(kr) && !rotations.AwaitsRetirement(kr) {
		return false
	}
	if rotations.Compromise(kr) && rotations.Ended(kr) {
		w.retire(t)
	}
	w.passes++
	return w.passes < 40
}

// deleteJob deletes a Job that has not been deleted before, and reports whether there was one.
func (w *world) deleteJob(t *testing.T) bool {
	t.Helper()
	if w.deleted == nil {
		return false
	}
	for _, job := range w.jobs(t) {
		if !w.deleted[job.Name] {
			w.deleted[job.Name] = true
			if err := w.Delete(t.Context(), &job); err != nil {
				t.Fatal(err)
			}
			return true
		}
	}
	return false
}

func wholeRotation(deleted map[string]bool, changes ...func(*v1alpha1.KeyRotation)) crashtest.Story[*world] {
	return crashtest.Story[*world]{
		Begin: func(t *testing.T, c *crashtest.Crash) *world {
			w := newWorld(t, c, rotation("first", changes...))
			w.deleted = deleted
			return w
		},
		Fork: func(t *testing.T, w *world, c *crashtest.Crash) *world { return w.fork(t, c) },
		Pass: func(t *testing.T, w *world) bool { return w.play(t) },
	}
}

// TestCrashAnywhere kills the operator before and after each of its writes. In every case the
// rotation completes, the key has one more version, each Job ran once, and the retirement is
// recorded once. A Compromise has replaced service accounts and session keys once, before the first
// Job.
func TestCrashAnywhere(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		changes []func(*v1alpha1.KeyRotation)
		writes  int
		check   func(*testing.T, *world)
	}{
		"routine":    {writes: 10, check: checkRoutine},
		"compromise": {changes: []func(*v1alpha1.KeyRotation){urgent}, writes: 25, check: checkCompromise},
	} {
		t.Run(name, func(t *testing.T) {
			wholeRotation(nil, tc.changes...).Everywhere(t, tc.writes, func(t *testing.T, w *world) {
				checkEnd(t, w)
				if kr := w.rotation(t, "first"); *kr.Status.FromVersion != 1 {
					t.Errorf("the rotation is from version %d, want 1", *kr.Status.FromVersion)
				}
				if key := w.vault.state; key.MinEncryption != 2 || key.MinDecryption != 1 {
					t.Errorf("key is %+v, want encryption from version 2 and decryption from version 1", key)
				}
				tc.check(t, w)
			})
		})
	}
}

// TestDeletedJobs: somebody deletes each Job once before it ends. The Job is recreated once,
// wherever the operator dies.
func TestDeletedJobs(t *testing.T) {
	t.Parallel()
	wholeRotation(map[string]bool{}).Everywhere(t, 10, func(t *testing.T, w *world) {
		checkEnd(t, w)
		if got, want := len(w.deleted), 2; got != want {
			t.Errorf("%d Jobs were deleted, want %d", got, want)
		}
	})
}

// checkEnd checks what every rotation from version 1 to 2 leaves behind.
func checkEnd(t *testing.T, w *world) {
	t.Helper()
	kr, jobs := w.rotation(t, "first"), w.jobs(t)
	if !rotations.Complete(kr) || *kr.Status.ToVersion != 2 || kr.Status.Attempt != 1 || w.vault.state.Latest != 2 {
		t.Fatalf("Vault's latest version is %d, status is %+v; want the first attempt to have completed at version 2", w.vault.state.Latest, kr.Status)
	}
	if len(jobs) != 2 || string(jobs[0].UID) != kr.Status.ReencryptJobUID || string(jobs[1].UID) != kr.Status.VerifyJobUID {
		t.Errorf("there are %d Jobs, want the 2 that are recorded as %q and %q", len(jobs), kr.Status.ReencryptJobUID, kr.Status.VerifyJobUID)
	}
}

func checkRoutine(t *testing.T, w *world) {
	parent := w.parent(t)
	if key := parent.Status.MasterKey; key == nil || len(key.PendingRetirements) != 1 || key.PendingRetirements[0].ToVersion != 2 {
		t.Errorf("retirements: %+v", key)
	}
	if w.vault.backupKey != 1 || w.vault.signs != 1 {
		t.Errorf("a Routine rotation changed the backup key to version %d, signing from %d", w.vault.backupKey, w.vault.signs)
	}
	if w.recreated != 0 || w.vault.made != 0 || w.vault.revoked != 0 || parent.Status.SessionKeys != "" {
		t.Errorf("a Routine rotation replaced %d service accounts, and session keys %d times", w.recreated, w.vault.made)
	}
}

func checkCompromise(t *testing.T, w *world) {
	kr, parent := w.rotation(t, "first"), w.parent(t)
	for _, kind := range compromised {
		if !rotations.IsTrue(kr, kind) {
			t.Errorf("%s is not True", kind)
		}
	}
	if !rotations.IsTrue(kr, v1alpha1.ConditionDatabaseCredentialsReplaced) || w.vault.revoked == 0 {
		t.Errorf("database credentials were revoked %d times: %+v", w.vault.revoked, kr.Status.Conditions)
	}
	if w.vault.backupKey != 2 || w.vault.signs != 2 || *kr.Status.ReplacedBackupKeyVersion != 1 {
		t.Errorf("the backup key has version %d and signs from version %d, want 2 and 2; recorded %d", w.vault.backupKey, w.vault.signs, *kr.Status.ReplacedBackupKeyVersion)
	}
	if key := parent.Status.MasterKey; len(key.PendingRetirements) != 0 || key.MinDecryptionFloor != 2 {
		t.Errorf("retirements: %+v", key)
	}
	if w.recreated != 2 || len(kr.Status.ReplacedServiceAccounts) != 2 {
		t.Errorf("%d service accounts were recreated, recorded %+v", w.recreated, kr.Status.ReplacedServiceAccounts)
	}
	for _, uid := range w.jobAccounts {
		if !strings.Contains(string(uid), "-recreated-") {
			t.Errorf("a Job was made for the service account %s", uid)
		}
	}
	// An operator that dies between creating and recording session keys leaves an entry that is
	// never used.
	recorded := secretrecord.Get(&parent.Status)
	if got := strings.Join(w.vault.sessionKeys, " "); got != recorded.SessionKeys.Entry || w.vault.made > 2 || recorded.SessionKeys != w.vault.newest {
		t.Errorf("Vault has %s, made %d times; the SecureNotes records %+v", got, w.vault.made, recorded)
	}
	if config.SessionKeysVersion(recorded.SessionKeys.Entry) != 2 || recorded.NextSessionKeys != (vaultadmin.Secret{}) {
		t.Errorf("recorded %+v, want session keys of version 2 in use and none to come next", recorded)
	}
}

// TestCompromiseTakesOver: a Compromise does not wait for a Routine rotation that runs. The Routine
// one fails and names the Compromise, before the Compromise adds a version.
func TestCompromiseTakesOver(t *testing.T) {
	t.Parallel()
	w := newWorld(t, &crashtest.Crash{}, rotation("first"))
	if first := w.pass(t, "first"); first.Status.State != v1alpha1.ReasonReencrypting {
		t.Fatalf("%+v", first.Status)
	}
	if err := w.Create(t.Context(), rotation("second", urgent)); err != nil {
		t.Fatal(err)
	}
	if second := w.pass(t, "second"); !rotations.Started(second) || second.Status.FromVersion != nil {
		t.Errorf("the Compromise has not begun, or has a version already: %+v", second.Status)
	}
	first := w.pass(t, "first")
	failed := meta.FindStatusCondition(first.Status.Conditions, v1alpha1.ConditionFailed)
	if failed == nil || failed.Reason != config.ReasonSuperseded || !strings.Contains(failed.Message, "KeyRotation second") || strings.Contains(failed.Message, "retry") {
		t.Errorf("got %+v, want %s by KeyRotation second, without a retry", failed, config.ReasonSuperseded)
	}
	w.pass(t, "second")
	w.recreateAccounts(t)
	w.pass(t, "second")
	w.restart(t)
	w.endJobs(t, batchv1.JobComplete)
	w.pass(t, "second")
	w.endJobs(t, batchv1.JobComplete)
	if second := w.pass(t, "second"); !rotations.Complete(second) || *second.Status.FromVersion != 2 || *second.Status.ToVersion != 3 {
		t.Errorf("got %+v, want it complete from version 2 to 3", second.Status)
	}
}

// TestRestartHoldsNothingUp: if pods do not restart, a Compromise does not complete. Neither the
// Jobs nor the retirement wait for them, and the previous session keys stay while a pod may need
// them.
func TestRestartHoldsNothingUp(t *testing.T) {
	t.Parallel()
	w := newWorld(t, &crashtest.Crash{}, rotation("first", urgent))
	for range 4 {
		w.pass(t, "first")
		w.recreateAccounts(t)
		w.endJobs(t, batchv1.JobComplete)
	}
	kr := w.pass(t, "first")
	if rotations.Complete(kr) || kr.Status.State != v1alpha1.ReasonRestartingPods || !rotations.IsTrue(kr, v1alpha1.ConditionVerified) || !retirement.Recorded(w.parent(t).Status.MasterKey, 2) {
		t.Errorf("got %+v, want it verified, its retirement recorded, and state %s", kr.Status, v1alpha1.ReasonRestartingPods)
	}
	if got := strings.Join(w.vault.sessionKeys, " "); got != "session-keys session-keys-2000000000001" {
		t.Errorf("Vault has %s", got)
	}
	w.restart(t)
	if kr = w.pass(t, "first"); !rotations.Complete(kr) || len(w.vault.sessionKeys) != 1 {
		t.Errorf("%+v, Vault has %v", kr.Status, w.vault.sessionKeys)
	}
}

// TestRevocationHoldsNothingUp: if Vault cannot drop database users, a Compromise takes every other
// step but does not complete. A condition says so, and the revocation is retried.
func TestRevocationHoldsNothingUp(t *testing.T) {
	t.Parallel()
	w := newWorld(t, &crashtest.Crash{}, rotation("first", urgent))
	w.vault.unrevoked = &vaultadmin.Error{Problem: vaultadmin.Unreachable}
	for range 4 {
		w.pass(t, "first")
		w.recreateAccounts(t)
		w.restart(t)
		w.endJobs(t, batchv1.JobComplete)
	}
	kr := w.pass(t, "first")
	c := meta.FindStatusCondition(kr.Status.Conditions, v1alpha1.ConditionDatabaseCredentialsReplaced)
	if c == nil || c.Status != metav1.ConditionFalse || c.Reason != v1alpha1.ReasonRevocationFailed {
		t.Errorf("got %+v, want False and %s", c, v1alpha1.ReasonRevocationFailed)
	}
	if rotations.Complete(kr) || !rotations.IsTrue(kr, v1alpha1.ConditionVerified) || !rotations.IsTrue(kr, v1alpha1.ConditionSessionKeysReplaced) || !retirement.Recorded(w.parent(t).Status.MasterKey, 2) {
		t.Errorf("got %+v, want everything done but the revocation", kr.Status)
	}
	if c := meta.FindStatusCondition(kr.Status.Conditions, v1alpha1.ConditionReconciling); c == nil || c.Reason != v1alpha1.ReasonVaultUnreachable {
		t.Errorf("what it waits for: %+v", c)
	}
	w.vault.unrevoked = nil
	if kr = w.pass(t, "first"); !rotations.Complete(kr) || w.vault.revoked != 1 || !rotations.IsTrue(kr, v1alpha1.ConditionDatabaseCredentialsReplaced) {
		t.Errorf("%+v, revoked %d times", kr.Status, w.vault.revoked)
	}
}

// TestBackupKeyHoldsNothingUp: if Vault does not let the operator replace the backup key, a
// Compromise takes every other step and completes. A condition and an event say what was not done.
func TestBackupKeyHoldsNothingUp(t *testing.T) {
	t.Parallel()
	denied := vaultadmin.NeededBy("the signing of backups", trouble{vaultadmin.Denied, "Vault denies the operator GET transit/keys/x"})
	for name, tc := range map[string]struct {
		fault  error
		latest int64
		// known says that the status of the SecureNotes has the key, and late that the fault is at
		// the call that replaces the key.
		known, late bool
		want        metav1.ConditionStatus
		reason      string
		says        string
	}{
		"the rights of an earlier release":  {latest: 1, fault: denied, want: metav1.ConditionFalse, reason: v1alpha1.ReasonSetupMissing, says: "must run `operator vault-setup`. Then create another KeyRotation of reason Compromise"},
		"rights that were withdrawn":        {latest: 1, fault: denied, late: true, want: metav1.ConditionFalse, reason: v1alpha1.ReasonSetupMissing, says: "must run `operator vault-setup`"},
		"a key of another type":             {latest: 1, fault: trouble{vaultadmin.Unsuitable, "the Transit key has type=rsa-2048"}, want: metav1.ConditionFalse, reason: v1alpha1.ReasonKeyUnsuitable, says: "type=rsa-2048"},
		"a lost key":                        {known: true, want: metav1.ConditionFalse, reason: v1alpha1.ReasonKeyMissing, says: "is not in Vault"},
		"a key that is lost meanwhile":      {latest: 1, late: true, fault: trouble{vaultadmin.Missing, "the Transit key is not in Vault"}, want: metav1.ConditionFalse, reason: v1alpha1.ReasonKeyMissing, says: "is not in Vault"},
		"no key that was ever seen":         {want: metav1.ConditionTrue, reason: v1alpha1.ReasonComplete, says: "none to replace"},
		"Vault is sealed, and not any more": {latest: 1, late: true, fault: trouble{vaultadmin.Sealed, "Vault is sealed"}, want: metav1.ConditionTrue, reason: v1alpha1.ReasonComplete, says: "version 2 of the backup key signs backups"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, &crashtest.Crash{}, rotation("first", urgent))
			w.vault.backupKey, w.vault.signs = tc.latest, tc.latest
			if tc.known {
				parent := w.parent(t)
				parent.Status.BackupKeys = &v1alpha1.BackupKeysStatus{Key: "key", Versions: []v1alpha1.BackupKeyVersion{{Version: 1}}}
				if err := w.Status().Update(t.Context(), parent); err != nil {
					t.Fatal(err)
				}
			}
			if tc.late {
				w.vault.lateBackupKeyFault = tc.fault
			} else {
				w.vault.backupKeyFault = tc.fault
			}
			if vaultadmin.ProblemOf(tc.fault) == vaultadmin.Sealed {
				for range 2 {
					w.pass(t, "first")
					w.recreateAccounts(t)
				}
				if kr := w.rotation(t, "first"); *kr.Status.ReplacedBackupKeyVersion != 1 || kr.Status.ReplacedSessionKeys != "" {
					t.Fatalf("got %+v, want it to wait before the replacement", kr.Status)
				}
				w.vault.lateBackupKeyFault = nil
			}
			w.drive(t)
			kr := w.rotation(t, "first")
			if !rotations.Complete(kr) || !rotations.IsTrue(kr, v1alpha1.ConditionSessionKeysReplaced) || !rotations.IsTrue(kr, v1alpha1.ConditionOldVersionRetired) {
				t.Errorf("got %+v, want the whole Compromise", kr.Status)
			}
			c := meta.FindStatusCondition(kr.Status.Conditions, v1alpha1.ConditionBackupKeyReplaced)
			if c == nil || c.Status != tc.want || c.Reason != tc.reason || !strings.Contains(c.Message, tc.says) {
				t.Errorf("got %+v, want %s %s with %q", c, tc.want, tc.reason, tc.says)
			}
		})
	}
}

// TestOtherCredentialsAreNotRevoked: without database users that Vault creates, none are dropped.
func TestOtherCredentialsAreNotRevoked(t *testing.T) {
	t.Parallel()
	w := newWorld(t, &crashtest.Crash{}, rotation("first", urgent))
	parent := w.parent(t)
	parent.Spec.Database.Postgres.VaultCredentials = nil
	if err := w.Update(t.Context(), parent); err != nil {
		t.Fatal(err)
	}
	for range 5 {
		w.pass(t, "first")
		w.recreateAccounts(t)
		w.restart(t)
		w.endJobs(t, batchv1.JobComplete)
	}
	kr := w.rotation(t, "first")
	if !rotations.Complete(kr) || w.vault.revoked != 0 || meta.FindStatusCondition(kr.Status.Conditions, v1alpha1.ConditionDatabaseCredentialsReplaced) != nil {
		t.Errorf("revoked %d times: %+v", w.vault.revoked, kr.Status)
	}
}

// TestSessionKeysAreNotRemade: if the cache does not show yet that new session keys are in use,
// they are not created again, even if they are missing in Vault.
func TestSessionKeysAreNotRemade(t *testing.T) {
	t.Parallel()
	kr := rotation("first", running, urgent, from(1), to(2))
	w := newWorld(t, &crashtest.Crash{}, kr)
	recorded := w.parent(t)
	recorded.Status.SessionKeys = "session-keys-2"
	if err := w.Status().Update(t.Context(), recorded); err != nil {
		t.Fatal(err)
	}
	if err := w.reconciler(nil).replaceSessionKeys(t.Context(), kr, notes()); !stalecache.Is(err) || w.vault.made != 0 {
		t.Errorf("error %v with %d session keys made, want a stale cache and none", err, w.vault.made)
	}
}

// TestCompromiseOfEarlierRelease: a Compromise that an earlier release started completes with the
// session keys that the SecureNotes already uses.
func TestCompromiseOfEarlierRelease(t *testing.T) {
	t.Parallel()
	w := newWorld(t, &crashtest.Crash{}, rotation("first", urgent))
	w.pass(t, "first")
	w.vault.sessionKeys = append(w.vault.sessionKeys, "session-keys-2")
	parent := w.parent(t)
	parent.Status.SessionKeys = "session-keys-2"
	if err := w.Status().Update(t.Context(), parent); err != nil {
		t.Fatal(err)
	}
	w.drive(t)
	kr := w.rotation(t, "first")
	if got := strings.Join(w.vault.sessionKeys, " "); !rotations.Complete(kr) || got != "session-keys-2" || w.vault.made != 0 || w.parent(t).Status.SessionKeys != got {
		t.Errorf("%+v; Vault has %s, %d made", kr.Status, got, w.vault.made)
	}
}

// TestOvertakenRecord: if other secrets are recorded meanwhile, the record of this operator is
// refused. Any other change of the status does not prevent it.
func TestOvertakenRecord(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		change func(*v1alpha1.SecureNotesStatus)
		lost   bool
	}{
		"another's status":       {change: func(s *v1alpha1.SecureNotesStatus) { s.URL = "https://notes" }},
		"another's session keys": {change: func(s *v1alpha1.SecureNotesStatus) { s.SessionKeys = "session-keys-3" }, lost: true},
		"another's record": {change: func(s *v1alpha1.SecureNotesStatus) {
			s.NextSessionKeys = &v1alpha1.RecordedSecret{Entry: "session-keys-2000000000009", Digest: "other"}
		}, lost: true},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t, &crashtest.Crash{})
			current := w.parent(t)
			changed := w.parent(t)
			tc.change(&changed.Status)
			if err := w.Status().Update(t.Context(), changed); err != nil {
				t.Fatal(err)
			}
			wanted := vaultadmin.Secrets{NextSessionKeys: vaultadmin.Secret{Entry: "session-keys-2000000000001", Digest: "own"}}
			_, err := w.reconciler(nil).recordSecrets(t.Context(), current, wanted)
			if stalecache.Is(err) != tc.lost || (err == nil) == tc.lost {
				t.Errorf("error %v, want a stale cache only if the record is lost: %t", err, tc.lost)
			}
			if got := secretrecord.Get(&w.parent(t).Status); (got == wanted) == tc.lost {
				t.Errorf("recorded %+v, want %+v unless the record is lost: %t", got, wanted, tc.lost)
			}
		})
	}
}

// TestMissingRight: an operator that is newer than its rights in Vault says which command to run.
func TestMissingRight(t *testing.T) {
	t.Parallel()
	w := newWorld(t, &crashtest.Crash{}, rotation("first", urgent))
	w.vault.refusal = &vaultadmin.Error{Problem: vaultadmin.Denied}
	w.pass(t, "first")
	w.recreateAccounts(t)
	kr := w.pass(t, "first")
	c := meta.FindStatusCondition(kr.Status.Conditions, v1alpha1.ConditionReconciling)
	if c == nil || c.Reason != v1alpha1.ReasonVaultDenied || !strings.Contains(c.Message, "the Vault administrator must run `operator vault-setup`") {
		t.Errorf("got %+v, want %s with the command to run", c, v1alpha1.ReasonVaultDenied)
	}
}

// TestRetryReplacesNothing: a retried Compromise runs its Jobs again and ends the sessions that
// have begun since. It does not replace service accounts, backup key and session keys again.
func TestRetryReplacesNothing(t *testing.T) {
	t.Parallel()
	w := newWorld(t, &crashtest.Crash{}, rotation("first", urgent))
	w.pass(t, "first")
	w.recreateAccounts(t)
	w.pass(t, "first")
	w.restart(t)
	w.endJobs(t, batchv1.JobFailed)
	kr := w.pass(t, "first")
	if !rotations.Failed(kr) || !rotations.IsTrue(kr, v1alpha1.ConditionSessionKeysReplaced) {
		t.Fatalf("%+v", kr.Status)
	}
	kr.Annotations = map[string]string{v1alpha1.AnnotationRetryRequestedAt: "now"}
	if err := w.Update(t.Context(), kr); err != nil {
		t.Fatal(err)
	}
	if kr = w.pass(t, "first"); rotations.IsTrue(kr, v1alpha1.ConditionSessionsEnded) || kr.Status.State != v1alpha1.ReasonReencrypting {
		t.Errorf("got %+v, want sessions not ended yet and state %s", kr.Status, v1alpha1.ReasonReencrypting)
	}
	for range 2 {
		w.endJobs(t, batchv1.JobComplete)
		kr = w.pass(t, "first")
	}
	if !rotations.Complete(kr) || kr.Status.Attempt != 2 || w.recreated != 2 || w.vault.made != 1 || w.vault.backupKey != 2 {
		t.Errorf("%+v; %d service accounts and %d session keys were made, and version %d of the backup key", kr.Status, w.recreated, w.vault.made, w.vault.backupKey)
	}
}
