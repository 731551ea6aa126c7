package securenotes

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	certmanagerv1 "github.com/cert-manager/cert-manager/pkg/apis/certmanager/v1"
	cmmeta "github.com/cert-manager/cert-manager/pkg/apis/meta/v1"
	appsv1 "k8s.io/api/apps/v1"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/tools/events"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/interceptor"

	"github.com/securenotes/securenotes/api/v1alpha1"
	"github.com/securenotes/securenotes/controllers/internal/cause"
	"github.com/securenotes/securenotes/controllers/internal/operand"
)

// refused returns a Deployment whose pods the API server refuses.
func refused(words string) *appsv1.Deployment {
	d := &appsv1.Deployment{ObjectMeta: metav1.ObjectMeta{Name: "notes"}}
	d.Status.Conditions = []appsv1.DeploymentCondition{{Type: appsv1.DeploymentReplicaFailure, Status: corev1.ConditionTrue, Reason: "FailedCreate", Message: words}}
	return d
}

func serving(p *corev1.Pod) {
	migrated(p)
	p.Status.ContainerStatuses = []corev1.ContainerStatus{{Name: operand.APIContainer, State: corev1.ContainerState{Running: &corev1.ContainerStateRunning{}}}}
}

func outOfMemory(p *corev1.Pod) {
	p.Status.InitContainerStatuses = []corev1.ContainerStatus{{Name: operand.MigrateContainer, State: corev1.ContainerState{
		Terminated: &corev1.ContainerStateTerminated{ExitCode: 137, Reason: "OOMKilled"},
	}}}
}

func answering(words string) cause.Lookup {
	return cause.Lookup{Now: func() time.Time { return now }, Readyz: func(*corev1.Pod) string { return words }}
}

