package securenotes

import (
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	appsv1 "k8s.io/api/apps/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/securenotes/securenotes/api/v1alpha1"
	"github.com/securenotes/securenotes/controllers/internal/operand"
	"github.com/securenotes/securenotes/controllers/internal/vaultadmin"
)

var now = time.Unix(1_800_000_000, 0)

func object() *v1alpha1.SecureNotes {
	return &v1alpha1.SecureNotes{
		ObjectMeta: metav1.ObjectMeta{Name: "notes", Namespace: "demo", UID: "uid", Generation: 3},
		Spec:       v1alpha1.SecureNotesSpec{TLS: v1alpha1.TLS{SecretRef: &v1alpha1.LocalObjectReference{Name: "tls"}}},
	}
}

// healthy returns the scope of a pass in which every phase succeeded.
func healthy(changes ...func(*scope)) *scope {
	sn := object()
	sn.Status.DeploymentID = "uid"
	s := newScope(sn, operand.Environment{ClusterID: "cluster"}, now)
	s.key = &vaultadmin.KeyState{Latest: 2, MinDecryption: 1}
	s.deployment = &appsv1.Deployment{Status: appsv1.DeploymentStatus{Replicas: 1, ReadyReplicas: 1}}
	for _, f := range []*finding{&s.vaultFinding, &s.databaseFinding, &s.certificateFinding, &s.workloadFinding, &s.rotationFinding} {
		*f = good("Ready", "fine")
	}
	for _, change := range changes {
		change(s)
	}
	return s
}

// kstatus returns how sigs.k8s.io/cli-utils/pkg/kstatus, and with it `helm --wait`, reads a custom
// resource.
func kstatus(sn *v1alpha1.SecureNotes, status v1alpha1.SecureNotesStatus) string {
	is := func(kind string, want metav1.ConditionStatus) bool {
		c := meta.FindStatusCondition(status.Conditions, kind)
		return c != nil && c.Status == want
	}
	switch {
	case sn.DeletionTimestamp != nil:
		return "Terminating"
	case status.ObservedGeneration != sn.Generation:
		return "InProgress"
	case is("Stalled", metav1.ConditionTrue):
		return "Failed"
	case is("Reconciling", metav1.ConditionTrue), is("Ready", metav1.ConditionFalse), is("Ready", metav1.ConditionUnknown):
		return "InProgress"
	default:
		return "Current"
	}
}

