package securenotes

import (
	"reflect"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/securenotes/securenotes/api/v1alpha1"
	"github.com/securenotes/securenotes/app/config"
	"github.com/securenotes/securenotes/controllers/internal/cause"
	"github.com/securenotes/securenotes/controllers/internal/operand"
	"github.com/securenotes/securenotes/controllers/internal/vaultadmin"
)

func claimOf(changes ...func(*corev1.PersistentVolumeClaim)) *corev1.PersistentVolumeClaim {
	claim := operand.VolumeClaim(object(), "uid")
	claim.UID, claim.Spec.VolumeName = "claim-uid", "pv-1"
	for _, change := range changes {
		change(claim)
	}
	return claim
}

// TestLostVolume: a claim that is missing, being deleted or without a volume is not recreated once
// there was a database. The Deployment, whose pod may have the volume open, is not changed.
func TestLostVolume(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		claim    *corev1.PersistentVolumeClaim
		database *vaultadmin.DatabaseState
		says     string // empty: the volume is not lost
		made     bool
	}{
		"in use":                        {claim: claimOf(), database: &vaultadmin.DatabaseState{Claimed: true}, made: true},
		"gone":                          {database: &vaultadmin.DatabaseState{Claimed: true}, says: "is missing: restore it from a backup, under this name and with the annotation securenotes.dev/deployment-id=uid"},
		"never in use":                  {database: &vaultadmin.DatabaseState{}, made: true},
		"missing, Vault is unreachable": {claim: nil, database: nil, says: "", made: false},
		"exists, Vault is unreachable":  {claim: claimOf(), made: true},
		"being deleted": {claim: claimOf(func(c *corev1.PersistentVolumeClaim) {
			c.DeletionTimestamp, c.Finalizers = &metav1.Time{Time: now}, []string{"kubernetes.io/pvc-protection"}
		}), database: &vaultadmin.DatabaseState{Claimed: true}, says: "persistentVolumeReclaimPolicy of PersistentVolume pv-1 to Retain now", made: true},
		"without a volume": {claim: claimOf(func(c *corev1.PersistentVolumeClaim) { c.Status.Phase = corev1.ClaimLost }),
			database: &vaultadmin.DatabaseState{Claimed: true}, says: "has lost its PersistentVolume pv-1", made: true},
	} {
		t.Run(name, func(t *testing.T) {
			var objects []client.Object
			if tc.claim != nil {
				objects = append(objects, tc.claim)
			}
			r := applyingReconciler(t, &fakeVault{}, objects...)
			s := healthy(func(s *scope) {
				s.database, s.databaseFinding, s.workloadFinding, s.configHash, s.deployment = tc.database, finding{}, finding{}, "hash", nil
			})
			if err := r.volume(t.Context(), s); err != nil {
				t.Fatal(err)
			}
			if lost := s.databaseFinding.reason == v1alpha1.ReasonDatabaseLost; lost != (tc.says != "") || !strings.Contains(s.databaseFinding.message, tc.says) {
				t.Errorf("got %+v, want the database to be lost only if it says so: %q", s.databaseFinding, tc.says)
			}
			err := r.Client.Get(t.Context(), client.ObjectKey{Namespace: "demo", Name: "notes-data"}, &corev1.PersistentVolumeClaim{})
			if client.IgnoreNotFound(err) != nil || (err == nil) != tc.made {
				t.Errorf("the claim: %v", err)
			}
			if err := r.workload(t.Context(), s); err != nil {
				t.Fatal(err)
			}
			if left := s.deployment == nil; left != (tc.says != "") || left != (s.workloadFinding.reason == v1alpha1.ReasonDatabaseLost) {
				t.Errorf("the Deployment was not changed: %t; %+v", left, s.workloadFinding)
			}
		})
	}
}

