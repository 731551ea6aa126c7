//go:build integration

package main

import (
	"strings"
	"testing"

	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/securenotes/securenotes/api/v1alpha1"
	"github.com/securenotes/securenotes/controllers/internal/operand"
)

// testRecipient is an age recipient whose identity nobody has.
var testRecipient = v1alpha1.AgeRecipient("age1" + strings.Repeat("q", 58))

// volumeBackup returns a policy of backups to a claim.
func volumeBackup() *v1alpha1.BackupPolicy {
	return &v1alpha1.BackupPolicy{
		Recipients:  []v1alpha1.AgeRecipient{testRecipient},
		Destination: v1alpha1.BackupDestination{PersistentVolumeClaim: &v1alpha1.BackupVolume{ClaimName: "backups"}},
	}
}

// bucketBackup returns a policy of backups to a bucket, with every other field.
func bucketBackup() *v1alpha1.BackupPolicy {
	return &v1alpha1.BackupPolicy{
		Recipients: []v1alpha1.AgeRecipient{testRecipient}, Escrow: &v1alpha1.BackupEscrow{Recipients: []v1alpha1.AgeRecipient{testRecipient}},
		Destination: v1alpha1.BackupDestination{ObjectStore: &v1alpha1.ObjectStore{
			URL:                  "https://s3.example.com/backups/notes?region=eu-central-1",
			CredentialsSecretRef: &v1alpha1.LocalObjectReference{Name: "s3"},
			CASecretRef:          &v1alpha1.SecretKeyReference{Name: "s3-ca", Key: "ca.crt"},
		}},
		Keep: &v1alpha1.BackupKeep{Count: new(int32(7)), Age: "720h"},
	}
}

// backupOf returns a NotesBackup of a SecureNotes.
func backupOf(sn *v1alpha1.SecureNotes, name string) *v1alpha1.NotesBackup {
	return &v1alpha1.NotesBackup{
		ObjectMeta: metav1.ObjectMeta{Namespace: sn.Namespace, Name: name},
		Spec:       v1alpha1.NotesBackupSpec{SecureNotesRef: v1alpha1.LocalObjectReference{Name: sn.Name}},
	}
}

// backupObjects returns what the operator creates for the NotesBackups of a SecureNotes with
// spec.backup: one whose name a Job can have, and one whose name it cannot.
func (p *policed) backupObjects(t *testing.T, sn *v1alpha1.SecureNotes) []client.Object {
	t.Helper()
	if sn.Spec.Backup == nil {
		return nil
	}
	var objects []client.Object
	for _, account := range operand.BackupServiceAccounts(sn) {
		objects = append(objects, account)
	}
	for _, name := range []string{"before-the-upgrade", sn.Name + "-rotate-v2-1", "a." + strings.Repeat("b", 200)} {
		cm, job := p.backup(t, sn, name)
		objects = append(objects, cm, job)
	}
	return objects
}

// backup returns the configuration and the Job of a NotesBackup.
func (p *policed) backup(t *testing.T, sn *v1alpha1.SecureNotes, name string) (*corev1.ConfigMap, *batchv1.Job) {
	t.Helper()
	nb := backupOf(sn, name)
	nb.UID = "00000000-0000-0000-0000-000000000004"
	cm, err := operand.BackupConfigMap(nb, sn, p.env)
	if err != nil {
		t.Fatal(err)
	}
	return cm, operand.BackupJob(sn, p.env, operand.BackupWork{
		Owner: metav1.NewControllerRef(nb, v1alpha1.GroupVersion.WithKind("NotesBackup")), Name: operand.BackupJobName(name), ConfigMap: cm.Name,
	})
}

