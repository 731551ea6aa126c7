package operand

import (
	"strings"
	"testing"
	"time"

	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/validation"

	"github.com/securenotes/securenotes/api/v1alpha1"
	"github.com/securenotes/securenotes/app/config"
)

// backupOf returns the configuration and the Job of NotesBackup first.
func backupOf(t *testing.T, sn *v1alpha1.SecureNotes, env Environment) (*corev1.ConfigMap, *batchv1.Job) {
	t.Helper()
	nb := &v1alpha1.NotesBackup{ObjectMeta: metav1.ObjectMeta{Name: "first", Namespace: "demo", UID: "first-uid"}}
	cm, err := BackupConfigMap(nb, sn, env)
	if err != nil {
		t.Fatal(err)
	}
	return cm, BackupJob(sn, env, BackupWork{
		Owner: metav1.NewControllerRef(nb, v1alpha1.GroupVersion.WithKind("NotesBackup")), Name: BackupJobName(nb.Name), ConfigMap: cm.Name,
	})
}

// TestBackupJobNames: the name of the Job is that of the NotesBackup where a Job, and a pod of it,
// can have that name, and no Job of a rotation has it.
func TestBackupJobNames(t *testing.T) {
	t.Parallel()
	long := strings.Repeat("a", 253)
	for name, want := range map[string]string{
		"notes-29000000": "notes-29000000", "first": "first", "a": "a", strings.Repeat("b", 52): strings.Repeat("b", 52),
		"before.upgrade": "", "notes-rotate-v2-1": "", "notes-trim-v10-3": "", strings.Repeat("b", 53): "", long: "",
		"x." + strings.Repeat("-", 50) + "y": "", "1.2": "",
	} {
		got := BackupJobName(name)
		if want != "" && got != want || want == "" && got == name {
			t.Errorf("%s: %s, want %q", name, got, want)
		}
		if errs := validation.IsDNS1123Label(got); len(errs) > 0 || len(got) > maxBackupJobName || ofRotation.MatchString(got) {
			t.Errorf("%s: %s, %v", name, got, errs)
		}
	}
	if BackupJobName(long) == BackupJobName(long[1:]+"b") || BackupJobName("a.b") == BackupJobName("a-b") {
		t.Error("two NotesBackups share a Job")
	}
}

// TestBackupConfigurationIsWhatTheServiceReads: the Job logs in with the role of its account, and
// every file that its configuration names is mounted.
func TestBackupConfigurationIsWhatTheServiceReads(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		sn            *v1alpha1.SecureNotes
		role, account string
	}{
		"without escrow": {sn: embedded(), role: config.RoleBackup, account: "notes-securenotes-backup"},
		"with escrow":    {sn: postgres(), role: config.RoleBackupEscrow, account: "notes-securenotes-backup-escrow"},
	} {
		t.Run(name, func(t *testing.T) {
			env := environment()
			env.Pepper, env.PepperDigest = "pepper-aaaaaaaaaaaaaaaa", strings.Repeat("a", 64)
			cm, job := backupOf(t, tc.sn, env)
			c, err := config.Parse([]byte(cm.Data[config.BackupFile]))
			if err != nil {
				t.Fatal(err)
			}
			spec := job.Spec.Template.Spec
			if c.Keys.Vault.Role != tc.role || spec.ServiceAccountName != tc.account || c.Backup.SecureNotesUID != "uid" ||
				c.Keys.Vault.BackupKey != "sn-backup-11111111-1111-1111-1111-111111111111.demo.notes" || c.Deployment.ID != env.DeploymentID {
				t.Errorf("account %s, %+v", spec.ServiceAccountName, c)
			}
			if escrow := tc.sn.Spec.Backup.Escrow != nil; escrow != (c.Backup.Escrow != nil) || escrow != (c.Keys.Vault.PepperDigest != "") {
				t.Errorf("escrow %+v, pepper %q", c.Backup.Escrow, c.Keys.Vault.Pepper)
			}
			mounted := map[string]bool{}
			for _, mount := range spec.Containers[0].VolumeMounts {
				mounted[mount.MountPath] = true
			}
			paths := []string{config.ConfigDirectory}
			if d := c.Backup.Destination.Directory; d != nil {
				paths = append(paths, strings.TrimSuffix(d.Path, "/securenotes-backups"), config.DataDirectory)
			} else {
				store := c.Backup.Destination.ObjectStore
				paths = append(paths, store.CredentialsDirectory, strings.TrimSuffix(store.CAFile, "/ca.crt"), config.DatabaseDirectory)
				if c.Backup.Keep.Count != 7 || time.Duration(c.Backup.Keep.Age) != 720*time.Hour {
					t.Errorf("keep %+v", c.Backup.Keep)
				}
			}
			for _, path := range paths {
				if !mounted[path] {
					t.Errorf("%s is not mounted: %v", path, mounted)
				}
			}
			if *job.Spec.ActiveDeadlineSeconds != 86400 || *job.Spec.BackoffLimit != 20 || *job.Spec.Completions != 1 || !*cm.Immutable {
				t.Errorf("%+v", job.Spec)
			}
		})
	}
}