// TestClaimedDatabase: the database is in use from the first ready pod on. A lost one stays lost
// until a person accepts the loss, and each acceptance is valid for one loss.
func TestClaimedDatabase(t *testing.T) {
	t.Parallel()
	const again = "uid/2"
	full := vaultadmin.DatabaseState{Claimed: true, Accepted: config.MaxEmptyDatabases}
	lost, ready := bad(v1alpha1.ReasonDatabaseLost, "it is empty"), good(v1alpha1.ReasonReady, "fine")
	for name, tc := range map[string]struct {
		before     vaultadmin.DatabaseState
		status     *v1alpha1.DatabaseStatus
		finding    finding
		annotation string
		volume     volumeState
		after      vaultadmin.DatabaseState
		reason     string
		says       string
		shown      bool // the conditions have shown the database
	}{
		"an acceptance that only the marker of an earlier release's object has": {before: vaultadmin.DatabaseState{Accepted: 1}, shown: true, finding: lost,
			after: vaultadmin.DatabaseState{Claimed: true, Accepted: 1}, reason: v1alpha1.ReasonDatabaseLost, says: "securenotes.dev/accept-empty-database=" + again},
		"no pod yet":                  {finding: unknown(v1alpha1.ReasonProgressing, "x"), reason: v1alpha1.ReasonProgressing},
		"the first pod is ready":      {finding: ready, after: vaultadmin.DatabaseState{Claimed: true}, reason: v1alpha1.ReasonReady},
		"already recorded":            {before: vaultadmin.DatabaseState{Claimed: true}, finding: ready, after: vaultadmin.DatabaseState{Claimed: true}, reason: v1alpha1.ReasonReady},
		"the database is unreachable": {before: vaultadmin.DatabaseState{Claimed: true}, finding: bad("DatabaseUnreachable", "x"), annotation: "uid", after: vaultadmin.DatabaseState{Claimed: true}, reason: "DatabaseUnreachable"},
		"lost":                        {before: vaultadmin.DatabaseState{Claimed: true}, finding: lost, after: vaultadmin.DatabaseState{Claimed: true}, reason: v1alpha1.ReasonDatabaseLost, says: "securenotes.dev/accept-empty-database=uid"},
		"accepted":                    {before: vaultadmin.DatabaseState{Claimed: true}, finding: lost, annotation: "uid", after: vaultadmin.DatabaseState{Accepted: 1}, reason: v1alpha1.ReasonDatabaseLost},
		"accepted with another id":    {before: vaultadmin.DatabaseState{Claimed: true}, finding: lost, annotation: "true", after: vaultadmin.DatabaseState{Claimed: true}, reason: v1alpha1.ReasonDatabaseLost},
		"no pod has started since":    {before: vaultadmin.DatabaseState{Accepted: 1}, finding: lost, annotation: "uid", after: vaultadmin.DatabaseState{Accepted: 1}, reason: v1alpha1.ReasonProgressing, says: "kubectl rollout restart deployment notes"},
		"the empty one is in use":     {before: vaultadmin.DatabaseState{Accepted: 1}, finding: ready, annotation: "uid", after: vaultadmin.DatabaseState{Claimed: true, Accepted: 1}, reason: v1alpha1.ReasonReady},
		"lost again": {before: vaultadmin.DatabaseState{Claimed: true, Accepted: 1}, finding: lost, annotation: "uid",
			after: vaultadmin.DatabaseState{Claimed: true, Accepted: 1}, reason: v1alpha1.ReasonDatabaseLost, says: "securenotes.dev/accept-empty-database=" + again},
		"accepted again": {before: vaultadmin.DatabaseState{Claimed: true, Accepted: 1}, finding: lost, annotation: again,
			after: vaultadmin.DatabaseState{Accepted: 2}, reason: v1alpha1.ReasonDatabaseLost},
		"accepted before the loss": {before: vaultadmin.DatabaseState{Claimed: true}, finding: ready, annotation: "uid",
			after: vaultadmin.DatabaseState{Claimed: true, Accepted: 1}, reason: v1alpha1.ReasonReady},
		"the loss of the claim is accepted": {before: vaultadmin.DatabaseState{Claimed: true}, finding: lost, annotation: "uid", volume: volumeMissing,
			after: vaultadmin.DatabaseState{Accepted: 1}, reason: v1alpha1.ReasonDatabaseLost},
		"a pod may still have the volume open": {before: vaultadmin.DatabaseState{Claimed: true}, finding: lost, annotation: "uid", volume: volumeTerminating,
			after: vaultadmin.DatabaseState{Claimed: true}, reason: v1alpha1.ReasonDatabaseLost},
		"Vault restored to before the acceptance": {before: vaultadmin.DatabaseState{Claimed: true}, status: &v1alpha1.DatabaseStatus{InUse: true, AcceptedEmpty: 1}, finding: lost, annotation: "uid",
			after: vaultadmin.DatabaseState{Claimed: true, Accepted: 1}, reason: v1alpha1.ReasonDatabaseLost, says: "securenotes.dev/accept-empty-database=" + again},
		"Vault restored to after the acceptance": {before: vaultadmin.DatabaseState{Accepted: 1}, status: &v1alpha1.DatabaseStatus{InUse: true, AcceptedEmpty: 1}, finding: lost, annotation: "uid",
			after: vaultadmin.DatabaseState{Claimed: true, Accepted: 1}, reason: v1alpha1.ReasonDatabaseLost, says: "securenotes.dev/accept-empty-database=" + again},
		"Vault restored to before the first pod": {status: &v1alpha1.DatabaseStatus{InUse: true}, finding: unknown(v1alpha1.ReasonProgressing, "x"),
			after: vaultadmin.DatabaseState{Claimed: true}, reason: v1alpha1.ReasonProgressing},
		"an acceptance that only the marker records": {before: vaultadmin.DatabaseState{Accepted: 1}, status: &v1alpha1.DatabaseStatus{InUse: true}, finding: lost,
			after: vaultadmin.DatabaseState{Claimed: true, Accepted: 1}, reason: v1alpha1.ReasonDatabaseLost, says: "securenotes.dev/accept-empty-database=" + again},
		"many acceptances that only the marker records": {before: vaultadmin.DatabaseState{Accepted: 7}, status: &v1alpha1.DatabaseStatus{InUse: true}, finding: lost,
			after: vaultadmin.DatabaseState{Claimed: true, Accepted: 7}, reason: v1alpha1.ReasonDatabaseLost, says: "securenotes.dev/accept-empty-database=uid/8"},
		"lost, and the count is at its maximum":   {before: full, finding: lost, annotation: "uid/1000001", after: full, reason: v1alpha1.ReasonDatabaseLost, says: "restore an earlier version of the marker"},
		"in use, and the count is at its maximum": {before: full, finding: ready, annotation: "uid/1000001", after: full, reason: v1alpha1.ReasonReady},
		"interrupted before the status was written": {before: vaultadmin.DatabaseState{Accepted: 1}, status: &v1alpha1.DatabaseStatus{InUse: true}, finding: lost, annotation: "uid",
			after: vaultadmin.DatabaseState{Accepted: 1}, reason: v1alpha1.ReasonProgressing},
		"the status is behind": {before: vaultadmin.DatabaseState{Claimed: true, Accepted: 1}, status: &v1alpha1.DatabaseStatus{InUse: true}, finding: lost, annotation: "uid",
			after: vaultadmin.DatabaseState{Claimed: true, Accepted: 1}, reason: v1alpha1.ReasonDatabaseLost, says: "securenotes.dev/accept-empty-database=" + again},
	} {
		t.Run(name, func(t *testing.T) {
			vault := &fakeVault{}
			r := reconciler(t, vault)
			s := healthy(func(s *scope) {
				s.database, s.databaseFinding, s.volume, s.sn.Status.Database = &tc.before, tc.finding, tc.volume, tc.status
				s.sn.Annotations = map[string]string{v1alpha1.AnnotationAcceptEmptyDatabase: tc.annotation}
				if tc.shown {
					s.original.Status.Conditions = []metav1.Condition{{Type: v1alpha1.ConditionDatabaseReady, Status: metav1.ConditionTrue}}
				}
				s.hasKeys = false // the test does not need the configuration
			})
			before := tc.before
			if err := r.database(t.Context(), s); err != nil {
				t.Fatal(err)
			}
			if changed := len(vault.recorded) == 1; changed != (before != tc.after) || changed && vault.recorded[0] != tc.after || *s.database != tc.after {
				t.Errorf("recorded %+v, want %+v", vault.recorded, tc.after)
			}
			if got, want := computeStatus(s).Database, databaseStatusOf(tc.after); !reflect.DeepEqual(got, want) {
				t.Errorf("the status has %+v, want %+v", got, want)
			}
			if got := databaseReady(s); got.reason != tc.reason || !strings.Contains(got.message, tc.says) {
				t.Errorf("got %+v, want %s with %q", got, tc.reason, tc.says)
			}
		})
	}
}