func TestComputeStatus(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		scope         *scope
		ready, reason string
		kstatus       string
	}{
		"healthy":                     {scope: healthy(), ready: "True", reason: "Ready", kstatus: "Current"},
		"no result yet":               {scope: newScope(object(), operand.Environment{}, now), ready: "Unknown", reason: v1alpha1.ReasonUnknown, kstatus: "InProgress"},
		"Vault is sealed":             {scope: healthy(func(s *scope) { s.vaultFinding = bad(v1alpha1.ReasonVaultSealed, "x") }), ready: "False", reason: v1alpha1.ReasonVaultSealed, kstatus: "InProgress"},
		"set-up is missing":           {scope: healthy(func(s *scope) { s.vaultFinding = bad(v1alpha1.ReasonSetupMissing, "x") }), ready: "False", reason: v1alpha1.ReasonSetupMissing, kstatus: "InProgress"},
		"a name conflict":             {scope: healthy(func(s *scope) { s.workloadFinding = bad(v1alpha1.ReasonNameConflict, "x") }), ready: "False", reason: v1alpha1.ReasonNameConflict, kstatus: "Failed"},
		"the key is retained":         {scope: healthy(func(s *scope) { s.vaultFinding = bad(v1alpha1.ReasonKeyRetained, "x") }), ready: "False", reason: v1alpha1.ReasonKeyRetained, kstatus: "Failed"},
		"the database is unreachable": {scope: healthy(func(s *scope) { s.databaseFinding = bad("DatabaseUnreachable", "x") }), ready: "False", reason: "DatabaseUnreachable", kstatus: "InProgress"},
		"the database is lost":        {scope: healthy(func(s *scope) { s.databaseFinding = bad(v1alpha1.ReasonDatabaseLost, "x") }), ready: "False", reason: v1alpha1.ReasonDatabaseLost, kstatus: "Failed"},
		"a failed rotation leaves the service working": {scope: healthy(func(s *scope) { s.rotationFinding = bad(v1alpha1.ReasonRotationFailed, "x") }), ready: "True", reason: "Ready", kstatus: "Current"},
		"a quota refuses pods while the certificate is issued": {scope: healthy(func(s *scope) {
			s.certificateFinding, s.workloadFinding = bad(v1alpha1.ReasonIssuing, "x"), bad(v1alpha1.ReasonQuotaExceeded, "x")
		}), ready: "False", reason: v1alpha1.ReasonQuotaExceeded, kstatus: "InProgress"},
		"a volume is missing while pods start": {scope: healthy(func(s *scope) {
			s.certificateFinding, s.databaseFinding, s.workloadFinding = bad(v1alpha1.ReasonIssuing, "x"), bad(v1alpha1.ReasonVolumePending, "x"), bad(v1alpha1.ReasonProgressing, "x")
		}), ready: "False", reason: v1alpha1.ReasonVolumePending, kstatus: "InProgress"},
		"everything is in progress": {scope: healthy(func(s *scope) {
			s.certificateFinding, s.workloadFinding = bad(v1alpha1.ReasonIssuing, "x"), bad(v1alpha1.ReasonProgressing, "x")
		}), ready: "False", reason: v1alpha1.ReasonIssuing, kstatus: "InProgress"},
		"deletion": {scope: healthy(func(s *scope) { s.sn.DeletionTimestamp = &metav1.Time{Time: now} }), ready: "False", reason: v1alpha1.ReasonDeleting, kstatus: "Terminating"},
		"suspended from the start": {scope: func() *scope {
			s := newScope(object(), operand.Environment{}, now)
			s.suspended = true
			s.report = &podReport{}
			return s
		}(), ready: "False", reason: v1alpha1.ReasonSuspended, kstatus: "Failed"},
		"the spec has changed, and Vault was not checked yet": {scope: healthy(func(s *scope) {
			s.sn.Status = computeStatus(healthy())
			s.sn.Generation++
			s.vaultFinding = finding{}
		}), ready: "Unknown", reason: v1alpha1.ReasonProgressing, kstatus: "InProgress"},
	} {
		t.Run(name, func(t *testing.T) {
			status := computeStatus(tc.scope)
			ready := meta.FindStatusCondition(status.Conditions, v1alpha1.ConditionReady)
			if ready == nil || string(ready.Status) != tc.ready || ready.Reason != tc.reason {
				t.Errorf("Ready: %+v", ready)
			}
			for _, kind := range append([]string{v1alpha1.ConditionKeyRotationHealthy}, readyConditions...) {
				if meta.FindStatusCondition(status.Conditions, kind) == nil {
					t.Errorf("%s is missing", kind)
				}
			}
			if got := kstatus(tc.scope.sn, status); got != tc.kstatus {
				t.Errorf("kstatus reads %s, want %s", got, tc.kstatus)
			}
		})
	}
}