// TestBackupConfigurationHasTheStart: the Job measures ages at the start of the NotesBackup. The
// ConfigMap is the same whatever the time zone of the operator is, and before the status is stored.
func TestBackupConfigurationHasTheStart(t *testing.T) {
	t.Parallel()
	at := time.Date(2026, 11, 30, 12, 0, 0, 0, time.UTC)
	names := map[string]bool{}
	for _, start := range []time.Time{at, at.In(time.FixedZone("", 3600)), at.Add(time.Second / 2)} {
		nb := &v1alpha1.NotesBackup{ObjectMeta: metav1.ObjectMeta{Name: "first", UID: "first-uid"}}
		nb.Status.StartTime = new(metav1.NewTime(start))
		cm, err := BackupConfigMap(nb, postgres(), environment())
		if err != nil {
			t.Fatal(err)
		}
		c, err := config.Parse([]byte(cm.Data[config.BackupFile]))
		if err != nil || !c.Backup.StartedAt.Equal(at) {
			t.Errorf("error %v, start %s, want %s", err, c.Backup.StartedAt, at)
		}
		names[cm.Name] = true
	}
	if len(names) != 1 {
		t.Errorf("one start has the ConfigMaps %v", names)
	}
}

// TestBackupConfigMapNames: another content, or another NotesBackup, has another ConfigMap.
func TestBackupConfigMapNames(t *testing.T) {
	t.Parallel()
	name := func(change func(*v1alpha1.NotesBackup, *v1alpha1.SecureNotes, *Environment)) string {
		nb, sn, env := &v1alpha1.NotesBackup{ObjectMeta: metav1.ObjectMeta{Name: "first", UID: "first-uid"}}, postgres(), environment()
		change(nb, sn, &env)
		cm, err := BackupConfigMap(nb, sn, env)
		if err != nil {
			t.Fatal(err)
		}
		return cm.Name
	}
	seen := map[string]string{}
	for what, change := range map[string]func(*v1alpha1.NotesBackup, *v1alpha1.SecureNotes, *Environment){
		"nothing":        func(*v1alpha1.NotesBackup, *v1alpha1.SecureNotes, *Environment) {},
		"another backup": func(nb *v1alpha1.NotesBackup, _ *v1alpha1.SecureNotes, _ *Environment) { nb.UID = "second-uid" },
		"another bucket": func(_ *v1alpha1.NotesBackup, sn *v1alpha1.SecureNotes, _ *Environment) {
			sn.Spec.Backup.Destination.ObjectStore.URL = "https://s3.example.com/other"
		},
		"no escrow": func(_ *v1alpha1.NotesBackup, sn *v1alpha1.SecureNotes, _ *Environment) { sn.Spec.Backup.Escrow = nil },
		"another authority": func(_ *v1alpha1.NotesBackup, _ *v1alpha1.SecureNotes, env *Environment) {
			env.Connection.CABundle = "x"
		},
	} {
		got := name(change)
		if other := seen[got]; other != "" {
			t.Errorf("%s and %s share %s", what, other, got)
		}
		seen[got] = what
		if !strings.HasPrefix(got, "notes-backup-") || len(got) != len("notes-backup-")+hashDigits || got != name(change) {
			t.Errorf("%s: %s", what, got)
		}
	}
}

func TestBackupLocation(t *testing.T) {
	t.Parallel()
	for want, sn := range map[string]*v1alpha1.SecureNotes{
		"https://s3.example.com/backups/notes": postgres(), "persistentVolumeClaim/backups": embedded(),
	} {
		if got := BackupLocation(sn.Spec.Backup.Destination); got != want {
			t.Errorf("%s, want %s", got, want)
		}
	}
}

// TestNoBackupAccounts: the accounts exist only while backups are configured.
func TestNoBackupAccounts(t *testing.T) {
	t.Parallel()
	sn := embedded()
	accounts := BackupServiceAccounts(sn)
	if len(accounts) != 3 {
		t.Errorf("%v", accounts)
	}
	for _, account := range accounts {
		if *account.AutomountServiceAccountToken {
			t.Errorf("%s has a token of the API server", account.Name)
		}
	}
	sn.Spec.Backup = nil
	if accounts := BackupServiceAccounts(sn); len(accounts) != 0 {
		t.Errorf("%v", accounts)
	}
}

// TestInvalidBackupConfiguration: what an earlier schema may have allowed is an error that names
// the field.
func TestInvalidBackupConfiguration(t *testing.T) {
	t.Parallel()
	sn := postgres()
	sn.Spec.Backup.Destination.ObjectStore.URL = "http://key:secret@s3.example.com/backups"
	_, err := BackupConfigMap(&v1alpha1.NotesBackup{}, sn, environment())
	if err == nil || !strings.Contains(err.Error(), "backup.destination.objectStore.url") || strings.Contains(err.Error(), "secret@") {
		t.Errorf("%v", err)
	}
}