func databaseStatusOf(state vaultadmin.DatabaseState) *v1alpha1.DatabaseStatus {
	if state == (vaultadmin.DatabaseState{}) {
		return nil
	}
	return &v1alpha1.DatabaseStatus{InUse: state.Claimed, AcceptedEmpty: int64(state.Accepted)}
}

// TestStatusIsWrittenBeforeTheMarker: so a marker that records more than the status belongs to a
// status that was lost.
func TestStatusIsWrittenBeforeTheMarker(t *testing.T) {
	t.Parallel()
	vault := &fakeVault{}
	s := healthy(func(s *scope) {
		s.database, s.original.Status.DeploymentID, s.hasKeys = &vaultadmin.DatabaseState{}, "", false
	})
	for _, want := range []int{0, 1} {
		if err := reconciler(t, vault).database(t.Context(), s); err != nil || len(vault.recorded) != want {
			t.Errorf("%v, recorded %+v", err, vault.recorded)
		}
		s.original.Status.DeploymentID = "uid"
	}
}

// TestPodsAreToldOfTheDatabase: while Vault is unreachable, the configuration of the pods does not
// change. Without one, the pods must find a database that has been in use.
func TestPodsAreToldOfTheDatabase(t *testing.T) {
	t.Parallel()
	told := func(data map[string]string) *corev1.ConfigMap {
		return &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Namespace: "demo", Name: "notes-config"}, Data: data}
	}
	for name, tc := range map[string]struct {
		database *vaultadmin.DatabaseState
		before   *corev1.ConfigMap
		want     bool
	}{
		"in use":                               {database: &vaultadmin.DatabaseState{Claimed: true}, before: told(nil), want: true},
		"not in use yet":                       {database: &vaultadmin.DatabaseState{}, before: told(map[string]string{"claimed": "uid"}), want: false},
		"Vault is away, they were told so":     {before: told(map[string]string{"claimed": "uid"}), want: true},
		"Vault is away, they were not told so": {before: told(nil), want: false},
		"Vault is away, nothing is known":      {want: true},
	} {
		t.Run(name, func(t *testing.T) {
			var objects []client.Object
			if tc.before != nil {
				objects = append(objects, tc.before)
			}
			r := reconciler(t, &fakeVault{}, objects...)
			got, err := r.databaseClaimed(t.Context(), healthy(func(s *scope) { s.database = tc.database }))
			if err != nil || got != tc.want {
				t.Errorf("got %t and error %v, want %t", got, err, tc.want)
			}
		})
	}
}