// TestReadyTellsTheCause checks for each cause what a person sees: the reason of Ready, the
// condition that it comes from, the next step, and a Warning event. DatabaseReady is named only if
// the database is at fault.
func TestReadyTellsTheCause(t *testing.T) {
	t.Parallel()
	pending := &corev1.PersistentVolumeClaim{ObjectMeta: metav1.ObjectMeta{Name: "notes-data", CreationTimestamp: metav1.NewTime(now.Add(-time.Minute))}}
	pending.Status.Phase = corev1.ClaimPending
	unprovided := cause.Lookup{Now: func() time.Time { return now }, Events: func(client.Object) []corev1.Event {
		return []corev1.Event{{Reason: "ProvisioningFailed", Message: `storageclass.storage.k8s.io "fast" not found`, LastTimestamp: metav1.NewTime(now)}}
	}}
	denied := &certmanagerv1.Certificate{ObjectMeta: metav1.ObjectMeta{Name: "notes-tls"}, Status: certmanagerv1.CertificateStatus{Conditions: []certmanagerv1.CertificateCondition{
		{Type: certmanagerv1.CertificateConditionIssuing, Status: cmmeta.ConditionFalse, Reason: "Failed", Message: "the common name is not allowed"},
	}}}
	for name, tc := range map[string]struct {
		deployment            *appsv1.Deployment
		pods                  []corev1.Pod
		lookup                cause.Lookup
		claim                 *corev1.PersistentVolumeClaim
		certificate           *certmanagerv1.Certificate
		about, reason, wanted string
	}{
		"a quota": {deployment: refused(`pods "x" is forbidden: exceeded quota: small, requested: pods=1, used: pods=0, limited: pods=0`),
			about: v1alpha1.ConditionWorkloadReady, reason: v1alpha1.ReasonQuotaExceeded, wanted: "raise the ResourceQuota"},
		"a missing priority class": {deployment: refused(`pods "x" is forbidden: no PriorityClass with name vip was found`),
			about: v1alpha1.ConditionWorkloadReady, reason: v1alpha1.ReasonPriorityClassNotFound, wanted: "create the PriorityClass"},
		"a quota, and an old pod without database": {deployment: refused("exceeded quota"), pods: []corev1.Pod{pod(time.Hour, unschedulable)},
			about: v1alpha1.ConditionWorkloadReady, reason: v1alpha1.ReasonQuotaExceeded, wanted: "raise the ResourceQuota"},
		"no node": {pods: []corev1.Pod{pod(time.Minute, unschedulable)},
			about: v1alpha1.ConditionWorkloadReady, reason: v1alpha1.ReasonUnschedulable, wanted: "kubectl describe pod"},
		"too little memory": {pods: []corev1.Pod{pod(time.Minute, outOfMemory)},
			about: v1alpha1.ConditionWorkloadReady, reason: v1alpha1.ReasonOOMKilled, wanted: "raise limits.memory"},
		"the service reports Vault": {pods: []corev1.Pod{pod(time.Minute, serveFails("VaultSealed"))},
			about: v1alpha1.ConditionWorkloadReady, reason: v1alpha1.ReasonVaultSealed, wanted: "words"},
		"the service reports the database": {pods: []corev1.Pod{pod(time.Minute, migrateFails("DatabaseUnreachable"))},
			about: v1alpha1.ConditionDatabaseReady, reason: "DatabaseUnreachable", wanted: "words"},
		"/readyz reports a fault": {pods: []corev1.Pod{pod(time.Minute, serving)}, lookup: answering("the audit log cannot be written"),
			about: v1alpha1.ConditionWorkloadReady, reason: v1alpha1.ReasonNotReady, wanted: "the audit log cannot be written"},
		"/readyz reports the database": {pods: []corev1.Pod{pod(time.Minute, serving)}, lookup: answering("DatabaseUnreachable: connection refused"),
			about: v1alpha1.ConditionDatabaseReady, reason: "DatabaseUnreachable", wanted: "connection refused"},
		"a volume": {pods: []corev1.Pod{pod(time.Minute, unschedulable)}, lookup: unprovided, claim: pending,
			about: v1alpha1.ConditionDatabaseReady, reason: v1alpha1.ReasonVolumePending, wanted: "create that StorageClass"},
		"a certificate": {certificate: denied,
			about: v1alpha1.ConditionCertificateReady, reason: v1alpha1.ReasonIssuanceFailed, wanted: "cmctl renew"},
	} {
		t.Run(name, func(t *testing.T) {
			s := healthy()
			if s.deployment = tc.deployment; s.deployment == nil {
				s.deployment = &appsv1.Deployment{}
			}
			s.databaseFinding, s.workloadFinding = finding{}, finding{}
			if tc.claim != nil {
				s.databaseFinding = claimFinding(tc.claim, tc.lookup, now)
			}
			if tc.certificate != nil {
				s.certificateFinding = certificateFinding(cause.OfCertificate(tc.certificate, nil, now, now), nil)
			}
			s.report = new(readPods(tc.pods, tc.lookup, now))
			s.sn.Status = computeStatus(s)

			ready := meta.FindStatusCondition(s.sn.Status.Conditions, v1alpha1.ConditionReady)
			if ready.Status != metav1.ConditionFalse || ready.Reason != tc.reason ||
				!strings.HasPrefix(ready.Message, tc.about+": ") || !strings.Contains(ready.Message, tc.wanted) {
				t.Errorf("Ready=%s %s: %s", ready.Status, ready.Reason, ready.Message)
			}
			r := reconciler(t, &fakeVault{})
			r.announce(t.Context(), s, s.sn.Status.Conditions)
			close(r.Recorder.(*events.FakeRecorder).Events)
			warned := false
			for event := range r.Recorder.(*events.FakeRecorder).Events {
				warned = warned || strings.HasPrefix(event, "Warning "+tc.reason+" ") && strings.Contains(event, tc.wanted)
			}
			if !warned {
				t.Errorf("no Warning event says %s", tc.reason)
			}
		})
	}
}