// testBackupEscapes tries what somebody who takes over the operator would with a backup.
func (p *policed) testBackupEscapes(t *testing.T, sn *v1alpha1.SecureNotes) {
	job := func(change func(*batchv1.Job, *corev1.PodSpec)) client.Object {
		_, j := p.backup(t, sn, "first")
		change(j, &j.Spec.Template.Spec)
		return j
	}
	cm := func(change func(*corev1.ConfigMap)) client.Object {
		c, _ := p.backup(t, sn, "first")
		change(c)
		return c
	}
	const (
		denied    = "denied request" // by both policies
		names     = "only objects with its own names"
		owners    = "and a controller of kind"
		accounts  = "serviceAccountName must be"
		volumes   = "volumes may only be Secrets"
		mounts    = "must mount each volume where the program reads it"
		arguments = "args must be those that the operator sets"
		apiToken  = "automountServiceAccountToken must be false"
		labels    = "pods must have the labels of their SecureNotes"
	)
	setClaim := func(s *corev1.PodSpec, volume, claim string) {
		for i := range s.Volumes {
			if s.Volumes[i].Name == volume {
				s.Volumes[i].PersistentVolumeClaim.ClaimName = claim
			}
		}
	}
	for name, tc := range map[string]struct {
		object client.Object
		want   string
	}{
		"a Job of another name":                     {job(func(j *batchv1.Job, _ *corev1.PodSpec) { j.Name = "payments" }), names},
		"a Job of nobody":                           {job(func(j *batchv1.Job, _ *corev1.PodSpec) { j.OwnerReferences = nil }), denied},
		"a Job of another kind":                     {job(func(j *batchv1.Job, _ *corev1.PodSpec) { j.OwnerReferences[0].Kind = "KeyRotation" }), denied},
		"a Job that a NotesBackup does not control": {job(func(j *batchv1.Job, _ *corev1.PodSpec) { j.OwnerReferences[0].Controller = nil }), denied},
		"a Job without label":                       {job(func(j *batchv1.Job, _ *corev1.PodSpec) { delete(j.Labels, operand.LabelManagedBy) }), owners},
		"the account of the API":                    {job(func(_ *batchv1.Job, s *corev1.PodSpec) { s.ServiceAccountName = operand.APIServiceAccount(sn.Name) }), accounts},
		"the account of rotations": {job(func(_ *batchv1.Job, s *corev1.PodSpec) {
			s.ServiceAccountName = operand.RotationServiceAccount(sn.Name)
		}), accounts},
		"the account of another":          {job(func(_ *batchv1.Job, s *corev1.PodSpec) { s.ServiceAccountName = "other-securenotes-backup" }), accounts},
		"the configuration of the API":    {job(func(_ *batchv1.Job, s *corev1.PodSpec) { s.Volumes[0].ConfigMap.Name = operand.ConfigMapName(sn.Name) }), volumes},
		"a configuration of another":      {job(func(_ *batchv1.Job, s *corev1.PodSpec) { s.Volumes[0].ConfigMap.Name = "other-backup-0123456789" }), volumes},
		"its own database as destination": {job(func(_ *batchv1.Job, s *corev1.PodSpec) { setClaim(s, "backups", operand.ClaimName(sn.Name)) }), volumes},
		"another database":                {job(func(_ *batchv1.Job, s *corev1.PodSpec) { setClaim(s, "data", "payments") }), volumes},
		"backups over the program": {job(func(_ *batchv1.Job, s *corev1.PodSpec) {
			mounted := s.Containers[0].VolumeMounts
			mounted[len(mounted)-1].MountPath = "/usr/local/bin"
		}), mounts},
		"a restore":              {job(func(_ *batchv1.Job, s *corev1.PodSpec) { s.Containers[0].Args[0] = "restore" }), arguments},
		"another file":           {job(func(_ *batchv1.Job, s *corev1.PodSpec) { s.Containers[0].Args[2] = "/backups/backup.yaml" }), arguments},
		"more arguments":         {job(func(_ *batchv1.Job, s *corev1.PodSpec) { s.Containers[0].Args = append(s.Containers[0].Args, "verify") }), arguments},
		"the API server's token": {job(func(_ *batchv1.Job, s *corev1.PodSpec) { s.AutomountServiceAccountToken = new(true) }), apiToken},
		"pods that serve": {job(func(j *batchv1.Job, _ *corev1.PodSpec) {
			j.Spec.Template.Labels[operand.LabelComponent] = operand.ComponentAPI
		}), labels},
		"a backup of a rotation": {job(func(j *batchv1.Job, _ *corev1.PodSpec) {
			j.Name, j.OwnerReferences[0].Kind = operand.VerifyJobName(sn.Name, 2, 1), "KeyRotation"
		}), accounts},
		"a verification of a backup": {func() client.Object {
			v := operand.VerifyJob(sn, p.env, work(sn, "NotesBackup", operand.VerifyJobName(sn.Name, 2, 1)))
			v.OwnerReferences[0].Name = v.Name
			return v
		}(), accounts},
		"a ConfigMap of another name":        {cm(func(c *corev1.ConfigMap) { c.Name = "kube-root-ca.crt" }), names},
		"a ConfigMap of another SecureNotes": {cm(func(c *corev1.ConfigMap) { c.Name = "other-backup-0123456789" }), names},
		"a ConfigMap of nobody":              {cm(func(c *corev1.ConfigMap) { c.OwnerReferences = nil }), names},
		"a ConfigMap without label":          {cm(func(c *corev1.ConfigMap) { delete(c.Labels, operand.LabelManagedBy) }), owners},
		"a service account of a NotesBackup": {func() client.Object {
			account := operand.BackupServiceAccounts(sn)[0]
			account.OwnerReferences[0].Kind = "NotesBackup"
			return account
		}(), owners},
	} {
		t.Run(name, func(t *testing.T) {
			if err := p.try(t.Context(), tc.object); err == nil || !strings.Contains(err.Error(), tc.want) {
				t.Errorf("not denied with %q: %v", tc.want, err)
			}
		})
	}
}
