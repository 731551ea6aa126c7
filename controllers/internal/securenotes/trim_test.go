package securenotes

import (
	"strings"
	"testing"
	"time"

	batchv1 "k8s.io/api/batch/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/securenotes/securenotes/api/v1alpha1"
	"github.com/securenotes/securenotes/controllers/internal/vaultadmin"
)

// retiredAgo has the versions before each of versions retired, the first longest ago, the last a day.
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
	for name, tc := range map[string]struct {
		changes   []func(*scope)
		entry, to int64
		wake      time.Duration
	}{
		"nothing was retired":           {[]func(*scope){func(s *scope) { retiredAgo(2)(s); s.sn.Status.MasterKey.Retirements = nil }}, 0, 0, 0},
		"not asked for":                 {[]func(*scope){retiredAgo(2, 3), func(s *scope) { s.sn.Spec.KeyRotation.Trim = nil }}, 0, 0, 0},
		"not yet":                       {[]func(*scope){retiredAgo(2)}, 0, 0, 24 * time.Hour},
		"one of two":                    {[]func(*scope){retiredAgo(2, 3)}, 2, 2, 24 * time.Hour},
		"the newest covers the older":   {[]func(*scope){retiredAgo(2, 3, 4, 5)}, 4, 4, 24 * time.Hour},
		"at once":                       {[]func(*scope){retiredAgo(2), after("0s")}, 2, 2, 0},
		"a time that cannot be read":    {[]func(*scope){retiredAgo(2), after("soon")}, 0, 0, 87576 * time.Hour},
		"a backup needs the versions":   {[]func(*scope){retiredAgo(3, 4), keepFrom(1)}, 0, 0, 24 * time.Hour},
		"a backup needs some of them":   {[]func(*scope){retiredAgo(3, 4), keepFrom(2)}, 3, 2, 24 * time.Hour},
		"a backup needs newer ones":     {[]func(*scope){retiredAgo(3, 4), keepFrom(9)}, 3, 3, 24 * time.Hour},
		"what is older is destroyed":    {[]func(*scope){retiredAgo(3, 4), func(s *scope) { s.key.MinAvailable = 3 }}, 0, 0, 24 * time.Hour},
		"the floor was lowered by hand": {[]func(*scope){retiredAgo(2, 3), func(s *scope) { s.key.MinDecryption = 1 }}, 0, 0, 0},
		"a rotation is at work":         {[]func(*scope){retiredAgo(2, 3), func(s *scope) { s.rotationList = make([]v1alpha1.KeyRotation, 1) }}, 0, 0, 0},
		"the last attempt has just failed": {[]func(*scope){retiredAgo(2), after("0s"), func(s *scope) {
			s.sn.Status.MasterKey.Retirements[0].RetryTime = new(metav1.NewTime(now.Add(time.Minute)))
		}}, 0, 0, time.Minute},
	} {
		t.Run(name, func(t *testing.T) {
			s := healthy(tc.changes...)
			due, to := dueTrim(s)
			entry := int64(0)
			if due != nil {
				entry = due.ToVersion
			}
			if entry != tc.entry || to != tc.to || s.requeue != tc.wake {
				t.Errorf("retirement %d, versions below %d, woken after %s; want %d, %d, %s", entry, to, s.requeue, tc.entry, tc.to, tc.wake)
			}
		})
	}
}

// TestTrimVerifiesFirst: versions are destroyed only after a verification of its own, and a pass that died before
// it could record that does it again.
func TestTrimVerifiesFirst(t *testing.T) {
	vault := &fakeVault{}
	s := healthy(retiredAgo(2, 3, 4))
	r := reconciler(t, vault, s.sn.DeepCopy())
	for range 2 {
		if err := r.retirement(t.Context(), s); err != nil {
			t.Fatal(err)
		}
	}
	if vault.trimmed != 0 {
		t.Fatal("versions were destroyed while the verification ran")
	}
	endJob(t, r, batchv1.JobComplete)
	unrecorded := healthy(retiredAgo(2, 3, 4), func(other *scope) { other.sn.Status = *s.sn.Status.DeepCopy() })
	for _, pass := range []*scope{s, unrecorded} {
		vault.trimmed = 0
		if err := r.retirement(t.Context(), pass); err != nil {
			t.Fatal(err)
		}
		key := pass.sn.Status.MasterKey
		if vault.trimmed != 3 || len(key.Retirements) != 1 || key.Retirements[0].ToVersion != 4 || pass.key.MinAvailable != 3 {
			t.Errorf("versions below %d were destroyed; %+v", vault.trimmed, key)
		}
	}
}

// TestTrimThatIsNotWantedAnyMore: the object in the cache still asks for it.
func TestTrimThatIsNotWantedAnyMore(t *testing.T) {
	vault := &fakeVault{}
	s := healthy(retiredAgo(2, 3))
	changed := s.sn.DeepCopy()
	changed.Generation++
	r := reconciler(t, vault, changed)
	if err := r.retirement(t.Context(), s); err != nil {
		t.Fatal(err)
	}
	endJob(t, r, batchv1.JobComplete)
	if err := r.retirement(t.Context(), s); err != nil {
		t.Fatal(err)
	}
	if vault.trimmed != 0 || len(s.sn.Status.MasterKey.Retirements) != 2 || s.requeue == 0 {
		t.Errorf("versions below %d were destroyed", vault.trimmed)
	}
}

func TestTrimThatFailsIsPostponed(t *testing.T) {
	vault := &fakeVault{}
	s := healthy(retiredAgo(2, 3))
	r := reconciler(t, vault, s.sn.DeepCopy())
	if err := r.retirement(t.Context(), s); err != nil {
		t.Fatal(err)
	}
	endJob(t, r, batchv1.JobFailed)
	if err := r.retirement(t.Context(), s); err != nil {
		t.Fatal(err)
	}
	entry := s.sn.Status.MasterKey.Retirements[0]
	if vault.trimmed != 0 || entry.Attempt != 2 || !entry.RetryTime.After(now) || !strings.HasPrefix(entry.Message, "attempt 1: ") {
		t.Errorf("%d, %+v", vault.trimmed, entry)
	}
	if f := rotationFinding(s); f.reason != v1alpha1.ReasonTrimFailed || !strings.Contains(f.message, "below 2") {
		t.Errorf("%+v", f)
	}
}

func TestRetirementsAreBounded(t *testing.T) {
	var list []v1alpha1.Retirement
	for version := range int64(3 * maxRetirements) {
		list = withRetirement(withRetirement(list, version, now), version, now)
	}
	if len(list) != maxRetirements || list[0].ToVersion != 2*maxRetirements || list[maxRetirements-1].ToVersion != 3*maxRetirements-1 {
		t.Errorf("%d: %+v", len(list), list)
	}
}
