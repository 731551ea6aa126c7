package securenotes

import (
	"errors"
	"strings"
	"testing"
	"time"

	batchv1 "k8s.io/api/batch/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/securenotes/securenotes/api/v1alpha1"
	"github.com/securenotes/securenotes/controllers/internal/vaultadmin"
)

// retiredAgo returns a change after which the versions below each of versions are retired, a day
// apart, the last a day ago.
func retiredAgo(versions ...int64) func(*scope) {
	return func(s *scope) {
		s.connected = true
		s.sn.Spec.KeyRotation = &v1alpha1.KeyRotationPolicy{Trim: &v1alpha1.Trim{After: "48h"}}
		newest := versions[len(versions)-1]
		s.key = &vaultadmin.KeyState{Latest: newest, MinDecryption: newest, MinEncryption: newest}
		s.sn.Status.MasterKey = &v1alpha1.MasterKeyStatus{MinDecryptionFloor: newest}
		for i, version := range versions {
			ago := time.Duration(len(versions)-i) * 24 * time.Hour
			s.sn.Status.MasterKey.Retirements = append(s.sn.Status.MasterKey.Retirements,
				v1alpha1.Retirement{ToVersion: version, Time: metav1.NewTime(now.Add(-ago))})
		}
	}
}

func after(d v1alpha1.Duration) func(*scope) {
	return func(s *scope) { s.sn.Spec.KeyRotation.Trim.After = d }
}

func keepFrom(version int64) func(*scope) {
	return func(s *scope) { s.sn.Spec.KeyRotation.Trim.KeepFromVersion = &version }
}

func TestDueTrim(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		changes   []func(*scope)
		entry, to int64
		wake      time.Duration
	}{
		"nothing was retired":           {changes: []func(*scope){func(s *scope) { retiredAgo(2)(s); s.sn.Status.MasterKey.Retirements = nil }}},
		"not requested":                 {changes: []func(*scope){retiredAgo(2, 3), func(s *scope) { s.sn.Spec.KeyRotation.Trim = nil }}},
		"not yet":                       {changes: []func(*scope){retiredAgo(2)}, wake: 24 * time.Hour},
		"one of two":                    {changes: []func(*scope){retiredAgo(2, 3)}, entry: 2, to: 2, wake: 24 * time.Hour},
		"the newest covers the older":   {changes: []func(*scope){retiredAgo(2, 3, 4, 5)}, entry: 4, to: 4, wake: 24 * time.Hour},
		"immediately":                   {changes: []func(*scope){retiredAgo(2), after("0s")}, entry: 2, to: 2},
		"an invalid time":               {changes: []func(*scope){retiredAgo(2), after("soon")}, wake: 87576 * time.Hour},
		"a backup needs the versions":   {changes: []func(*scope){retiredAgo(3, 4), keepFrom(1)}, wake: 24 * time.Hour},
		"a backup needs some of them":   {changes: []func(*scope){retiredAgo(3, 4), keepFrom(2)}, entry: 3, to: 2, wake: 24 * time.Hour},
		"a backup needs newer ones":     {changes: []func(*scope){retiredAgo(3, 4), keepFrom(9)}, entry: 3, to: 3, wake: 24 * time.Hour},
		"what is older is destroyed":    {changes: []func(*scope){retiredAgo(3, 4), func(s *scope) { s.key.MinAvailable = 3 }}, wake: 24 * time.Hour},
		"the floor was lowered by hand": {changes: []func(*scope){retiredAgo(2, 3), func(s *scope) { s.key.MinDecryption = 1 }}},
		"a rotation is running":         {changes: []func(*scope){retiredAgo(2, 3), func(s *scope) { s.rotationList = make([]v1alpha1.KeyRotation, 1) }}},
		"the last attempt has just failed": {changes: []func(*scope){retiredAgo(2), after("0s"), func(s *scope) {
			s.sn.Status.MasterKey.Retirements[0].RetryTime = new(metav1.NewTime(now.Add(time.Minute)))
		}}, entry: 0, to: 0, wake: time.Minute},
	} {
		t.Run(name, func(t *testing.T) {
			s := healthy(tc.changes...)
			due, to := dueTrim(s)
			entry := int64(0)
			if due != nil {
				entry = due.ToVersion
			}
			if entry != tc.entry || to != tc.to || s.requeue.after != tc.wake {
				t.Errorf("retirement %d, versions below %d, requeued after %s; want %d, %d, %s", entry, to, s.requeue.after, tc.entry, tc.to, tc.wake)
			}
		})
	}
}

