//go:build integration

package main

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	certmanagerv1 "github.com/cert-manager/cert-manager/pkg/apis/certmanager/v1"
	cmmeta "github.com/cert-manager/cert-manager/pkg/apis/meta/v1"
	appsv1 "k8s.io/api/apps/v1"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/securenotes/securenotes/api/v1alpha1"
	"github.com/securenotes/securenotes/controllers/internal/operand"
)

// These tests show that the conditions report what the API server and other controllers report of
// pods, Jobs and the certificate, with the next step and a Warning event. The messages of the API
// server are real. The tests write them where the controllers would, which do not run here.

// quota allows none of what it names, and plays the controller that says so.
func (c *cluster) quota(t *testing.T, namespace string, of corev1.ResourceName) *corev1.ResourceQuota {
	t.Helper()
	none := corev1.ResourceList{of: resource.MustParse("0")}
	quota := &corev1.ResourceQuota{ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: "none"}, Spec: corev1.ResourceQuotaSpec{Hard: none}}
	if err := c.Create(t.Context(), quota); err != nil {
		t.Fatal(err)
	}
	quota.Status = corev1.ResourceQuotaStatus{Hard: none, Used: none}
	if err := c.Status().Update(t.Context(), quota); err != nil {
		t.Fatal(err)
	}
	return quota
}

// refusal returns the API server's error for a pod of the template.
func (c *cluster) refusal(t *testing.T, namespace, name string, template corev1.PodTemplateSpec) string {
	t.Helper()
	words := ""
	// The API server reads a quota through a watch.
	await(t, "the refusal of a pod of "+name, func() string {
		pod := &corev1.Pod{
			ObjectMeta: metav1.ObjectMeta{Namespace: namespace, GenerateName: name + "-", Labels: map[string]string{"app": "trial"}},
			Spec:       *template.Spec.DeepCopy(),
		}
		err := c.Create(context.Background(), pod)
		if err != nil {
			words = err.Error()
			return ""
		}
		if err := c.Delete(context.Background(), pod, client.GracePeriodSeconds(0)); err != nil {
			return err.Error()
		}
		return "the API server took it"
	})
	return words
}

// refuse plays the Deployment controller, which cannot create pods.
func (c *cluster) refuse(t *testing.T, namespace, name string) {
	t.Helper()
	key := client.ObjectKey{Namespace: namespace, Name: name}
	deployment := &appsv1.Deployment{}
	await(t, "the Deployment", func() string { return text(c.Get(context.Background(), key, deployment)) })
	words := c.refusal(t, namespace, name, deployment.Spec.Template)
	await(t, "the status of the Deployment", func() string {
		if err := c.Get(context.Background(), key, deployment); err != nil {
			return err.Error()
		}
		deployment.Status = appsv1.DeploymentStatus{ObservedGeneration: deployment.Generation, Conditions: []appsv1.DeploymentCondition{
			{Type: appsv1.DeploymentReplicaFailure, Status: corev1.ConditionTrue, Reason: "FailedCreate", Message: words},
		}}
		return text(c.Status().Update(context.Background(), deployment))
	})
}

// awaitWarning waits for a Warning event about an object.
func (c *cluster) awaitWarning(t *testing.T, about client.Object, reason string) {
	t.Helper()
	await(t, "a Warning event "+reason, func() string {
		list := &corev1.EventList{}
		err := c.List(context.Background(), list, client.InNamespace(about.GetNamespace()), client.MatchingFields{
			"involvedObject.uid": string(about.GetUID()), "type": corev1.EventTypeWarning, "reason": reason,
		})
		if err != nil {
			return err.Error()
		}
		if len(list.Items) == 0 {
			return "there is none"
		}
		return ""
	})
}

func mustContain(t *testing.T, message string, wanted ...string) {
	t.Helper()
	for _, part := range wanted {
		if !strings.Contains(message, part) {
			t.Errorf("it does not contain %q: %s", part, message)
		}
	}
}