// TestStatusClaims: a database that the status has shown to be in use, or to be lost, is not
// replaced, whatever the marker records. One whose loss was accepted is.
func TestStatusClaims(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		marker vaultadmin.DatabaseState
		shown  metav1.Condition
		want   bool
	}{
		"nothing is known":            {marker: vaultadmin.DatabaseState{}, shown: metav1.Condition{Status: metav1.ConditionUnknown, Reason: v1alpha1.ReasonProgressing}, want: false},
		"the marker":                  {marker: vaultadmin.DatabaseState{Claimed: true}, shown: metav1.Condition{Status: metav1.ConditionUnknown, Reason: v1alpha1.ReasonProgressing}, want: true},
		"ready, and Vault was away":   {marker: vaultadmin.DatabaseState{}, shown: metav1.Condition{Status: metav1.ConditionTrue, Reason: v1alpha1.ReasonReady}, want: true},
		"lost, and Vault is restored": {marker: vaultadmin.DatabaseState{}, shown: metav1.Condition{Status: metav1.ConditionFalse, Reason: v1alpha1.ReasonDatabaseLost}, want: true},
		"lost and given up":           {marker: vaultadmin.DatabaseState{Accepted: 1}, shown: metav1.Condition{Status: metav1.ConditionFalse, Reason: v1alpha1.ReasonDatabaseLost}, want: false},
	} {
		t.Run(name, func(t *testing.T) {
			tc.shown.Type = v1alpha1.ConditionDatabaseReady
			s := healthy(func(s *scope) {
				s.database = &tc.marker
				s.sn.Annotations = map[string]string{v1alpha1.AnnotationAcceptEmptyDatabase: "uid"}
			})
			s.original.Status.Conditions = []metav1.Condition{tc.shown}
			if got := s.claimed(); got != tc.want {
				t.Errorf("claimed: %v, want %v", got, tc.want)
			}
		})
	}
}

// TestOutdatedReportsOfPods: the report of a pod that was evicted or has restarted does not count.
func TestOutdatedReportsOfPods(t *testing.T) {
	t.Parallel()
	lost := corev1.ContainerState{Terminated: &corev1.ContainerStateTerminated{ExitCode: 1, Message: `{"reason":"DatabaseLost","message":"it is empty"}`}}
	for name, tc := range map[string]struct {
		status corev1.PodStatus
		heard  bool
	}{
		"ended now": {status: corev1.PodStatus{Phase: corev1.PodRunning, ContainerStatuses: []corev1.ContainerStatus{{State: lost}}}, heard: true},
		"waits to restart": {status: corev1.PodStatus{Phase: corev1.PodRunning, ContainerStatuses: []corev1.ContainerStatus{
			{State: corev1.ContainerState{Waiting: &corev1.ContainerStateWaiting{Reason: "CrashLoopBackOff"}}, LastTerminationState: lost},
		}}, heard: true},
		"runs again": {status: corev1.PodStatus{Phase: corev1.PodRunning, ContainerStatuses: []corev1.ContainerStatus{
			{State: corev1.ContainerState{Running: &corev1.ContainerStateRunning{}}, LastTerminationState: lost},
		}}, heard: false},
		"evicted": {status: corev1.PodStatus{Phase: corev1.PodFailed, ContainerStatuses: []corev1.ContainerStatus{{State: lost}}}},
	} {
		t.Run(name, func(t *testing.T) {
			tc.status.InitContainerStatuses = []corev1.ContainerStatus{{State: corev1.ContainerState{Terminated: &corev1.ContainerStateTerminated{}}}}
			report := readPods([]corev1.Pod{{Status: tc.status}}, cause.Lookup{}, now)
			if got := report.termination != nil && report.termination.Reason == "DatabaseLost"; got != tc.heard {
				t.Errorf("%+v: heard %v, want %v", report, got, tc.heard)
			}
		})
	}
}
