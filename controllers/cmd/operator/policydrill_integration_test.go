//go:build integration

package main

import (
	"strings"
	"testing"
	"time"

	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/securenotes/securenotes/api/v1alpha1"
	"github.com/securenotes/securenotes/app/config"
	"github.com/securenotes/securenotes/controllers/internal/operand"
)

// drillObjects returns what the operator creates for the drills of a SecureNotes with spec.backup.
func (p *policed) drillObjects(t *testing.T, sn *v1alpha1.SecureNotes) []client.Object {
	t.Helper()
	if sn.Spec.Backup == nil {
		return nil
	}
	drilled := sn.DeepCopy()
	drilled.Spec.Backup.Drill = &v1alpha1.BackupDrill{Storage: &v1alpha1.DrillStorage{Size: "2Gi", StorageClassName: "fast"}}
	drilled.Status.Backup = &v1alpha1.BackupStatus{Drill: &v1alpha1.DrillStatus{Identities: []v1alpha1.DrillIdentity{{
		Entry: "drill-aaaaaaaaaaaaaaaa", Recipient: testRecipient, KeyVersion: 1, Since: metav1.NewTime(time.Now()),
	}}}}
	cm, err := operand.DrillConfigMap(drilled, p.env)
	if err != nil {
		t.Fatal(err)
	}
	return []client.Object{cm, p.drillJob(drilled), p.drillJob(sn)}
}

func (p *policed) drillJob(sn *v1alpha1.SecureNotes) *batchv1.Job {
	return operand.DrillJob(sn, p.env, operand.DrillJobName(sn.Name, time.Now()), resource.Quantity{})
}

// testDrillEscapes tries what somebody who takes over the operator would with a drill.
func (p *policed) testDrillEscapes(t *testing.T, sn *v1alpha1.SecureNotes) {
	const (
		denied    = "denied request" // by both policies
		accounts  = "serviceAccountName must be"
		volumes   = "volumes may only be Secrets"
		mounts    = "must mount each volume where the program reads it"
		arguments = "args must be those that the operator sets"
		names     = "only objects with its own names"
	)
	claim := func(s *corev1.PodSpec) *corev1.PersistentVolumeClaimTemplate {
		return s.Volumes[len(s.Volumes)-1].Ephemeral.VolumeClaimTemplate
	}
	for name, tc := range map[string]struct {
		change func(*batchv1.Job, *corev1.PodSpec)
		want   string
	}{
		"another name":                     {func(j *batchv1.Job, _ *corev1.PodSpec) { j.Name = "other-drill-1" }, names},
		"a name without a number":          {func(j *batchv1.Job, _ *corev1.PodSpec) { j.Name = sn.Name + "-drill-x" }, denied},
		"the account of backups":           {func(_ *batchv1.Job, s *corev1.PodSpec) { s.ServiceAccountName = operand.BackupServiceAccount(sn.Name) }, accounts},
		"the account of a drill elsewhere": {func(j *batchv1.Job, _ *corev1.PodSpec) { j.Name = operand.VerifyJobName(sn.Name, 2, 1) }, accounts},
		"the database": {func(_ *batchv1.Job, s *corev1.PodSpec) {
			s.Volumes = append(s.Volumes, corev1.Volume{Name: "data", VolumeSource: corev1.VolumeSource{PersistentVolumeClaim: &corev1.PersistentVolumeClaimVolumeSource{ClaimName: operand.ClaimName(sn.Name)}}})
		}, volumes},
		"the database as destination": {func(_ *batchv1.Job, s *corev1.PodSpec) {
			for i := range s.Volumes {
				if s.Volumes[i].Name == "backups" {
					s.Volumes[i].PersistentVolumeClaim.ClaimName = operand.ClaimName(sn.Name)
				}
			}
		}, volumes},
		"another claim": {func(_ *batchv1.Job, s *corev1.PodSpec) {
			s.Volumes = append(s.Volumes, corev1.Volume{Name: "data", VolumeSource: corev1.VolumeSource{PersistentVolumeClaim: &corev1.PersistentVolumeClaimVolumeSource{ClaimName: "payments"}}})
		}, volumes},
		"the configuration of the API": {func(_ *batchv1.Job, s *corev1.PodSpec) { s.Volumes[0].ConfigMap.Name = operand.ConfigMapName(sn.Name) }, volumes},
		"a volume that exists":         {func(_ *batchv1.Job, s *corev1.PodSpec) { claim(s).Spec.VolumeName = "pv-of-others" }, volumes},
		"a copy of another volume": {func(_ *batchv1.Job, s *corev1.PodSpec) {
			claim(s).Spec.DataSource = &corev1.TypedLocalObjectReference{Kind: "PersistentVolumeClaim", Name: "payments"}
		}, volumes},
		"a selected volume": {func(_ *batchv1.Job, s *corev1.PodSpec) {
			claim(s).Spec.Selector = &metav1.LabelSelector{MatchLabels: map[string]string{"a": "b"}}
		}, volumes},
		"annotations of the claim": {func(_ *batchv1.Job, s *corev1.PodSpec) { claim(s).Annotations = map[string]string{"a": "b"} }, volumes},
		"the volume over the program": {func(_ *batchv1.Job, s *corev1.PodSpec) {
			mounted := s.Containers[0].VolumeMounts
			mounted[len(mounted)-1].MountPath = "/usr/local/bin"
		}, mounts},
		"a backup":  {func(_ *batchv1.Job, s *corev1.PodSpec) { s.Containers[0].Args = s.Containers[0].Args[1:] }, arguments},
		"a restore": {func(_ *batchv1.Job, s *corev1.PodSpec) { s.Containers[0].Args[0] = "restore" }, arguments},
		"a new volume in another Job": {func(j *batchv1.Job, s *corev1.PodSpec) {
			j.Name = operand.VerifyJobName(sn.Name, 2, 1)
			s.ServiceAccountName, s.Volumes = operand.RotationServiceAccount(sn.Name), s.Volumes[len(s.Volumes)-1:]
			c := &s.Containers[0]
			c.VolumeMounts = c.VolumeMounts[len(c.VolumeMounts)-1:]
			j.Labels[operand.LabelComponent], j.Spec.Template.Labels[operand.LabelComponent] = operand.ComponentVerify, operand.ComponentVerify
			c.Args = config.Rotation{ToVersion: 2, Strategy: "Rewrap"}.VerifyArgs()
		}, volumes},
	} {
		t.Run(name, func(t *testing.T) {
			job := p.drillJob(sn)
			tc.change(job, &job.Spec.Template.Spec)
			if err := p.try(t.Context(), job); err == nil || !strings.Contains(err.Error(), tc.want) {
				t.Errorf("not denied with %q: %v", tc.want, err)
			}
		})
	}
	t.Run("a ConfigMap of another SecureNotes", func(t *testing.T) {
		cm := &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Namespace: sn.Namespace, Name: "other-drill", Labels: operand.Labels(sn, operand.ComponentDrill)}}
		if err := p.try(t.Context(), cm); err == nil || !strings.Contains(err.Error(), names) {
			t.Errorf("not denied with %q: %v", names, err)
		}
	})
}