func TestQuotaOfPods(t *testing.T) {
	t.Parallel()
	c, namespace := shared(t)
	sn := postgresNotes(namespace, "notes")
	c.namespace(t, sn.Namespace)
	quota := c.quota(t, sn.Namespace, corev1.ResourcePods)
	if err := c.Create(t.Context(), sn); err != nil {
		t.Fatal(err)
	}
	c.issue(t, sn.Namespace, sn.Name)
	c.refuse(t, sn.Namespace, sn.Name)
	message := c.awaitCondition(t, sn.Namespace, sn.Name, v1alpha1.ConditionReady, metav1.ConditionFalse, v1alpha1.ReasonQuotaExceeded)
	mustContain(t, message, "WorkloadReady: ", "exceeded quota: none", "raise the ResourceQuota")
	c.awaitWarning(t, sn, v1alpha1.ReasonQuotaExceeded)
	if err := c.Delete(t.Context(), quota); err != nil {
		t.Fatal(err)
	}
	c.awaitReady(t, sn.Namespace, sn.Name)
}

func TestMissingPriorityClass(t *testing.T) {
	t.Parallel()
	c, namespace := shared(t)
	sn := postgresNotes(namespace, "notes")
	sn.Spec.PodTemplate = &v1alpha1.PodTemplate{PriorityClassName: "vip"}
	c.namespace(t, sn.Namespace)
	if err := c.Create(t.Context(), sn); err != nil {
		t.Fatal(err)
	}
	c.issue(t, sn.Namespace, sn.Name)
	c.refuse(t, sn.Namespace, sn.Name)
	message := c.awaitCondition(t, sn.Namespace, sn.Name, v1alpha1.ConditionReady, metav1.ConditionFalse, v1alpha1.ReasonPriorityClassNotFound)
	mustContain(t, message, "no PriorityClass with name vip", "create the PriorityClass, or correct spec.podTemplate.priorityClassName")
	c.awaitWarning(t, sn, v1alpha1.ReasonPriorityClassNotFound)
}

// TestQuotaOfJobPods: only an event says that the pods of a Job are refused.
func TestQuotaOfJobPods(t *testing.T) {
	t.Parallel()
	c, namespace := shared(t)
	sn := postgresNotes(namespace, "notes")
	c.ready(t, sn)
	kr := rotationOf(sn, "rotation")
	c.rotating(t, kr)
	job := c.awaitJob(t, sn.Namespace, "notes-rotate-v2-1")
	quota := c.quota(t, sn.Namespace, corev1.ResourcePods)
	now := metav1.Now()
	event := &corev1.Event{
		ObjectMeta:     metav1.ObjectMeta{Namespace: sn.Namespace, Name: "notes-rotate-v2-1.1"},
		InvolvedObject: corev1.ObjectReference{APIVersion: "batch/v1", Kind: "Job", Namespace: sn.Namespace, Name: job.Name, UID: job.UID},
		Type:           corev1.EventTypeWarning, Reason: "FailedCreate", FirstTimestamp: now, LastTimestamp: now, Count: 1,
		Message: "Error creating: " + c.refusal(t, sn.Namespace, job.Name, job.Spec.Template),
	}
	if err := c.Create(t.Context(), event); err != nil {
		t.Fatal(err)
	}
	c.awaitBlocked(t, kr, v1alpha1.ReasonQuotaExceeded, "the pods of Job notes-rotate-v2-1: exceeded quota: none", "raise the ResourceQuota")
	c.awaitWarning(t, kr, v1alpha1.ReasonQuotaExceeded)
	message := c.awaitCondition(t, sn.Namespace, sn.Name, v1alpha1.ConditionKeyRotationHealthy, metav1.ConditionFalse, v1alpha1.ReasonQuotaExceeded)
	mustContain(t, message, "KeyRotation rotation is blocked: ", "raise the ResourceQuota")
	c.awaitWarning(t, sn, v1alpha1.ReasonQuotaExceeded)
	if err := c.Delete(t.Context(), quota); err != nil {
		t.Fatal(err)
	}

	// The next Job has finished its work, and a sidecar keeps its pod running.
	c.finishJob(t, sn.Namespace, job.Name)
	c.awaitState(t, kr, v1alpha1.ReasonVerifying)
	verification := c.awaitJob(t, sn.Namespace, "notes-verify-v2-1")
	template := verification.Spec.Template
	pod := &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{
			Namespace: sn.Namespace, Name: verification.Name + "-0-x", Labels: template.Labels,
			OwnerReferences: []metav1.OwnerReference{*metav1.NewControllerRef(verification, batchv1.SchemeGroupVersion.WithKind("Job"))},
		},
		Spec: *template.Spec.DeepCopy(),
	}
	pod.Spec.Containers = append(pod.Spec.Containers, corev1.Container{Name: "proxy", Image: "proxy"})
	if err := c.Create(t.Context(), pod); err != nil {
		t.Fatal(err)
	}
	pod.Status.Phase = corev1.PodRunning
	pod.Status.ContainerStatuses = []corev1.ContainerStatus{
		{Name: operand.JobContainer, State: corev1.ContainerState{Terminated: &corev1.ContainerStateTerminated{FinishedAt: metav1.NewTime(now.Add(-time.Minute))}}},
		{Name: "proxy", State: corev1.ContainerState{Running: &corev1.ContainerStateRunning{StartedAt: now}}},
	}
	if err := c.Status().Update(t.Context(), pod); err != nil {
		t.Fatal(err)
	}
	c.awaitBlocked(t, kr, v1alpha1.ReasonSidecarRunning, "other containers of pod "+pod.Name+" still run (proxy)", "then delete the Job")
	c.finishJob(t, sn.Namespace, verification.Name)
	c.awaitState(t, kr, v1alpha1.ReasonComplete)
}

