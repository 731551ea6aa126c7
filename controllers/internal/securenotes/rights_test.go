package securenotes

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/securenotes/securenotes/api/v1alpha1"
	"github.com/securenotes/securenotes/controllers/internal/operand"
	"github.com/securenotes/securenotes/controllers/internal/vaultadmin"
)

// narrowVault has policies that lack a right of one feature.
type narrowVault struct {
	askedVault
	state vaultadmin.DeploymentState
}

func (v *narrowVault) Ensure(context.Context, vaultadmin.Deployment) (vaultadmin.DeploymentState, error) {
	return v.state, nil
}

// TestMissingRightsAreOfOneFeature: a missing right in Vault affects only the feature that needs
// it, and its condition shows the command. VaultReady is True, and the rest works.
func TestMissingRightsAreOfOneFeature(t *testing.T) {
	t.Parallel()
	missing := vaultadmin.NeededBy("a feature", &vaultadmin.Error{Problem: vaultadmin.Denied})
	working := vaultadmin.DeploymentState{DeploymentID: "first", Key: vaultadmin.KeyState{Latest: 1, MinDecryption: 1}}
	for name, tc := range map[string]struct {
		do        func(*Reconciler, *narrowVault, *scope) error
		condition string
	}{
		"database logins": {do: func(r *Reconciler, v *narrowVault, s *scope) error {
			v.state.DatabaseRights = missing
			return errors.Join(r.vault(t.Context(), s), r.pods(t.Context(), s))
		}, condition: v1alpha1.ConditionDatabaseReady},
		"deletion": {do: func(r *Reconciler, v *narrowVault, s *scope) error {
			v.err = missing
			s.sn.DeletionTimestamp, s.sn.Finalizers, s.sn.Spec.DeletionPolicy = new(metav1.NewTime(now)), []string{v1alpha1.Finalizer}, v1alpha1.DeletionPolicyDelete
			_, err := r.finalize(t.Context(), s)
			return err
		}, condition: v1alpha1.ConditionReady},
		"trim": {do: func(r *Reconciler, v *narrowVault, s *scope) error {
			v.err = missing
			s.key = &vaultadmin.KeyState{Latest: 2, MinDecryption: 1}
			s.rotationFinding = good(v1alpha1.ReasonIdle, "x")
			s.sn.Status.MasterKey.Retirements = []v1alpha1.Retirement{{ToVersion: 2, JobUID: "job"}}
			return r.destroyVersions(t.Context(), s, &s.sn.Status.MasterKey.Retirements[0], 2)
		}, condition: v1alpha1.ConditionKeyRotationHealthy},
	} {
		t.Run(name, func(t *testing.T) {
			sn := object()
			sn.Status.DeploymentID, sn.Status.MasterKey = "first", &v1alpha1.MasterKeyStatus{Name: "sn-cluster.demo.notes", LatestVersion: 1}
			sn.Status.Conditions = []metav1.Condition{{Type: v1alpha1.ConditionVaultReady, Status: metav1.ConditionTrue, Reason: v1alpha1.ReasonReady}}
			vault := &narrowVault{state: working}
			r := askedReconciler(t, vault, sn.DeepCopy())
			s := newScope(sn, operand.Environment{ClusterID: "cluster"}, now)
			if err := tc.do(r, vault, s); err != nil {
				t.Fatal(err)
			}
			status := computeStatus(s)
			c := meta.FindStatusCondition(status.Conditions, tc.condition)
			if c.Status != metav1.ConditionFalse || c.Reason != v1alpha1.ReasonSetupMissing || !strings.Contains(c.Message, "which a feature needs: the Vault administrator must run `operator vault-setup`") {
				t.Errorf("%s: %+v", tc.condition, c)
			}
			if vault := meta.FindStatusCondition(status.Conditions, v1alpha1.ConditionVaultReady); vault.Status != metav1.ConditionTrue {
				t.Errorf("VaultReady: %+v", vault)
			}
			if s.requeue.after == 0 || s.requeue.after > 2*time.Hour {
				t.Errorf("requeued after %s", s.requeue.after)
			}
		})
	}
}

// TestLostDatabaseComesFirst: missing rights hide neither the loss of a database nor that one is
// in use.
func TestLostDatabaseComesFirst(t *testing.T) {
	t.Parallel()
	s := healthy(func(s *scope) { s.databaseRights = &vaultadmin.Error{Problem: vaultadmin.SetupMissing} })
	if got := databaseReady(s); got.reason != v1alpha1.ReasonSetupMissing || s.databaseFinding.status != metav1.ConditionTrue {
		t.Errorf("got %+v with finding %+v, want %s with a finding that is True", got, s.databaseFinding, v1alpha1.ReasonSetupMissing)
	}
	s.databaseFinding = bad(v1alpha1.ReasonDatabaseLost, "it is empty")
	if got := databaseReady(s); got.reason != v1alpha1.ReasonDatabaseLost {
		t.Errorf("got %+v, want %s", got, v1alpha1.ReasonDatabaseLost)
	}
}
