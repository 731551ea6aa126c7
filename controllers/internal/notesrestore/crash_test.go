package notesrestore

import (
	"fmt"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/securenotes/securenotes/api/v1alpha1"
	"github.com/securenotes/securenotes/controllers/internal/crashtest"
	"github.com/securenotes/securenotes/controllers/internal/marks"
	"github.com/securenotes/securenotes/controllers/internal/operand"
	"github.com/securenotes/securenotes/controllers/internal/restores"
	"github.com/securenotes/securenotes/controllers/internal/rotations"
	"github.com/securenotes/securenotes/controllers/internal/vaultadmin"
)

func story(changes ...func(*v1alpha1.NotesRestore)) crashtest.Story[*world] {
	return storyOf(func() []client.Object { return []client.Object{notes(), restore("first", changes...)} })
}

func storyOf(objects func() []client.Object) crashtest.Story[*world] {
	return crashtest.Story[*world]{
		Begin: func(t *testing.T, c *crashtest.Crash) *world { return newWorld(t, c, objects()...) },
		Fork:  func(t *testing.T, w *world, c *crashtest.Crash) *world { return w.fork(t, c) },
		Pass:  func(t *testing.T, w *world) bool { return w.play(t) },
	}
}

// mustBeRestored checks the end of a restore that brought a deployment with a pepper.
func mustBeRestored(t *testing.T, w *world, deploymentID string, pepper vaultadmin.Secret) {
	t.Helper()
	nr, sn := w.restore(t, "first"), w.parent(t)
	if !restores.Complete(nr) || nr.Status.State != v1alpha1.ReasonComplete || nr.Status.DeploymentID != deploymentID || nr.Status.Notes != 5 || nr.Status.Accounts != 2 {
		t.Fatalf("the restore ends with %+v", nr.Status)
	}
	if restores.HasFinalizer(nr) || !marks.Ended(nr) {
		t.Errorf("the restore has the finalizers %v and the annotations %v", nr.Finalizers, nr.Annotations)
	}
	if sn.Status.DeploymentID != deploymentID || sn.Status.Pepper == nil || sn.Status.Pepper.Entry != pepper.Entry || !sn.Status.Database.InUse {
		t.Errorf("the SecureNotes has %+v", sn.Status)
	}
	if w.vault.deploymentID != deploymentID || w.vault.pepper != pepper || w.vault.writes > 1 {
		t.Errorf("the marker has %+v", w.vault)
	}
	if w.served {
		t.Error("a pod of the API ran while the Job did")
	}
	if _, exists := get(t, w, operand.RestoreServiceAccount("notes"), &corev1.ServiceAccount{}); exists {
		t.Error("the service account is left")
	}
	all := &v1alpha1.KeyRotationList{}
	if err := w.List(t.Context(), all); err != nil || len(all.Items) != 1 {
		t.Fatalf("%d rotations follow, %v", len(all.Items), err)
	}
	kr := all.Items[0]
	if kr.Name != nr.Status.Rotation || kr.Spec.Strategy != v1alpha1.StrategyReencrypt || kr.Status.CreatedBy != v1alpha1.CreatedByRestore ||
		!metav1.IsControlledBy(&kr, sn) || rotations.Started(&kr) {
		t.Errorf("the rotation that follows is %+v", kr)
	}
	if _, serves := get(t, w, "notes-0", &corev1.Pod{}); !serves {
		t.Error("no pod of the API runs afterwards")
	}
}

// TestRestoreKilledAnywhere kills the operator before and after each of its writes.
func TestRestoreKilledAnywhere(t *testing.T) {
	t.Parallel()
	t.Run("in place", func(t *testing.T) {
		t.Parallel()
		story().Everywhere(t, 15, func(t *testing.T, w *world) { mustBeRestored(t, w, ownID, ownPepper) })
	})
	t.Run("from the escrow", func(t *testing.T) {
		t.Parallel()
		story(fromEscrow).Everywhere(t, 17, func(t *testing.T, w *world) { mustBeRestored(t, w, otherID, otherPepper) })
	})
	t.Run("from the escrow, in place", func(t *testing.T) {
		t.Parallel()
		s := story(fromEscrow)
		begin := s.Begin
		s.Begin = func(t *testing.T, c *crashtest.Crash) *world {
			w := begin(t, c)
			w.report.DeploymentID = ownID
			return w
		}
		s.Everywhere(t, 17, func(t *testing.T, w *world) { mustBeRestored(t, w, ownID, otherPepper) })
	})
	t.Run("from the escrow, into a volume", func(t *testing.T) {
		t.Parallel()
		storyOf(func() []client.Object {
			claim := &corev1.PersistentVolumeClaim{ObjectMeta: metav1.ObjectMeta{
				Name: operand.ClaimName("notes"), Namespace: "ns", Annotations: map[string]string{operand.AnnotationDeploymentID: ownID, "a": "b"},
			}}
			embedded := notes(func(sn *v1alpha1.SecureNotes) { sn.Spec.Database = nil })
			return []client.Object{embedded, claim, restore("first", fromEscrow)}
		}).Everywhere(t, 18, func(t *testing.T, w *world) {
			mustBeRestored(t, w, otherID, otherPepper)
			claim, _ := get(t, w, operand.ClaimName("notes"), &corev1.PersistentVolumeClaim{})
			if got := fmt.Sprint(claim.Annotations); got != fmt.Sprintf("map[a:b %s:%s]", operand.AnnotationDeploymentID, otherID) {
				t.Errorf("the volume has the annotations %s", got)
			}
		})
	})
}

// TestFailureKilledAnywhere: the Job refuses the backup. The SecureNotes goes on as before.
func TestFailureKilledAnywhere(t *testing.T) {
	t.Parallel()
	s := story(fromEscrow)
	begin := s.Begin
	s.Begin = func(t *testing.T, c *crashtest.Crash) *world {
		w := begin(t, c)
		w.failure = refusal()
		return w
	}
	s.Everywhere(t, 10, func(t *testing.T, w *world) { mustHaveFailed(t, w, "BackupRefused") })
}

// mustHaveFailed checks the end of a restore that failed with a reason.
func mustHaveFailed(t *testing.T, w *world, reason string) {
	t.Helper()
	nr, sn := w.restore(t, "first"), w.parent(t)
	if state, _ := condition(nr, v1alpha1.ConditionFailed); state != "True/"+reason || nr.Status.State != v1alpha1.ConditionFailed || nr.Status.Reason != reason {
		t.Fatalf("the restore ends with %+v", nr.Status)
	}
	if state, _ := condition(nr, v1alpha1.ConditionStalled); state != "True/"+reason {
		t.Errorf("Stalled is %s", state)
	}
	if restores.HasFinalizer(nr) || !marks.Ended(nr) || nr.Status.DeploymentID != "" {
		t.Errorf("the restore is left as %+v", nr)
	}
	if _, exists := get(t, w, operand.RestoreServiceAccount("notes"), &corev1.ServiceAccount{}); exists {
		t.Error("the service account is left")
	}
	if sn.Status.DeploymentID != ownID || sn.Status.Pepper.Entry != ownPepper.Entry || w.vault.writes != 0 {
		t.Errorf("the SecureNotes has changed: %+v; the marker: %+v", sn.Status, w.vault)
	}
	if _, serves := get(t, w, "notes-0", &corev1.Pod{}); !serves {
		t.Error("no pod of the API runs afterwards")
	}
	all := &v1alpha1.KeyRotationList{}
	if err := w.List(t.Context(), all); err != nil || len(all.Items) > 0 {
		t.Errorf("%d rotations follow, %v", len(all.Items), err)
	}
}