// awaitBlocked waits until a rotation says why it is blocked.
func (c *cluster) awaitBlocked(t *testing.T, kr *v1alpha1.KeyRotation, reason string, wanted ...string) {
	t.Helper()
	c.awaitRotation(t, kr, reason, func() string {
		condition := meta.FindStatusCondition(kr.Status.Conditions, v1alpha1.ConditionReconciling)
		if condition == nil || condition.Reason != reason {
			return fmt.Sprintf("%+v", kr.Status.Conditions)
		}
		mustContain(t, condition.Message, wanted...)
		return ""
	})
}

// TestQuotaOfJobs: a Compromise has its new accounts, and no Job.
func TestQuotaOfJobs(t *testing.T) {
	t.Parallel()
	c, namespace := shared(t)
	sn := postgresNotes(namespace, "notes")
	c.ready(t, sn)
	quota := c.quota(t, sn.Namespace, "count/jobs.batch")
	// The API server reads the quota through a watch.
	await(t, "the quota", func() string {
		trial := &batchv1.Job{ObjectMeta: metav1.ObjectMeta{Namespace: sn.Namespace, GenerateName: "trial-"}, Spec: batchv1.JobSpec{
			Suspend: new(true), Template: corev1.PodTemplateSpec{Spec: corev1.PodSpec{RestartPolicy: corev1.RestartPolicyNever, Containers: []corev1.Container{{Name: "c", Image: "i"}}}},
		}}
		if err := c.Create(context.Background(), trial); err != nil {
			return ""
		}
		return "a Job was accepted: " + text(c.Delete(context.Background(), trial))
	})
	kr := rotationOf(sn, "urgent")
	kr.Spec.Reason = v1alpha1.RotationCompromise
	if err := c.Create(t.Context(), kr); err != nil {
		t.Fatal(err)
	}
	c.awaitBlocked(t, kr, v1alpha1.ReasonQuotaExceeded, "count/jobs.batch", "raise the ResourceQuota")
	if !meta.IsStatusConditionTrue(kr.Status.Conditions, v1alpha1.ConditionServiceAccountsRecreated) {
		t.Errorf("%+v", kr.Status.Conditions)
	}
	c.awaitWarning(t, kr, v1alpha1.ReasonQuotaExceeded)
	c.awaitCondition(t, sn.Namespace, sn.Name, v1alpha1.ConditionKeyRotationHealthy, metav1.ConditionFalse, v1alpha1.ReasonQuotaExceeded)
	if err := c.Delete(t.Context(), quota); err != nil {
		t.Fatal(err)
	}
}

