//go:build integration

package main

import (
	"strings"
	"testing"

	appsv1 "k8s.io/api/apps/v1"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/securenotes/securenotes/api/v1alpha1"
	"github.com/securenotes/securenotes/controllers/internal/operand"
)

// restoreOf returns a NotesRestore of a SecureNotes, from the escrow and with every option.
func restoreOf(sn *v1alpha1.SecureNotes, name string) *v1alpha1.NotesRestore {
	identity := v1alpha1.SecretKeyReference{Name: "once", Key: "identity.txt"}
	return &v1alpha1.NotesRestore{
		ObjectMeta: metav1.ObjectMeta{Namespace: sn.Namespace, Name: name},
		Spec: v1alpha1.NotesRestoreSpec{
			SecureNotesRef: v1alpha1.LocalObjectReference{Name: sn.Name}, ID: "20261130T013000Z-k3v7m2qx5jd4w6ra",
			Destination:       &v1alpha1.BackupDestination{PersistentVolumeClaim: &v1alpha1.BackupVolume{ClaimName: "copies"}},
			IdentitySecretRef: identity, EscrowIdentitySecretRef: &identity,
			PublicKeys: &v1alpha1.BackupKeysStatus{Key: "sn-backup-x", Versions: []v1alpha1.BackupKeyVersion{
				{Version: 1, PublicKey: strings.Repeat("A", 43) + "=", Since: metav1.Now()},
			}},
			Older: true, AcceptDamaged: true, Overwrite: true, AcceptSHA256: strings.Repeat("0", 64),
		},
	}
}

// restoration returns what the operator creates for a NotesRestore.
func (p *policed) restoration(t *testing.T, sn *v1alpha1.SecureNotes, nr *v1alpha1.NotesRestore) (*corev1.ServiceAccount, *corev1.ConfigMap, *batchv1.Job) {
	t.Helper()
	nr.UID = "00000000-0000-0000-0000-000000000005"
	cm, err := operand.RestoreConfigMap(nr, sn, p.env)
	if err != nil {
		t.Fatal(err)
	}
	return operand.RestoreAccount(nr, sn), cm, operand.RestoreJob(nr, sn, p.env, cm.Name)
}

// restoreObjects returns what the operator creates for two NotesRestores of a SecureNotes: one with
// every option, and one with none.
func (p *policed) restoreObjects(t *testing.T, sn *v1alpha1.SecureNotes) []client.Object {
	t.Helper()
	plain := restoreOf(sn, "plain")
	plain.Spec = v1alpha1.NotesRestoreSpec{
		SecureNotesRef: plain.Spec.SecureNotesRef, ID: plain.Spec.ID, IdentitySecretRef: plain.Spec.IdentitySecretRef,
		Destination: &v1alpha1.BackupDestination{ObjectStore: bucketBackup().Destination.ObjectStore},
	}
	var objects []client.Object
	for _, nr := range []*v1alpha1.NotesRestore{restoreOf(sn, "all"), plain} {
		account, cm, job := p.restoration(t, sn, nr)
		objects = append(objects, account, cm, job)
	}
	kr := p.rotation(sn, sn.Name+"-restored-0123456789")
	kr.Spec.Strategy = v1alpha1.StrategyReencrypt
	return append(objects, kr)
}

