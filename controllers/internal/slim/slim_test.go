package slim

import (
	"encoding/json"
	"fmt"
	"maps"
	"strings"
	"testing"
	"time"

	certmanagerv1 "github.com/cert-manager/cert-manager/pkg/apis/certmanager/v1"
	cmmeta "github.com/cert-manager/cert-manager/pkg/apis/meta/v1"
	"github.com/google/go-cmp/cmp"
	appsv1 "k8s.io/api/apps/v1"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/securenotes/securenotes/api/v1alpha1"
	"github.com/securenotes/securenotes/controllers/internal/operand"
)

// megabyte is the size of a text that a user may write into an object.
var megabyte = strings.Repeat("x", 1<<20)

func parent() *v1alpha1.SecureNotes {
	return &v1alpha1.SecureNotes{ObjectMeta: metav1.ObjectMeta{Name: "notes", UID: "parent"}}
}

// metadata returns the metadata of a child, as it is kept.
func metadata() metav1.ObjectMeta {
	labels := operand.Labels(parent(), operand.ComponentAPI)
	labels[batchv1.JobNameLabel], labels[v1alpha1.LabelScheduled] = "notes-rotate-v2-1", "true"
	return metav1.ObjectMeta{
		Name: "child", Namespace: "ns", UID: "uid", ResourceVersion: "7", Generation: 3, CreationTimestamp: metav1.Unix(100, 0), DeletionTimestamp: new(metav1.Unix(200, 0)),
		Labels: labels, Annotations: map[string]string{operand.AnnotationDeploymentID: "deployment", v1alpha1.AnnotationRetryRequestedAt: "now"},
		Finalizers:      []string{v1alpha1.Finalizer},
		OwnerReferences: []metav1.OwnerReference{{APIVersion: v1alpha1.GroupVersion.String(), Kind: "SecureNotes", Name: "notes", UID: "parent", Controller: new(true)}},
	}
}

// inflate enlarges everything that a user may write.
func inflate(m *metav1.ObjectMeta) {
	m.Labels, m.Annotations = maps.Clone(m.Labels), maps.Clone(m.Annotations)
	if m.Labels == nil {
		m.Labels, m.Annotations = map[string]string{}, map[string]string{}
	}
	m.GenerateName = megabyte
	for i := range 10_000 {
		m.Labels[fmt.Sprintf("somebody/%d", i)] = "value"
		m.Annotations[fmt.Sprintf("somebody/%d", i)] = "value"
		m.Annotations[fmt.Sprintf("securenotes.dev/z%d", i)] = "value"
		m.Finalizers = append(m.Finalizers, fmt.Sprintf("somebody/%d", i))
		m.OwnerReferences = append(m.OwnerReferences, metav1.OwnerReference{APIVersion: "v1", Kind: "ConfigMap", Name: fmt.Sprint(i), UID: "x"})
	}
	m.Annotations["securenotes.dev/a"] = megabyte
	m.ManagedFields = []metav1.ManagedFieldsEntry{{Manager: megabyte}}
}

