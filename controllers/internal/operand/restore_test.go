package operand

import (
	"strings"
	"testing"

	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/validation"

	"github.com/securenotes/securenotes/api/v1alpha1"
	"github.com/securenotes/securenotes/app/config"
)

func restoreWith(change func(*v1alpha1.NotesRestoreSpec)) *v1alpha1.NotesRestore {
	nr := &v1alpha1.NotesRestore{
		ObjectMeta: metav1.ObjectMeta{Name: "back", Namespace: "demo", UID: "nr-uid"},
		Spec: v1alpha1.NotesRestoreSpec{
			SecureNotesRef: v1alpha1.LocalObjectReference{Name: "notes"}, ID: "20261130T013000Z-k3v7m2qx5jd4w6ra",
			Destination:       &v1alpha1.BackupDestination{PersistentVolumeClaim: &v1alpha1.BackupVolume{ClaimName: "copies"}},
			IdentitySecretRef: v1alpha1.SecretKeyReference{Name: "once", Key: "key"},
		},
	}
	change(&nr.Spec)
	return nr
}

func restorationOf(t *testing.T, nr *v1alpha1.NotesRestore, sn *v1alpha1.SecureNotes) (*corev1.ConfigMap, *batchv1.Job) {
	t.Helper()
	env := environment()
	env.Pepper, env.PepperDigest = "pepper-aaaaaaaaaaaaaaaa", strings.Repeat("a", 64)
	cm, err := RestoreConfigMap(nr, sn, env)
	if err != nil {
		t.Fatal(err)
	}
	return cm, RestoreJob(nr, sn, env, cm.Name)
}

// TestRestoreConfigurationIsWhatTheServiceReads: the Job logs in with the role of its account, and
// every file that its configuration and its arguments name is mounted, read-only but for the
// database.
func TestRestoreConfigurationIsWhatTheServiceReads(t *testing.T) {
	t.Parallel()
	bucket := &v1alpha1.BackupDestination{ObjectStore: &v1alpha1.ObjectStore{
		URL: "https://s3.example.com/backups", CredentialsSecretRef: &v1alpha1.LocalObjectReference{Name: "s3"},
		CASecretRef: &v1alpha1.SecretKeyReference{Name: "s3-ca", Key: "ca"},
	}}
	withBackup := postgres()
	withBackup.Spec.Backup = &v1alpha1.BackupPolicy{Destination: *bucket}
	for name, tc := range map[string]struct {
		sn     *v1alpha1.SecureNotes
		change func(*v1alpha1.NotesRestoreSpec)
		args   string
		mounts []string
	}{
		"from a claim": {
			sn: embedded(), change: func(*v1alpha1.NotesRestoreSpec) {},
			args:   "restore --config /etc/securenotes/config/restore.yaml --identity /etc/securenotes/identity/identity.txt 20261130T013000Z-k3v7m2qx5jd4w6ra",
			mounts: []string{config.BackupsDirectory, config.IdentityDirectory, config.DataDirectory},
		},
		"from the escrow in the bucket of the SecureNotes": {
			sn: withBackup, change: func(spec *v1alpha1.NotesRestoreSpec) {
				spec.Destination = nil
				spec.EscrowIdentitySecretRef = &v1alpha1.SecretKeyReference{Name: "once", Key: "escrow"}
				spec.PublicKeys = &v1alpha1.BackupKeysStatus{Key: "k", Versions: []v1alpha1.BackupKeyVersion{{Version: 1, PublicKey: strings.Repeat("A", 43) + "=", Since: metav1.Unix(1, 0)}}}
				spec.Overwrite = true
			},
			args: "restore --config /etc/securenotes/config/restore.yaml --identity /etc/securenotes/identity/identity.txt " +
				"--escrow-identity /etc/securenotes/escrow-identity/identity.txt --public-keys /etc/securenotes/config/public-keys.json --overwrite 20261130T013000Z-k3v7m2qx5jd4w6ra",
			mounts: []string{config.BackupCredentialsDirectory, config.BackupCADirectory, config.IdentityDirectory, config.EscrowIdentityDirectory, config.DatabaseDirectory},
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			nr := restoreWith(tc.change)
			cm, job := restorationOf(t, nr, tc.sn)
			c, err := config.Parse([]byte(cm.Data[config.RestoreFile]))
			if err != nil {
				t.Fatal(err)
			}
			spec := job.Spec.Template.Spec
			account := RestoreAccount(nr, tc.sn)
			if c.Keys.Vault.Role != config.RoleRestore || spec.ServiceAccountName != "notes-securenotes-restore" || account.Name != spec.ServiceAccountName ||
				c.Backup.SecureNotesUID != "uid" || c.Keys.Vault.PepperDigest == "" || c.Deployment.ID != environment().DeploymentID {
				t.Errorf("account %s, %+v", spec.ServiceAccountName, c)
			}
			if got := strings.Join(spec.Containers[0].Args, " "); got != tc.args {
				t.Errorf("arguments %s", got)
			}
			if nr.Spec.PublicKeys != nil {
				if keys, err := config.ParseBackupKeys([]byte(cm.Data[config.PublicKeysFile])); err != nil || keys.Key != "k" {
					t.Errorf("public keys %+v, %v", keys, err)
				}
			}
			writable := map[string]bool{}
			for _, mount := range spec.Containers[0].VolumeMounts {
				writable[mount.MountPath] = !mount.ReadOnly
			}
			for _, path := range append(tc.mounts, config.ConfigDirectory, config.VaultTokenDirectory) {
				if w, mounted := writable[path]; !mounted || w != (path == config.DataDirectory) {
					t.Errorf("%s is mounted %t, and writable %t", path, mounted, w)
				}
			}
			for _, object := range []metav1.Object{cm, job, account} {
				if !metav1.IsControlledBy(object, nr) {
					t.Errorf("%s is of %v", object.GetName(), object.GetOwnerReferences())
				}
			}
			if *job.Spec.Completions != 1 || !*cm.Immutable || *spec.AutomountServiceAccountToken {
				t.Errorf("%+v", job.Spec)
			}
		})
	}
}

