package keyrotation

import (
	"slices"
	"testing"
	"time"

	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/securenotes/securenotes/api/v1alpha1"
	"github.com/securenotes/securenotes/controllers/internal/crashtest"
	"github.com/securenotes/securenotes/controllers/internal/operand"
	"github.com/securenotes/securenotes/controllers/internal/rotations"
)

// backedUp returns a SecureNotes with spec.backup.
func backedUp() *v1alpha1.SecureNotes {
	sn := notes()
	sn.Spec.Backup = &v1alpha1.BackupPolicy{Destination: v1alpha1.BackupDestination{PersistentVolumeClaim: &v1alpha1.BackupVolume{ClaimName: "backups"}}}
	return sn
}

// backupJob returns the Job of a NotesBackup that was created so many seconds after now.
func backupJob(name string, seconds int) *batchv1.Job {
	owner := &v1alpha1.NotesBackup{ObjectMeta: metav1.ObjectMeta{Name: name, Namespace: "ns", UID: types.UID(name)}}
	job := operand.BackupJob(backedUp(), operand.Environment{Image: "image"}, operand.BackupWork{
		Owner: metav1.NewControllerRef(owner, v1alpha1.GroupVersion.WithKind("NotesBackup")), Name: name,
	})
	job.UID, job.CreationTimestamp = types.UID(name+"-job"), metav1.NewTime(now().Add(time.Duration(seconds)*time.Second))
	return job
}

// recreateBackupAccounts plays the reconciler of the SecureNotes, which recreates the accounts of
// backups now.
func (w *world) recreateBackupAccounts(t *testing.T) {
	t.Helper()
	for _, account := range operand.BackupServiceAccounts(backedUp()) {
		account.UID, account.CreationTimestamp = types.UID(account.Name+"-recreated"), metav1.NewTime(now())
		if err := client.IgnoreAlreadyExists(w.Create(t.Context(), account)); err != nil {
			t.Fatal(err)
		}
	}
}

// TestCompromiseStopsBackups kills the operator at every write of a Compromise while backups run.
// The accounts of backups are recreated, and only the Jobs that may run with the old ones are
// deleted.
func TestCompromiseStopsBackups(t *testing.T) {
	t.Parallel()
	ended := backupJob("ended", -60)
	ended.Status.Conditions = []batchv1.JobCondition{{Type: batchv1.JobComplete, Status: corev1.ConditionTrue}}
	foreign := backupJob("foreign", -60)
	foreign.OwnerReferences = nil
	story := wholeRotation(nil, urgent)
	begin, play := story.Begin, story.Pass
	story.Begin = func(t *testing.T, c *crashtest.Crash) *world {
		w := begin(t, c)
		parent := w.parent(t)
		parent.Spec.Backup = backedUp().Spec.Backup
		if err := w.Update(t.Context(), parent); err != nil {
			t.Fatal(err)
		}
		for _, account := range operand.BackupServiceAccounts(backedUp()) {
			account.UID = types.UID(account.Name + "-first")
			if err := w.Create(t.Context(), account); err != nil {
				t.Fatal(err)
			}
		}
		for _, job := range []*batchv1.Job{backupJob("old", -60), backupJob("samesecond", 0), backupJob("new", 1), ended.DeepCopy(), foreign.DeepCopy()} {
			if err := w.Create(t.Context(), job); err != nil {
				t.Fatal(err)
			}
		}
		return w
	}
	story.Pass = func(t *testing.T, w *world) bool {
		w.recreateBackupAccounts(t)
		return play(t, w)
	}
	story.Everywhere(t, 27, func(t *testing.T, w *world) {
		kr := w.rotation(t, "first")
		if !rotations.Complete(kr) || len(kr.Status.ReplacedServiceAccounts) != 5 {
			t.Fatalf("status %+v", kr.Status)
		}
		for _, account := range operand.BackupServiceAccounts(backedUp()) {
			if err := w.Get(t.Context(), client.ObjectKeyFromObject(account), account); err != nil || account.UID != types.UID(account.Name+"-recreated") {
				t.Errorf("account %s has UID %s, error %v", account.Name, account.UID, err)
			}
		}
		var left []string
		for _, job := range w.jobs(t) {
			if job.Labels[operand.LabelComponent] == operand.ComponentBackup {
				left = append(left, job.Name)
			}
		}
		if slices.Sort(left); !slices.Equal(left, []string{"ended", "foreign", "new"}) {
			t.Errorf("the Jobs %v are left", left)
		}
		want := "ServiceAccounts notes-securenotes-api, notes-securenotes-rotation, notes-securenotes-backup, notes-securenotes-backup-escrow and notes-securenotes-drill were recreated: " +
			"tokens of the old ones can no longer log in to Vault"
		if c := meta.FindStatusCondition(kr.Status.Conditions, v1alpha1.ConditionServiceAccountsRecreated); c.Message != want {
			t.Errorf("it says %q", c.Message)
		}
	})
}

// TestCompromiseWithoutBackups: accounts of backups that are left from a removed spec.backup are
// deleted, and nothing waits for them. Accounts of others with these names stay.
func TestCompromiseWithoutBackups(t *testing.T) {
	t.Parallel()
	left := operand.BackupServiceAccounts(backedUp())
	left[0].UID = "left"
	left[1].UID, left[1].OwnerReferences = "foreign", nil
	w := newWorld(t, &crashtest.Crash{}, rotation("first", urgent), left[0], left[1])
	if kr := w.drive(t).rotation(t, "first"); !rotations.Complete(kr) || len(kr.Status.ReplacedServiceAccounts) != 3 {
		t.Errorf("status %+v", kr.Status)
	}
	for i, exists := range []bool{false, true} {
		err := w.Get(t.Context(), client.ObjectKeyFromObject(left[i]), &corev1.ServiceAccount{})
		if exists != (err == nil) {
			t.Errorf("account %s: %v", left[i].Name, err)
		}
	}
}