// TestTransform: what the operator reads of each kind is kept, and nothing that makes it large.
func TestTransform(t *testing.T) {
	t.Parallel()
	at := metav1.Time{Time: time.Unix(300, 0)}
	terminated := corev1.ContainerState{Terminated: &corev1.ContainerStateTerminated{ExitCode: 3, Message: `{"reason":"KeyMismatch"}`, FinishedAt: at}}
	for name, tc := range map[string]struct {
		want client.Object
		// grow enlarges the fields of the kind. The metadata is enlarged for each kind.
		grow func(client.Object)
	}{
		"metadata alone": {want: &metav1.PartialObjectMetadata{ObjectMeta: metadata()}},
		"SecureNotes":    {want: &v1alpha1.SecureNotes{ObjectMeta: metadata(), Spec: v1alpha1.SecureNotesSpec{VaultConnection: "default"}, Status: v1alpha1.SecureNotesStatus{DeploymentID: "id"}}},
		"KeyRotation": {want: &v1alpha1.KeyRotation{
			ObjectMeta: metadata(), Spec: v1alpha1.KeyRotationSpec{Reason: v1alpha1.RotationCompromise},
			Status: v1alpha1.KeyRotationStatus{ToVersion: new(int64(2)), ReencryptJobUID: "job"},
		}},
		"Deployment": {
			want: &appsv1.Deployment{
				ObjectMeta: metadata(),
				Spec:       appsv1.DeploymentSpec{Template: corev1.PodTemplateSpec{ObjectMeta: metav1.ObjectMeta{Annotations: map[string]string{"securenotes.dev/session-keys": "session-keys-2"}}}},
				Status: appsv1.DeploymentStatus{ObservedGeneration: 3, Replicas: 2, UpdatedReplicas: 2, ReadyReplicas: 1, AvailableReplicas: 1, Conditions: []appsv1.DeploymentCondition{
					{Type: appsv1.DeploymentReplicaFailure, Status: corev1.ConditionTrue, Reason: "FailedCreate", Message: "exceeded quota"},
				}},
			},
			grow: func(o client.Object) {
				d := o.(*appsv1.Deployment)
				d.Spec.Template.Annotations["somebody/annotation"] = megabyte
				d.Spec.Template.Spec.Containers = []corev1.Container{{Name: megabyte}}
				d.Status.Conditions = append([]appsv1.DeploymentCondition{{Message: megabyte}}, d.Status.Conditions...)
			},
		},
		"Pod": {
			want: &corev1.Pod{ObjectMeta: metadata(), Status: corev1.PodStatus{
				Phase: corev1.PodRunning, PodIP: "10.0.0.2", HostIP: "192.0.2.1",
				Conditions:            []corev1.PodCondition{{Type: corev1.PodReady, Status: corev1.ConditionTrue}, {Type: corev1.PodScheduled, Status: corev1.ConditionFalse, Message: "no node"}},
				InitContainerStatuses: []corev1.ContainerStatus{{Name: "migrate", State: terminated}},
				ContainerStatuses: []corev1.ContainerStatus{{
					Name: "api", State: corev1.ContainerState{Waiting: &corev1.ContainerStateWaiting{Reason: "CrashLoopBackOff", Message: "back-off"}}, LastTerminationState: terminated,
				}},
			}},
			grow: func(o client.Object) {
				p := o.(*corev1.Pod)
				p.Spec.Containers = []corev1.Container{{Args: []string{megabyte}}}
				p.Status.Message = megabyte
				p.Status.Conditions = append(p.Status.Conditions, corev1.PodCondition{Type: "somebody's", Message: megabyte})
				p.Status.ContainerStatuses[0].ImageID = megabyte
				p.Status.PodIPs = []corev1.PodIP{{IP: megabyte}}
			},
		},
		"Job": {
			want: &batchv1.Job{ObjectMeta: metadata(), Status: batchv1.JobStatus{
				CompletionTime: &at, Succeeded: 1, Conditions: []batchv1.JobCondition{{Type: batchv1.JobSuspended, Status: corev1.ConditionFalse}, {Type: batchv1.JobComplete, Status: corev1.ConditionTrue}},
			}},
			grow: func(o client.Object) {
				j := o.(*batchv1.Job)
				j.Spec.Template.Spec.Containers = []corev1.Container{{Args: []string{megabyte}}}
				j.Status.CompletedIndexes = megabyte
				j.Status.UncountedTerminatedPods = &batchv1.UncountedTerminatedPods{Succeeded: []types.UID{types.UID(megabyte)}}
			},
		},
		"Certificate": {
			want: &certmanagerv1.Certificate{ObjectMeta: metadata(), Spec: certmanagerv1.CertificateSpec{DNSNames: []string{"notes", "notes.demo"}}, Status: certmanagerv1.CertificateStatus{
				NotAfter: &at, Revision: new(2), Conditions: []certmanagerv1.CertificateCondition{
					{Type: certmanagerv1.CertificateConditionReady, Status: cmmeta.ConditionFalse, Message: "pending"},
					{Type: certmanagerv1.CertificateConditionIssuing, Status: cmmeta.ConditionFalse, Message: "denied", LastTransitionTime: &at},
				},
			}},
			grow: func(o client.Object) {
				c := o.(*certmanagerv1.Certificate)
				c.Spec.DNSNames = append(c.Spec.DNSNames, megabyte, "notes.demo.svc")
				c.Status.Conditions = append(c.Status.Conditions, certmanagerv1.CertificateCondition{Type: "somebody's", Message: megabyte})
			},
		},
		"Issuer": {
			want: &certmanagerv1.Issuer{ObjectMeta: metadata(), Status: certmanagerv1.IssuerStatus{
				Conditions: []certmanagerv1.IssuerCondition{{Type: certmanagerv1.IssuerConditionReady, Status: cmmeta.ConditionFalse, Message: "sealed"}},
			}},
			grow: func(o client.Object) {
				i := o.(*certmanagerv1.Issuer)
				i.Spec.SelfSigned = &certmanagerv1.SelfSignedIssuer{CRLDistributionPoints: []string{megabyte}}
				i.Status.Conditions = append(i.Status.Conditions, certmanagerv1.IssuerCondition{Type: "somebody's", Message: megabyte})
			},
		},
	} {
		t.Run(name, func(t *testing.T) {
			large := tc.want.DeepCopyObject().(client.Object)
			meta := metadata()
			inflate(&meta)
			large.SetLabels(meta.Labels)
			large.SetAnnotations(meta.Annotations)
			large.SetFinalizers(meta.Finalizers)
			large.SetOwnerReferences(meta.OwnerReferences)
			large.SetManagedFields(meta.ManagedFields)
			large.SetGenerateName(meta.GenerateName)
			if tc.grow != nil {
				tc.grow(large)
			}
			for range 2 { // the cache may apply it twice
				if _, err := Transform(large); err != nil {
					t.Fatal(err)
				}
			}
			raw, err := json.Marshal(large)
			if err != nil {
				t.Fatal(err)
			}
			if len(raw) > 8<<10 {
				t.Errorf("%d bytes are kept", len(raw))
			}
			for key := range large.GetAnnotations() {
				if strings.HasPrefix(key, "securenotes.dev/z") {
					large = large.DeepCopyObject().(client.Object)
					delete(large.GetAnnotations(), key) // within the bound, and read by nobody
				}
			}
			if diff := cmp.Diff(tc.want, large); diff != "" {
				t.Error(diff)
			}
		})
	}
}