// TestRestoreNames: each restore has a Job and a configuration of its own, and the longest name of
// a SecureNotes leaves a name that a pod of an Indexed Job can have.
func TestRestoreNames(t *testing.T) {
	t.Parallel()
	first, second := restoreWith(func(*v1alpha1.NotesRestoreSpec) {}), restoreWith(func(*v1alpha1.NotesRestoreSpec) {})
	second.UID = "another"
	cm1, job1 := restorationOf(t, first, postgres())
	cm2, job2 := restorationOf(t, second, postgres())
	if cm1.Name == cm2.Name || job1.Name == job2.Name {
		t.Errorf("two restores share %s or %s", cm1.Name, job1.Name)
	}
	long := restoreWith(func(spec *v1alpha1.NotesRestoreSpec) { spec.SecureNotesRef.Name = strings.Repeat("a", 40) })
	if name := RestoreJobName(long) + "-0"; len(validation.IsDNS1123Label(name)) > 0 {
		t.Errorf("the pod %s has an invalid name", name)
	}
}

// TestRestoreNeedsNoRecipients: a configuration without recipients is valid for a restore only.
func TestRestoreNeedsNoRecipients(t *testing.T) {
	t.Parallel()
	cm, _ := restorationOf(t, restoreWith(func(*v1alpha1.NotesRestoreSpec) {}), postgres())
	text := strings.ReplaceAll(cm.Data[config.RestoreFile], config.RoleRestore, config.RoleBackup)
	if _, err := config.Parse([]byte(text)); err == nil || !strings.Contains(err.Error(), "backup.recipients") {
		t.Errorf("a backup without recipients: %v", err)
	}
}