// TestNamespaceLimitRange: the namespace requires more CPU than a Job requests by default, and the
// pods of the Job are accepted.
func TestNamespaceLimitRange(t *testing.T) {
	t.Parallel()
	c, namespace := shared(t)
	sn := postgresNotes(namespace, "notes")
	c.namespace(t, sn.Namespace)
	limits := &corev1.LimitRange{
		ObjectMeta: metav1.ObjectMeta{Namespace: sn.Namespace, Name: "limits"},
		Spec: corev1.LimitRangeSpec{Limits: []corev1.LimitRangeItem{
			{Type: corev1.LimitTypeContainer, Min: corev1.ResourceList{corev1.ResourceCPU: resource.MustParse("50m")}},
		}},
	}
	if err := c.Create(t.Context(), limits); err != nil {
		t.Fatal(err)
	}
	c.ready(t, sn)
	c.rotating(t, rotationOf(sn, "rotation"))
	job := c.awaitJob(t, sn.Namespace, "notes-rotate-v2-1")
	if got := job.Spec.Template.Spec.Containers[0].Resources.Requests.Cpu().String(); got != "50m" {
		t.Errorf("the Job asks for %s", got)
	}
	pod := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: sn.Namespace, Name: "trial"}, Spec: job.Spec.Template.Spec}
	if err := c.Create(t.Context(), pod); err != nil {
		t.Error(err)
	}
}

func TestIssuanceFails(t *testing.T) {
	t.Parallel()
	c, namespace := shared(t)
	sn := postgresNotes(namespace, "notes")
	c.namespace(t, sn.Namespace)
	if err := c.Create(t.Context(), sn); err != nil {
		t.Fatal(err)
	}
	c.issue(t, sn.Namespace, sn.Name) // the issuer is ready
	key := client.ObjectKey{Namespace: sn.Namespace, Name: operand.CertificateName(sn.Name)}
	set := func(conditions ...certmanagerv1.CertificateCondition) *certmanagerv1.Certificate {
		t.Helper()
		certificate := &certmanagerv1.Certificate{}
		if err := c.Get(t.Context(), key, certificate); err != nil {
			t.Fatal(err)
		}
		certificate.Status.Conditions = conditions
		if err := c.Status().Update(t.Context(), certificate); err != nil {
			t.Fatal(err)
		}
		return certificate
	}
	unready := certmanagerv1.CertificateCondition{Type: certmanagerv1.CertificateConditionReady, Status: cmmeta.ConditionFalse, Message: "Issuing certificate as Secret does not exist"}
	certificate := set(unready, certmanagerv1.CertificateCondition{
		Type: certmanagerv1.CertificateConditionIssuing, Status: cmmeta.ConditionFalse, Reason: "Failed", Message: "the role does not allow this name",
	})
	message := c.awaitCondition(t, sn.Namespace, sn.Name, v1alpha1.ConditionReady, metav1.ConditionFalse, v1alpha1.ReasonIssuanceFailed)
	mustContain(t, message, "CertificateReady: ", "the role does not allow this name", "cmctl renew notes-tls")
	c.awaitWarning(t, sn, v1alpha1.ReasonIssuanceFailed)

	// The request reports the failure before the Certificate does.
	request := &certmanagerv1.CertificateRequest{
		ObjectMeta: metav1.ObjectMeta{
			Namespace: sn.Namespace, Name: key.Name + "-1",
			OwnerReferences: []metav1.OwnerReference{*metav1.NewControllerRef(certificate, certmanagerv1.SchemeGroupVersion.WithKind("Certificate"))},
		},
		Spec: certmanagerv1.CertificateRequestSpec{Request: []byte("request"), IssuerRef: certificate.Spec.IssuerRef},
	}
	if err := c.Create(t.Context(), request); err != nil {
		t.Fatal(err)
	}
	request.Status.Conditions = []certmanagerv1.CertificateRequestCondition{
		{Type: certmanagerv1.CertificateRequestConditionDenied, Status: cmmeta.ConditionTrue, Reason: "policy.cert-manager.io", Message: "no policy approved it"},
	}
	if err := c.Status().Update(t.Context(), request); err != nil {
		t.Fatal(err)
	}
	set(unready, certmanagerv1.CertificateCondition{Type: certmanagerv1.CertificateConditionIssuing, Status: cmmeta.ConditionTrue})
	await(t, "the message of the request", func() string {
		message := c.awaitCondition(t, sn.Namespace, sn.Name, v1alpha1.ConditionCertificateReady, metav1.ConditionFalse, v1alpha1.ReasonIssuanceFailed)
		if !strings.Contains(message, "CertificateRequest notes-tls-1: Denied: no policy approved it") {
			return message
		}
		return ""
	})
}