// testRestoreEscapes tries what somebody who takes over the operator would with a restore.
func (p *policed) testRestoreEscapes(t *testing.T, sn *v1alpha1.SecureNotes) {
	job := func(change func(*batchv1.Job, *corev1.PodSpec)) client.Object {
		_, _, j := p.restoration(t, sn, restoreOf(sn, "first"))
		change(j, &j.Spec.Template.Spec)
		return j
	}
	account := func(change func(*corev1.ServiceAccount)) client.Object {
		a, _, _ := p.restoration(t, sn, restoreOf(sn, "first"))
		change(a)
		return a
	}
	cm := func(change func(*corev1.ConfigMap)) client.Object {
		_, c, _ := p.restoration(t, sn, restoreOf(sn, "first"))
		change(c)
		return c
	}
	rotation := func(change func(*v1alpha1.KeyRotation)) client.Object {
		kr := p.rotation(sn, sn.Name+"-restored-0123456789")
		kr.Spec.Strategy = v1alpha1.StrategyReencrypt
		change(kr)
		return kr
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
		rotations = "may create only KeyRotations"
	)
	for name, tc := range map[string]struct {
		object client.Object
		want   string
	}{
		"a Job of another name":        {job(func(j *batchv1.Job, _ *corev1.PodSpec) { j.Name = sn.Name + "-payments" }), names},
		"a Job of another SecureNotes": {job(func(j *batchv1.Job, _ *corev1.PodSpec) { j.Name = "other-restore-0123456789" }), names},
		"a Job of nobody":              {job(func(j *batchv1.Job, _ *corev1.PodSpec) { j.OwnerReferences = nil }), denied},
		"a Job of a NotesBackup":       {job(func(j *batchv1.Job, _ *corev1.PodSpec) { j.OwnerReferences[0].Kind = "NotesBackup" }), accounts},
		"a Job without label":          {job(func(j *batchv1.Job, _ *corev1.PodSpec) { delete(j.Labels, operand.LabelManagedBy) }), "must have the label"},
		"the account of the API":       {job(func(_ *batchv1.Job, s *corev1.PodSpec) { s.ServiceAccountName = operand.APIServiceAccount(sn.Name) }), accounts},
		"the account of another":       {job(func(_ *batchv1.Job, s *corev1.PodSpec) { s.ServiceAccountName = "other-securenotes-restore" }), accounts},
		"the configuration of a backup": {job(func(_ *batchv1.Job, s *corev1.PodSpec) {
			s.Volumes[0].ConfigMap.Name = sn.Name + "-backup-0123456789"
		}), volumes},
		"a configuration of another": {job(func(_ *batchv1.Job, s *corev1.PodSpec) { s.Volumes[0].ConfigMap.Name = "other-restore-0123456789" }), volumes},
		"identities over the program": {job(func(_ *batchv1.Job, s *corev1.PodSpec) {
			mounted := s.Containers[0].VolumeMounts
			mounted[len(mounted)-1].MountPath = "/usr/local/bin"
		}), mounts},
		"a backup":            {job(func(_ *batchv1.Job, s *corev1.PodSpec) { s.Containers[0].Args[0] = "backup" }), arguments},
		"a file of the claim": {job(func(_ *batchv1.Job, s *corev1.PodSpec) { s.Containers[0].Args[2] = "/backups/restore.yaml" }), arguments},
		"a path": {job(func(_ *batchv1.Job, s *corev1.PodSpec) {
			s.Containers[0].Args[len(s.Containers[0].Args)-1] = "/backups/x.manifest.json"
		}), arguments},
		"the API server's token": {job(func(_ *batchv1.Job, s *corev1.PodSpec) { s.AutomountServiceAccountToken = new(true) }), apiToken},

		"an account of another name":   {account(func(a *corev1.ServiceAccount) { a.Name = "other-securenotes-restore" }), names},
		"an account of the object":     {account(func(a *corev1.ServiceAccount) { a.OwnerReferences[0].Kind = "SecureNotes" }), names},
		"an account of nobody":         {account(func(a *corev1.ServiceAccount) { a.OwnerReferences = nil }), names},
		"an account without label":     {account(func(a *corev1.ServiceAccount) { delete(a.Labels, operand.LabelManagedBy) }), owners},
		"an account with a role":       {account(func(a *corev1.ServiceAccount) { a.Annotations = map[string]string{"eks.amazonaws.com/role-arn": "x"} }), "may not add any to a ServiceAccount"},
		"a ConfigMap of another name":  {cm(func(c *corev1.ConfigMap) { c.Name = "kube-root-ca.crt" }), names},
		"a ConfigMap of nobody":        {cm(func(c *corev1.ConfigMap) { c.OwnerReferences = nil }), names},
		"a rotation that rewraps":      {rotation(func(kr *v1alpha1.KeyRotation) { kr.Spec.Strategy = v1alpha1.StrategyRewrap }), rotations},
		"a compromise":                 {rotation(func(kr *v1alpha1.KeyRotation) { kr.Spec.Reason = v1alpha1.RotationCompromise }), rotations},
		"a rotation of another name":   {rotation(func(kr *v1alpha1.KeyRotation) { kr.Name = sn.Name + "-29000000" }), rotations},
		"a restore":                    {restoreOf(sn, "x"), "cannot create resource"},
		"a rotation without an owner":  {rotation(func(kr *v1alpha1.KeyRotation) { kr.OwnerReferences = nil }), rotations},
		"a rotation of another object": {rotation(func(kr *v1alpha1.KeyRotation) { kr.Spec.SecureNotesRef.Name = "other" }), rotations},
	} {
		t.Run(name, func(t *testing.T) {
			if err := p.try(t.Context(), tc.object); err == nil || !strings.Contains(err.Error(), tc.want) {
				t.Errorf("not denied with %q: %v", tc.want, err)
			}
		})
	}
}