// TestStatusSettles: the same results, computed on the status that they gave, change nothing,
// including transition times.
func TestStatusSettles(t *testing.T) {
	t.Parallel()
	for name, change := range map[string]func(*scope){
		"healthy":   func(*scope) {},
		"retry":     func(s *scope) { s.vaultFinding = bad(v1alpha1.ReasonVaultSealed, "x") },
		"stalled":   func(s *scope) { s.workloadFinding = bad(v1alpha1.ReasonNameConflict, "x") },
		"no result": func(s *scope) { s.vaultFinding = finding{} },
		"deletion":  func(s *scope) { s.sn.DeletionTimestamp = &metav1.Time{Time: now} },
	} {
		t.Run(name, func(t *testing.T) {
			first := healthy(change)
			first.sn.Status = computeStatus(first)
			second := healthy(change, func(s *scope) { s.sn.Status = *first.sn.Status.DeepCopy() })
			if diff := cmp.Diff(first.sn.Status, computeStatus(second)); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestFloorsMovedByHand(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		found, set int64
		status     metav1.ConditionStatus
	}{
		"as set": {found: 2, set: 2, status: metav1.ConditionTrue}, "lowered": {found: 1, set: 2, status: metav1.ConditionFalse},
		"raised": {found: 3, set: 2, status: metav1.ConditionFalse}, "never set": {found: 1, status: metav1.ConditionTrue},
	} {
		t.Run(name, func(t *testing.T) {
			s := healthy(func(s *scope) {
				s.key.MinDecryption = tc.found
				s.sn.Status.MasterKey = &v1alpha1.MasterKeyStatus{MinDecryptionFloor: tc.set}
			})
			status := computeStatus(s)
			if got := meta.FindStatusCondition(status.Conditions, v1alpha1.ConditionKeyRotationHealthy); got.Status != tc.status {
				t.Errorf("got %+v, want %s", got, tc.status)
			}
			if tc.set != 0 && status.MasterKey.MinDecryptionFloor != tc.set {
				t.Errorf("the recorded floor became %d", status.MasterKey.MinDecryptionFloor)
			}
		})
	}
}

// TestSuspended: conditions that are not observed keep their generation, and those that are
// observed get the new one.
func TestSuspended(t *testing.T) {
	t.Parallel()
	answering := appsv1.DeploymentStatus{ObservedGeneration: 2, Replicas: 2, UpdatedReplicas: 2, AvailableReplicas: 2}
	for name, tc := range map[string]struct {
		deployment    *appsv1.Deployment
		ready         metav1.ConditionStatus
		reason, state string
	}{
		"available":     {deployment: &appsv1.Deployment{ObjectMeta: metav1.ObjectMeta{Generation: 2}, Status: answering}, ready: metav1.ConditionTrue, reason: v1alpha1.ReasonSuspended, state: "Current"},
		"missing":       {ready: metav1.ConditionFalse, reason: v1alpha1.ReasonSuspended, state: "Failed"},
		"being deleted": {deployment: &appsv1.Deployment{ObjectMeta: metav1.ObjectMeta{DeletionTimestamp: &metav1.Time{Time: now}}, Status: answering}, ready: metav1.ConditionFalse, reason: v1alpha1.ReasonSuspended, state: "Failed"},
		"no pod is available": {deployment: &appsv1.Deployment{Status: appsv1.DeploymentStatus{Replicas: 1, UpdatedReplicas: 1, UnavailableReplicas: 1}},
			ready: metav1.ConditionFalse, reason: v1alpha1.ReasonProgressing, state: "InProgress"},
		"no pod":               {deployment: &appsv1.Deployment{}, ready: metav1.ConditionFalse, reason: v1alpha1.ReasonProgressing, state: "InProgress"},
		"an unobserved change": {deployment: &appsv1.Deployment{ObjectMeta: metav1.ObjectMeta{Generation: 3}, Status: answering}, ready: metav1.ConditionFalse, reason: v1alpha1.ReasonProgressing, state: "InProgress"},
	} {
		t.Run(name, func(t *testing.T) {
			s := newScope(object(), operand.Environment{}, now)
			s.sn.Status, s.sn.Generation, s.suspended, s.deployment = computeStatus(healthy()), 4, true, tc.deployment
			s.report = &podReport{}
			status := computeStatus(s)
			ready := meta.FindStatusCondition(status.Conditions, v1alpha1.ConditionReady)
			if ready.Status != tc.ready || ready.Reason != tc.reason || ready.ObservedGeneration != 4 || status.ObservedGeneration != 4 {
				t.Errorf("%+v, status of generation %d", ready, status.ObservedGeneration)
			}
			if got := kstatus(s.sn, status); got != tc.state {
				t.Errorf("kstatus reads %s, want %s", got, tc.state)
			}
			for _, kind := range []string{v1alpha1.ConditionVaultReady, v1alpha1.ConditionDatabaseReady, v1alpha1.ConditionCertificateReady} {
				if c := meta.FindStatusCondition(status.Conditions, kind); c.ObservedGeneration != 3 || c.Status != metav1.ConditionTrue {
					t.Errorf("%s: got %+v, want generation 3 and True", kind, c)
				}
			}
		})
	}
}

// TestSuspendedKeepsWhatWasWrong: suspending an object makes no unready condition ready, and adds
// no fault to an Unknown one.
func TestSuspendedKeepsWhatWasWrong(t *testing.T) {
	t.Parallel()
	answering := appsv1.DeploymentStatus{Replicas: 1, UpdatedReplicas: 1, AvailableReplicas: 1}
	for name, tc := range map[string]struct {
		before       func(*scope)
		ready        metav1.ConditionStatus
		reason, kind string
	}{
		"healthy":                {before: func(*scope) {}, ready: metav1.ConditionTrue, reason: v1alpha1.ReasonSuspended},
		"an expired certificate": {before: func(s *scope) { s.certificateFinding = bad(v1alpha1.ReasonCertificateExpired, "x") }, ready: metav1.ConditionFalse, reason: v1alpha1.ReasonCertificateExpired, kind: v1alpha1.ConditionCertificateReady},
		"a refused hostname":     {before: func(s *scope) { s.certificateFinding = bad(v1alpha1.ReasonHostnameRefused, "x") }, ready: metav1.ConditionFalse, reason: v1alpha1.ReasonHostnameRefused, kind: v1alpha1.ConditionCertificateReady},
		"no address":             {before: func(s *scope) { s.workloadFinding = bad(v1alpha1.ReasonLoadBalancerPending, "x") }, ready: metav1.ConditionFalse, reason: v1alpha1.ReasonLoadBalancerPending, kind: v1alpha1.ConditionWorkloadReady},
		"a name conflict":        {before: func(s *scope) { s.workloadFinding = bad(v1alpha1.ReasonNameConflict, "x") }, ready: metav1.ConditionFalse, reason: v1alpha1.ReasonNameConflict, kind: v1alpha1.ConditionWorkloadReady},
		"pods that recovered":    {before: func(s *scope) { s.workloadFinding = bad(v1alpha1.ReasonProgressing, "x") }, ready: metav1.ConditionTrue, reason: v1alpha1.ReasonSuspended},
		"a lost database":        {before: func(s *scope) { s.databaseFinding = bad(v1alpha1.ReasonDatabaseLost, "x") }, ready: metav1.ConditionFalse, reason: v1alpha1.ReasonDatabaseLost, kind: v1alpha1.ConditionDatabaseReady},
		"Vault unreachable, no address": {before: func(s *scope) {
			s.vaultFinding, s.workloadFinding = bad(v1alpha1.ReasonVaultSealed, "x"), bad(v1alpha1.ReasonLoadBalancerPending, "x")
		}, ready: metav1.ConditionFalse, reason: v1alpha1.ReasonVaultSealed, kind: v1alpha1.ConditionVaultReady},
		"an Unknown database": {before: func(s *scope) { s.databaseFinding = unknown(v1alpha1.ReasonProgressing, "x") }, ready: metav1.ConditionTrue, reason: v1alpha1.ReasonSuspended},
	} {
		t.Run(name, func(t *testing.T) {
			sn := object()
			for range 2 { // the second pass reads the status of the first
				s := newScope(sn, operand.Environment{}, now)
				if sn.Status.Conditions == nil {
					s.sn.Status = computeStatus(healthy(tc.before))
				}
				s.suspended, s.deployment = true, &appsv1.Deployment{Status: answering}
				s.report = &podReport{}
				sn.Status = computeStatus(s)
			}
			ready := meta.FindStatusCondition(sn.Status.Conditions, v1alpha1.ConditionReady)
			if ready.Status != tc.ready || ready.Reason != tc.reason || !strings.HasPrefix(ready.Message, tc.kind) || !strings.Contains(ready.Message, "spec.suspend") {
				t.Errorf("got %+v, want %s %s that begins with %q and names spec.suspend", ready, tc.ready, tc.reason, tc.kind)
			}
			want := "Current"
			if tc.ready == metav1.ConditionFalse {
				want = "Failed"
			}
			if got := kstatus(sn, sn.Status); got != want {
				t.Errorf("kstatus reads %s, want %s", got, want)
			}
		})
	}
}
