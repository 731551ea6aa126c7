package securenotes

import (
	"strings"
	"testing"
	"time"

	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/securenotes/securenotes/api/v1alpha1"
	"github.com/securenotes/securenotes/controllers/internal/vaultadmin"
)

// TestNewestRotationDecides: a superseded rotation does not make the service unhealthy if its
// successor ended in the same second, whatever their names.
func TestNewestRotationDecides(t *testing.T) {
	t.Parallel()
	at := metav1.NewTime(time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC))
	ended := func(name, condition string, to int64) v1alpha1.KeyRotation {
		return v1alpha1.KeyRotation{
			ObjectMeta: metav1.ObjectMeta{Name: name},
			Status: v1alpha1.KeyRotationStatus{
				CompletionTime: &at, ToVersion: &to,
				Conditions: []metav1.Condition{{Type: condition, Status: metav1.ConditionTrue}},
			},
		}
	}
	failed, complete := ended("a", v1alpha1.ConditionFailed, 2), ended("b", v1alpha1.ConditionComplete, 3)
	for _, list := range [][]v1alpha1.KeyRotation{{failed, complete}, {complete, failed}} {
		if f, _ := rotationState(&v1alpha1.SecureNotes{}, list); f.status != metav1.ConditionTrue {
			t.Errorf("%s first: %+v", list[0].Name, f)
		}
	}
}

// TestUnfinishedRotation: a rotation that is deleted after the new version is in use leaves old
// versions that nothing retires. The condition reports that, unless a retirement is recorded, or
// Vault's administrator added the version.
func TestUnfinishedRotation(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		key     vaultadmin.KeyState
		pending []v1alpha1.PendingRetirement
		list    []v1alpha1.KeyRotation
		reason  string
	}{
		"deleted":                   {key: vaultadmin.KeyState{Latest: 2, MinEncryption: 2, MinDecryption: 1}, reason: v1alpha1.ReasonRotationFailed},
		"replaced by another":       {key: vaultadmin.KeyState{Latest: 3, MinEncryption: 2, MinDecryption: 1}, list: []v1alpha1.KeyRotation{{}}, reason: v1alpha1.ReasonRotating},
		"complete, kept for a time": {key: vaultadmin.KeyState{Latest: 2, MinEncryption: 2, MinDecryption: 1}, pending: []v1alpha1.PendingRetirement{{ToVersion: 2, Due: metav1.NewTime(now.Add(time.Hour)), Attempt: 2}}, reason: v1alpha1.ReasonIdle},
		"complete and retired":      {key: vaultadmin.KeyState{Latest: 2, MinEncryption: 2, MinDecryption: 2}, reason: v1alpha1.ReasonIdle},
		"deleted before its turn":   {key: vaultadmin.KeyState{Latest: 2, MinDecryption: 1}, reason: v1alpha1.ReasonIdle},
		"none yet":                  {key: vaultadmin.KeyState{Latest: 1, MinDecryption: 1}, reason: v1alpha1.ReasonIdle},
	} {
		t.Run(name, func(t *testing.T) {
			s := healthy(func(s *scope) {
				s.key = &tc.key
				s.sn.Status.MasterKey = &v1alpha1.MasterKeyStatus{Name: "sn-x.demo.notes", PendingRetirements: tc.pending}
			})
			s.rotationFinding, s.lastRotation = rotationState(s.sn, tc.list)
			got := meta.FindStatusCondition(computeStatus(s).Conditions, v1alpha1.ConditionKeyRotationHealthy)
			if got.Reason != tc.reason || (got.Status == metav1.ConditionTrue) == (tc.reason == v1alpha1.ReasonRotationFailed) {
				t.Errorf("got %s %s: %s; want reason %s, and False only for %s", got.Status, got.Reason, got.Message, tc.reason, v1alpha1.ReasonRotationFailed)
			}
			if tc.reason == v1alpha1.ReasonRotationFailed && !strings.Contains(got.Message, "sn-x.demo.notes below 2 still decrypt") {
				t.Error(got.Message)
			}
		})
	}
}

// TestFailedRotationIsQuoted: the event of the SecureNotes quotes the cause, because the
// KeyRotation may be deleted by the time that somebody reads it.
func TestFailedRotationIsQuoted(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		change func(*v1alpha1.KeyRotation)
		want   string
	}{
		"failed": {change: func(*v1alpha1.KeyRotation) {}, want: "KeyRotation a has failed: no node"},
		"given up": {
			change: func(kr *v1alpha1.KeyRotation) {
				kr.DeletionTimestamp, kr.Status.FromVersion, kr.Status.ToVersion = new(metav1.Now()), new(int64(1)), new(int64(2))
			},
			want: "KeyRotation a has failed: no node. Some notes may still use version 1: create another KeyRotation",
		},
		"given up at the verification": {
			change: func(kr *v1alpha1.KeyRotation) {
				kr.DeletionTimestamp, kr.Status.FromVersion, kr.Status.ToVersion = new(metav1.Now()), new(int64(1)), new(int64(2))
				kr.Status.Conditions = append(kr.Status.Conditions, metav1.Condition{Type: v1alpha1.ConditionReencrypted, Status: metav1.ConditionTrue})
			},
			want: "KeyRotation a has failed: no node. It is not verified that no note uses version 1: create another KeyRotation",
		},
	} {
		kr := v1alpha1.KeyRotation{ObjectMeta: metav1.ObjectMeta{Name: "a"}}
		kr.Status.CompletionTime = new(metav1.NewTime(now))
		kr.Status.Conditions = []metav1.Condition{{Type: v1alpha1.ConditionFailed, Status: metav1.ConditionTrue, Message: "no node"}}
		tc.change(&kr)
		if f, _ := rotationState(&v1alpha1.SecureNotes{}, []v1alpha1.KeyRotation{kr}); f.reason != v1alpha1.ReasonRotationFailed || f.message != tc.want {
			t.Errorf("%s: %+v, want %q", name, f, tc.want)
		}
	}
}