// testRestoreRequests: the operator may guard a NotesRestore and mark its end, and nothing else. It
// may scale a Deployment to 0, whatever image that has.
func (p *policed) testRestoreRequests(t *testing.T, sn *v1alpha1.SecureNotes) {
	nr := restoreOf(sn, "by-hand")
	nr.Finalizers, nr.Labels, nr.Annotations = []string{"example.com/held"}, map[string]string{"a": "b"}, map[string]string{"a": "b"}
	d := p.deployment(sn)
	d.Name = "older"
	d.Labels[operand.LabelInstance] = "older"
	d.Spec.Template.Spec.Containers[0].Image = "registry.example.com/earlier"
	for _, object := range []client.Object{nr, d} {
		if err := p.Create(t.Context(), object); err != nil {
			t.Fatal(err)
		}
	}
	annotated := func(key, value string) func(client.Object) {
		return func(o client.Object) { o.SetAnnotations(map[string]string{"a": "b", key: value}) }
	}
	scaled := func(replicas int32, change func(*corev1.Container)) func(client.Object) {
		return func(o client.Object) {
			spec := &o.(*appsv1.Deployment).Spec
			spec.Replicas = &replicas
			change(&spec.Template.Spec.Containers[0])
		}
	}
	same := func(*corev1.Container) {}
	for name, tc := range map[string]struct {
		object client.Object
		change func(client.Object)
		want   string
	}{
		"it has ended":                {nr, annotated(v1alpha1.AnnotationEnded, "by-hand"), ""},
		"it has started":              {nr, annotated(v1alpha1.AnnotationStarted, "by-hand"), ""},
		"it is guarded":               {nr, func(o client.Object) { o.SetFinalizers([]string{"example.com/held", v1alpha1.Finalizer}) }, ""},
		"it is held by others":        {nr, func(o client.Object) { o.SetFinalizers([]string{"example.com/held", "example.com/more"}) }, "may not change metadata.finalizers"},
		"it is released by others":    {nr, func(o client.Object) { o.SetFinalizers(nil) }, "may not change metadata.finalizers"},
		"it is annotated":             {nr, annotated("example.com/a", "x"), "may not change metadata.annotations"},
		"it is labelled":              {nr, func(o client.Object) { o.SetLabels(map[string]string{"a": "c"}) }, "may not change metadata.labels"},
		"it is adopted":               {nr, func(o client.Object) { o.SetOwnerReferences(p.rotation(sn, "x").OwnerReferences) }, "may not change metadata.ownerReferences"},
		"it stands still":             {d, scaled(0, same), ""},
		"it is scaled up":             {d, scaled(3, same), "image"},
		"it changes and stands still": {d, scaled(0, func(c *corev1.Container) { c.Image = "registry.example.com/another" }), "image"},
	} {
		t.Run(name, func(t *testing.T) {
			changed := tc.object.DeepCopyObject().(client.Object)
			tc.change(changed)
			p.verdict(t, p.operator.Patch(t.Context(), changed, client.MergeFrom(tc.object), client.DryRunAll), tc.want)
		})
	}
	p.verdict(t, p.operator.Delete(t.Context(), nr, client.DryRunAll), "cannot delete resource")
}
