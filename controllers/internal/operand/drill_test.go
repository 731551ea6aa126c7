package operand

import (
	"slices"
	"strings"
	"testing"
	"time"

	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/securenotes/securenotes/api/v1alpha1"
	"github.com/securenotes/securenotes/app/config"
)

// TestDrillRecipient checks which recipients a backup has. age refuses a mixture of the two forms.
func TestDrillRecipient(t *testing.T) {
	t.Parallel()
	person, hybrid := v1alpha1.AgeRecipient("age1"+strings.Repeat("q", 58)), v1alpha1.AgeRecipient("age1pq1"+strings.Repeat("q", 1950))
	drill, hybridDrill := v1alpha1.AgeRecipient("age1"+strings.Repeat("p", 58)), v1alpha1.AgeRecipient("age1pq1"+strings.Repeat("p", 1950))
	for name, tc := range map[string]struct {
		person     v1alpha1.AgeRecipient
		identities []v1alpha1.AgeRecipient
		suspend    bool
		want       []v1alpha1.AgeRecipient
	}{
		"none yet":            {person: person, want: []v1alpha1.AgeRecipient{person}},
		"one":                 {person: person, identities: []v1alpha1.AgeRecipient{drill}, want: []v1alpha1.AgeRecipient{person, drill}},
		"the newest":          {person: person, identities: []v1alpha1.AgeRecipient{drill, person}, want: []v1alpha1.AgeRecipient{person, drill}},
		"hybrid":              {person: hybrid, identities: []v1alpha1.AgeRecipient{hybridDrill}, want: []v1alpha1.AgeRecipient{hybrid, hybridDrill}},
		"not hybrid any more": {person: person, identities: []v1alpha1.AgeRecipient{hybridDrill}, want: []v1alpha1.AgeRecipient{person}},
		"not hybrid yet":      {person: hybrid, identities: []v1alpha1.AgeRecipient{drill}, want: []v1alpha1.AgeRecipient{hybrid}},
		"suspended":           {person: person, identities: []v1alpha1.AgeRecipient{drill}, suspend: true, want: []v1alpha1.AgeRecipient{person}},
	} {
		t.Run(name, func(t *testing.T) {
			sn := drilledNotes(tc.person, tc.identities...)
			sn.Spec.Backup.Drill = &v1alpha1.BackupDrill{Suspend: &tc.suspend}
			c := backupConfig(sn, environment())
			if !slices.Equal(c.Backup.Recipients, texts(tc.want)) || c.Backup.Drill != nil {
				t.Errorf("the recipients are %q, want %q", c.Backup.Recipients, tc.want)
			}
			if _, err := config.Marshal(c); err != nil {
				t.Error(err)
			}
		})
	}
}

// drilledNotes returns a SecureNotes with the recipient of a person, and identities of the drill.
func drilledNotes(person v1alpha1.AgeRecipient, identities ...v1alpha1.AgeRecipient) *v1alpha1.SecureNotes {
	sn := &v1alpha1.SecureNotes{ObjectMeta: metav1.ObjectMeta{Name: "notes", Namespace: "demo", UID: "uid"}}
	sn.Spec.Backup = &v1alpha1.BackupPolicy{
		Recipients:  []v1alpha1.AgeRecipient{person},
		Destination: v1alpha1.BackupDestination{PersistentVolumeClaim: &v1alpha1.BackupVolume{ClaimName: "backups"}},
	}
	sn.Status.Backup = &v1alpha1.BackupStatus{Drill: &v1alpha1.DrillStatus{}}
	for i, recipient := range identities {
		sn.Status.Backup.Drill.Identities = append(sn.Status.Backup.Drill.Identities, v1alpha1.DrillIdentity{
			Entry: "drill-" + strings.Repeat(string(rune('a'+i)), 16), Recipient: recipient, KeyVersion: 1, Since: metav1.NewTime(time.Unix(1, 0)),
		})
	}
	return sn
}

// TestDrillConfigurationIsWhatTheServiceReads checks that the Job logs in with the role of its
// account, and that every file that its configuration names is mounted.
func TestDrillConfigurationIsWhatTheServiceReads(t *testing.T) {
	t.Parallel()
	sn := drilledNotes(v1alpha1.AgeRecipient("age1"+strings.Repeat("q", 58)), v1alpha1.AgeRecipient("age1"+strings.Repeat("p", 58)))
	sn.Spec.Backup.Destination = v1alpha1.BackupDestination{ObjectStore: &v1alpha1.ObjectStore{
		URL: "https://s3.example.com/backups", CredentialsSecretRef: &v1alpha1.LocalObjectReference{Name: "s3"}, CASecretRef: &v1alpha1.SecretKeyReference{Name: "ca", Key: "ca.crt"},
	}}
	env := environment()
	cm, err := DrillConfigMap(sn, env)
	if err != nil {
		t.Fatal(err)
	}
	c, err := config.Parse([]byte(cm.Data[config.DrillFile]))
	if err != nil {
		t.Fatal(err)
	}
	job := DrillJob(sn, env, DrillJobName("notes", time.Unix(60_000_000, 0)), resource.Quantity{})
	spec := job.Spec.Template.Spec
	if job.Name != "notes-drill-1000000" || spec.ServiceAccountName != "notes-securenotes-drill" || c.Keys.Vault.Role != config.RoleDrill || spec.Affinity != nil {
		t.Errorf("the Job %s has the account %s, and the role %s", job.Name, spec.ServiceAccountName, c.Keys.Vault.Role)
	}
	var mounted []string
	for _, mount := range spec.Containers[0].VolumeMounts {
		mounted = append(mounted, mount.MountPath)
	}
	for _, file := range []string{
		config.ConfigDirectory + "/" + config.DrillFile, c.Keys.Vault.TokenFile, c.Backup.Destination.ObjectStore.CAFile,
		c.Backup.Destination.ObjectStore.CredentialsDirectory + "/", c.Backup.Drill.Directory + "/",
	} {
		if !slices.ContainsFunc(mounted, func(directory string) bool { return strings.HasPrefix(file, directory+"/") }) {
			t.Errorf("%s is not in %v", file, mounted)
		}
	}
	if len(mounted) != 5 || len(spec.Volumes) != 5 {
		t.Errorf("the pod has %d volumes at %v, want nothing of the database", len(spec.Volumes), mounted)
	}
}

// TestDrillStorage checks the volume of a drill.
func TestDrillStorage(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		storage     *v1alpha1.DrillStorage
		size, class string
	}{
		"unset":                  {nil, "10Gi", ""},
		"of a size":              {&v1alpha1.DrillStorage{Size: "3Gi"}, "3Gi", ""},
		"of a class":             {&v1alpha1.DrillStorage{StorageClassName: "fast"}, "10Gi", "fast"},
		"of an unreadable size":  {&v1alpha1.DrillStorage{Size: "many"}, "10Gi", ""},
		"with an exponent in it": {&v1alpha1.DrillStorage{Size: "1e999999999"}, "10Gi", ""},
	} {
		t.Run(name, func(t *testing.T) {
			sn := drilledNotes("age1")
			sn.Spec.Backup.Drill = &v1alpha1.BackupDrill{Storage: tc.storage}
			claim := drillStorage(sn).Ephemeral.VolumeClaimTemplate.Spec
			got, class := claim.Resources.Requests.Storage(), ""
			if claim.StorageClassName != nil {
				class = *claim.StorageClassName
			}
			if got.String() != tc.size || class != tc.class {
				t.Errorf("got %s of %q, want %s of %q", got, class, tc.size, tc.class)
			}
		})
	}
}