// TestTrimVerifiesFirst: a trim destroys versions only after its own verification has succeeded. A
// pass that is not recorded is completed by the next one.
func TestTrimVerifiesFirst(t *testing.T) {
	t.Parallel()
	vault := &fakeVault{}
	s := healthy(retiredAgo(2, 3, 4))
	r := reconciler(t, vault, s.sn.DeepCopy())
	for range 2 {
		if err := retireAndTrim(t.Context(), r, s); err != nil {
			t.Fatal(err)
		}
	}
	if vault.trimmed != 0 {
		t.Fatal("versions were destroyed while the verification ran")
	}
	endJob(t, r, batchv1.JobComplete)
	unrecorded := healthy(retiredAgo(2, 3, 4), func(next *scope) {
		next.sn.Status = *s.sn.Status.DeepCopy()
		next.sn.Status.MasterKey.Retirements[1].Message = "attempt 1: an earlier failure"
		next.key.MinAvailable = 3
	})
	for _, pass := range []*scope{s, unrecorded} {
		if err := retireAndTrim(t.Context(), r, pass); err != nil {
			t.Fatal(err)
		}
		key := pass.sn.Status.MasterKey
		if vault.trimmed != 3 || len(key.Retirements) != 1 || key.Retirements[0].ToVersion != 4 || pass.key.MinAvailable != 3 {
			t.Errorf("versions below %d were destroyed; %+v", vault.trimmed, key)
		}
		if f := rotationHealthy(pass); f.status != metav1.ConditionTrue {
			t.Errorf("got %+v, want True", f)
		}
	}
}

// TestOldVerificationIsNotBelieved: since an old verification, the object may have been suspended
// and a database restored. The operator's clock alone decides nothing.
func TestOldVerificationIsNotBelieved(t *testing.T) {
	t.Parallel()
	for name, later := range map[string]time.Duration{"an hour ago": time.Hour, "in an hour": -time.Hour} {
		t.Run(name, func(t *testing.T) {
			vault := &fakeVault{}
			retiring, trimming := healthy(dueAt(2)), healthy(retiredAgo(2, 3), after("0s"))
			for _, s := range []*scope{retiring, trimming} {
				r := reconciler(t, vault, s.sn.DeepCopy())
				if err := retireAndTrim(t.Context(), r, s); err != nil {
					t.Fatal(err)
				}
				endJob(t, r, batchv1.JobComplete)
				s.now = now.Add(later)
				if later < 0 {
					// The operator's clock was fast when the Job was created.
					for i := range s.sn.Status.MasterKey.Retirements {
						s.sn.Status.MasterKey.Retirements[i].Time = metav1.NewTime(s.now)
					}
					for i := range s.sn.Status.MasterKey.PendingRetirements {
						s.sn.Status.MasterKey.PendingRetirements[i].Due = metav1.NewTime(s.now)
					}
				}
				if err := retireAndTrim(t.Context(), r, s); err != nil {
					t.Fatal(err)
				}
			}
			if vault.floor != 0 || vault.trimmed != 0 {
				t.Errorf("floor %d, versions below %d were destroyed", vault.floor, vault.trimmed)
			}
			if message := retiring.sn.Status.MasterKey.PendingRetirements[0].Message; !strings.Contains(message, "clock") {
				t.Errorf("the retirement says %q", message)
			}
			if message := trimming.sn.Status.MasterKey.Retirements[1].Message; !strings.Contains(message, "clock") {
				t.Errorf("the trim says %q", message)
			}
		})
	}
}

// TestLoweredFloorRestartsTheTime: an administrator lowered the floor for a restored
// database. What was written since needs the old versions for the full time.
func TestLoweredFloorRestartsTheTime(t *testing.T) {
	t.Parallel()
	lowered := healthy(retiredAgo(2, 3, 4), func(s *scope) { s.key.MinDecryption = 2 })
	if err := retireAndTrim(t.Context(), reconciler(t, &fakeVault{}), lowered); err != nil {
		t.Fatal(err)
	}
	retired := healthy(retiredAgo(2, 3, 4), dueAgain(5))
	r := reconciler(t, &fakeVault{floor: 2}, retired.sn.DeepCopy())
	for range 2 {
		if err := retireAndTrim(t.Context(), r, retired); err != nil {
			t.Fatal(err)
		}
		if len(retired.sn.Status.MasterKey.PendingRetirements) > 0 {
			endJob(t, r, batchv1.JobComplete)
		}
	}
	for name, s := range map[string]*scope{"still lowered": lowered, "raised by a retirement": retired} {
		for _, entry := range s.sn.Status.MasterKey.Retirements {
			if restarted := entry.Time.Time.Equal(now); restarted != (entry.ToVersion > 2) {
				t.Errorf("%s: %+v", name, entry)
			}
		}
	}
	if n := len(retired.sn.Status.MasterKey.Retirements); n != 4 {
		t.Errorf("%d retirements", n)
	}
}