// TestOversizedStaysMarked: annotations of others do not displace the mark of a dropped field.
func TestOversizedStaysMarked(t *testing.T) {
	t.Parallel()
	sn := parent()
	sn.Spec.PodTemplate = &v1alpha1.PodTemplate{Tolerations: []corev1.Toleration{{Key: megabyte}}}
	inflate(&sn.ObjectMeta)
	for range 2 {
		if _, err := Transform(sn); err != nil {
			t.Fatal(err)
		}
		if sn.Spec.PodTemplate.Tolerations != nil || operand.CheckResources(sn) == nil {
			t.Errorf("got %+v, want no tolerations, and resources that are refused", sn)
		}
	}
}

// TestTransformCuts: a name that is too long for any object is truncated, and does not match
// another name.
func TestTransformCuts(t *testing.T) {
	t.Parallel()
	object := &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{OwnerReferences: []metav1.OwnerReference{
		{APIVersion: "v1", Kind: megabyte, Name: megabyte, UID: types.UID("parent" + megabyte), Controller: new(true)},
	}}}
	if _, err := Transform(object); err != nil {
		t.Fatal(err)
	}
	if got := metav1.GetControllerOf(object); got == nil || len(got.Kind)+len(got.Name)+len(got.UID) != 3*maxText || metav1.IsControlledBy(object, parent()) {
		t.Errorf("got owner %+v, want one cut to %d bytes a field that is not the parent", got, maxText)
	}
}

// TestTransformCutsRequests: a request that is too long must not look like no request.
func TestTransformCutsRequests(t *testing.T) {
	t.Parallel()
	object := &v1alpha1.SecureNotes{ObjectMeta: metav1.ObjectMeta{Annotations: map[string]string{
		v1alpha1.AnnotationRotateRequestedAt: megabyte, operand.AnnotationDeploymentID: megabyte,
	}}}
	if _, err := Transform(object); err != nil {
		t.Fatal(err)
	}
	want := map[string]string{v1alpha1.AnnotationRotateRequestedAt: megabyte[:maxText]}
	if !maps.Equal(object.Annotations, want) {
		t.Errorf("annotations %v, want %v", object.Annotations, want)
	}
}

// TestTransformKeepsRequests: what users say with an annotation reaches the operator.
func TestTransformKeepsRequests(t *testing.T) {
	t.Parallel()
	want := map[string]string{
		v1alpha1.AnnotationRotateRequestedAt: "now", v1alpha1.AnnotationBackupRequestedAt: "now", v1alpha1.AnnotationRetryRequestedAt: "now",
		v1alpha1.AnnotationAbandonVault: "true", v1alpha1.AnnotationAcceptEmptyDatabase: "id",
		v1alpha1.AnnotationTrimDespiteBackups: "3", v1alpha1.AnnotationDeleteDespiteBackups: "true",
	}
	object := &v1alpha1.SecureNotes{ObjectMeta: metav1.ObjectMeta{Annotations: maps.Clone(want)}}
	if _, err := Transform(object); err != nil {
		t.Fatal(err)
	}
	if !maps.Equal(object.Annotations, want) {
		t.Errorf("annotations %v, want %v", object.Annotations, want)
	}
}

// TestTransformCutsWords: the message of a waiting container is kept, and bounded.
func TestTransformCutsWords(t *testing.T) {
	t.Parallel()
	pod := &corev1.Pod{Status: corev1.PodStatus{
		PodIP: megabyte, HostIP: megabyte,
		ContainerStatuses: []corev1.ContainerStatus{{State: corev1.ContainerState{Waiting: &corev1.ContainerStateWaiting{Reason: megabyte, Message: megabyte}}}},
	}}
	if _, err := Transform(pod); err != nil {
		t.Fatal(err)
	}
	w := pod.Status.ContainerStatuses[0].State.Waiting
	if len(w.Message) != maxWaiting || len(w.Reason)+len(pod.Status.PodIP)+len(pod.Status.HostIP) != 3*maxText {
		t.Errorf("%d and %d bytes are kept", len(w.Message), len(w.Reason))
	}
}