// TestBlockedRotationIsNotHealthy: KeyRotationHealthy reports a rotation that waits for a person,
// also if another one waits for its turn.
func TestBlockedRotationIsNotHealthy(t *testing.T) {
	t.Parallel()
	waiting := func(name, reason string) v1alpha1.KeyRotation {
		return v1alpha1.KeyRotation{
			ObjectMeta: metav1.ObjectMeta{Name: name},
			Status: v1alpha1.KeyRotationStatus{Conditions: []metav1.Condition{
				{Type: v1alpha1.ConditionReconciling, Status: metav1.ConditionTrue, Reason: reason, Message: "words"},
			}},
		}
	}
	for name, tc := range map[string]struct {
		list   []v1alpha1.KeyRotation
		status metav1.ConditionStatus
		reason string
	}{
		"running":           {list: []v1alpha1.KeyRotation{waiting("a", v1alpha1.ReasonReencrypting)}, status: metav1.ConditionTrue, reason: v1alpha1.ReasonRotating},
		"queued":            {list: []v1alpha1.KeyRotation{waiting("a", v1alpha1.ReasonQueued)}, status: metav1.ConditionTrue, reason: v1alpha1.ReasonRotating},
		"new":               {list: []v1alpha1.KeyRotation{{ObjectMeta: metav1.ObjectMeta{Name: "a"}}}, status: metav1.ConditionTrue, reason: v1alpha1.ReasonRotating},
		"over quota":        {list: []v1alpha1.KeyRotation{waiting("a", v1alpha1.ReasonQuotaExceeded), waiting("b", v1alpha1.ReasonQueued)}, status: metav1.ConditionFalse, reason: v1alpha1.ReasonQuotaExceeded},
		"Vault is sealed":   {list: []v1alpha1.KeyRotation{waiting("a", v1alpha1.ReasonVaultSealed)}, status: metav1.ConditionFalse, reason: v1alpha1.ReasonVaultSealed},
		"a running sidecar": {list: []v1alpha1.KeyRotation{waiting("b", v1alpha1.ReasonQueued), waiting("a", v1alpha1.ReasonSidecarRunning)}, status: metav1.ConditionFalse, reason: v1alpha1.ReasonSidecarRunning},
		"service not ready": {list: []v1alpha1.KeyRotation{waiting("a", v1alpha1.ReasonSecureNotesNotReady)}, status: metav1.ConditionTrue, reason: v1alpha1.ReasonRotating},
	} {
		t.Run(name, func(t *testing.T) {
			got, _ := rotationState(&v1alpha1.SecureNotes{}, tc.list)
			if got.status != tc.status || got.reason != tc.reason {
				t.Errorf("got %+v, want %s %s", got, tc.status, tc.reason)
			}
			if got.status == metav1.ConditionFalse && !strings.Contains(got.message, "KeyRotation a is blocked: words") {
				t.Error(got.message)
			}
		})
	}
}

// TestQuotaRefusesAVerification: while a verification cannot run, old versions stay and the
// condition says why. The service is not affected.
func TestQuotaRefusesAVerification(t *testing.T) {
	t.Parallel()
	vault := &fakeVault{}
	r := reconciler(t, vault)
	r.Client = interceptor.NewClient(r.Client.(client.WithWatch), interceptor.Funcs{
		Create: func(context.Context, client.WithWatch, client.Object, ...client.CreateOption) error {
			return apierrors.NewForbidden(batchv1.Resource("jobs"), "notes-retire-v2-1", errors.New("exceeded quota: small"))
		},
	})
	s := healthy(dueAt(2))
	if err := retireAndTrim(t.Context(), r, s); err != nil {
		t.Fatal(err)
	}
	status := computeStatus(s)
	rotations := meta.FindStatusCondition(status.Conditions, v1alpha1.ConditionKeyRotationHealthy)
	if rotations.Status != metav1.ConditionFalse || rotations.Reason != v1alpha1.ReasonQuotaExceeded || !strings.Contains(rotations.Message, "raise the ResourceQuota") {
		t.Errorf("got %+v, want False and %s with what to do", rotations, v1alpha1.ReasonQuotaExceeded)
	}
	if !meta.IsStatusConditionTrue(status.Conditions, v1alpha1.ConditionReady) || vault.floor != 0 || s.requeue.after == 0 {
		t.Errorf("floor %d, again in %s: %+v", vault.floor, s.requeue.after, status.Conditions)
	}
}