// dueAgain returns a change that adds a newer version whose retirement is due.
func dueAgain(to int64) func(*scope) {
	return func(s *scope) {
		s.sn.Spec.KeyRotation.Trim.After = "87600h"
		s.key.Latest, s.key.MinEncryption = to, to
		s.sn.Status.MasterKey.PendingRetirements = []v1alpha1.PendingRetirement{{ToVersion: to, Due: metav1.NewTime(now), Attempt: 1}}
	}
}

// TestVaultRestoredToBeforeATrim: destroyed versions that a restore brings back are destroyed again
// when they are due.
func TestVaultRestoredToBeforeATrim(t *testing.T) {
	t.Parallel()
	s := healthy(retiredAgo(4), func(s *scope) { s.sn.Status.MasterKey.MinAvailableVersion = 3 })
	if err := retireAndTrim(t.Context(), reconciler(t, &fakeVault{}), s); err != nil {
		t.Fatal(err)
	}
	if list := s.sn.Status.MasterKey.Retirements; len(list) != 2 || list[0].ToVersion != 3 || !list[0].Time.Time.Equal(now) {
		t.Errorf("got retirements %+v, want 2, of which version 3 at %s comes first", list, now)
	}
}

// TestWithdrawnTrim: only the object in the cache still requests the trim.
func TestWithdrawnTrim(t *testing.T) {
	t.Parallel()
	vault := &fakeVault{}
	s := healthy(retiredAgo(2, 3))
	changed := s.sn.DeepCopy()
	changed.Generation++
	r := reconciler(t, vault, changed)
	if err := retireAndTrim(t.Context(), r, s); err != nil {
		t.Fatal(err)
	}
	endJob(t, r, batchv1.JobComplete)
	if err := retireAndTrim(t.Context(), r, s); err != nil {
		t.Fatal(err)
	}
	if vault.trimmed != 0 || len(s.sn.Status.MasterKey.Retirements) != 2 || s.requeue.after == 0 {
		t.Errorf("versions below %d were destroyed", vault.trimmed)
	}
}

func TestTrimThatFailsIsPostponed(t *testing.T) {
	t.Parallel()
	refused := errors.New("no")
	for name, tc := range map[string]struct {
		end     batchv1.JobConditionType
		refusal error
	}{"the verification fails": {end: batchv1.JobFailed}, "Vault refuses": {end: batchv1.JobComplete, refusal: refused}} {
		t.Run(name, func(t *testing.T) {
			vault := &fakeVault{refusal: tc.refusal}
			s := healthy(retiredAgo(2, 3, 4))
			r := reconciler(t, vault, s.sn.DeepCopy())
			if err := retireAndTrim(t.Context(), r, s); err != nil {
				t.Fatal(err)
			}
			endJob(t, r, tc.end)
			for range 2 { // another pass starts nothing, also for the older retirement
				if err := retireAndTrim(t.Context(), r, s); err != nil {
					t.Fatal(err)
				}
			}
			entry := s.sn.Status.MasterKey.Retirements[1]
			if vault.trimmed != 0 || entry.Attempt != 2 || !entry.RetryTime.After(now) || !strings.HasPrefix(entry.Message, "attempt 1: ") {
				t.Errorf("trimmed to %d with %+v, want nothing trimmed and a second attempt later", vault.trimmed, entry)
			}
			jobs := &batchv1.JobList{}
			if err := r.Client.List(t.Context(), jobs); err != nil || len(jobs.Items) > 0 {
				t.Errorf("%d Jobs, %v", len(jobs.Items), err)
			}
			if f := rotationHealthy(s); f.reason != v1alpha1.ReasonTrimFailed || !strings.Contains(f.message, "below 3") {
				t.Errorf("got %+v, want %s with %q", f, v1alpha1.ReasonTrimFailed, "below 3")
			}
			if s.vaultFinding.status != metav1.ConditionTrue {
				t.Errorf("Vault: %+v", s.vaultFinding)
			}
			// A trim that is no longer requested has no failure.
			s.sn.Spec.KeyRotation.Trim = nil
			if err := retireAndTrim(t.Context(), r, s); err != nil {
				t.Fatal(err)
			}
			if f := rotationHealthy(s); f.status != metav1.ConditionTrue {
				t.Errorf("got %+v, want True", f)
			}
		})
	}
}

// TestKeepFromDestroyedVersion: the condition reports that keepFromVersion names a destroyed
// version.
func TestKeepFromDestroyedVersion(t *testing.T) {
	t.Parallel()
	s := healthy(retiredAgo(4), keepFrom(2), func(s *scope) { s.key.MinAvailable = 3 })
	if f := rotationHealthy(s); f.reason != v1alpha1.ReasonTrimFailed || !strings.Contains(f.message, "keepFromVersion is 2") {
		t.Errorf("got %+v, want %s with %q", f, v1alpha1.ReasonTrimFailed, "keepFromVersion is 2")
	}
}
