//go:build integration

package main

import (
	"context"
	"fmt"
	"maps"
	"testing"
	"time"

	certmanagerv1 "github.com/cert-manager/cert-manager/pkg/apis/certmanager/v1"
	cmmeta "github.com/cert-manager/cert-manager/pkg/apis/meta/v1"
	appsv1 "k8s.io/api/apps/v1"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	policyv1 "k8s.io/api/policy/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/securenotes/securenotes/api/v1alpha1"
	"github.com/securenotes/securenotes/app/config"
	"github.com/securenotes/securenotes/controllers/internal/operand"
)

// postgresNotes is a valid object with PostgreSQL.
func postgresNotes(namespace, name string) *v1alpha1.SecureNotes {
	return &v1alpha1.SecureNotes{
		ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: name},
		Spec: v1alpha1.SecureNotesSpec{
			TLS: v1alpha1.TLS{CertManager: &v1alpha1.CertManager{IssuerRef: v1alpha1.IssuerReference{Name: "ca"}}},
			Database: &v1alpha1.Database{Postgres: &v1alpha1.Postgres{
				URISecretRef: v1alpha1.SecretKeyReference{Name: "database", Key: "uri"},
			}},
			KeyRotation: &v1alpha1.KeyRotationPolicy{RetainOldVersionFor: "0s"},
		},
	}
}

// issue plays cert-manager: the issuer is ready and the certificate is issued.
func (c *cluster) issue(t *testing.T, namespace, name string) {
	t.Helper()
	issuer := &certmanagerv1.Issuer{
		ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: "ca"},
		Spec:       certmanagerv1.IssuerSpec{IssuerConfig: certmanagerv1.IssuerConfig{SelfSigned: &certmanagerv1.SelfSignedIssuer{}}},
	}
	if err := client.IgnoreAlreadyExists(c.Create(t.Context(), issuer)); err != nil {
		t.Fatal(err)
	}
	if err := c.Get(t.Context(), client.ObjectKeyFromObject(issuer), issuer); err != nil {
		t.Fatal(err)
	}
	issuer.Status.Conditions = []certmanagerv1.IssuerCondition{{Type: certmanagerv1.IssuerConditionReady, Status: cmmeta.ConditionTrue}}
	if err := c.Status().Update(t.Context(), issuer); err != nil {
		t.Fatal(err)
	}
	certificate := &certmanagerv1.Certificate{}
	await(t, "the Certificate", func() string {
		err := c.Get(context.Background(), client.ObjectKey{Namespace: namespace, Name: operand.CertificateName(name)}, certificate)
		return text(err)
	})
	before := certificate.DeepCopy()
	certificate.Status.Conditions = []certmanagerv1.CertificateCondition{{
		Type: certmanagerv1.CertificateConditionReady, Status: cmmeta.ConditionTrue, ObservedGeneration: certificate.Generation,
	}}
	certificate.Status.NotAfter = new(metav1.NewTime(time.Now().Add(90 * 24 * time.Hour).Truncate(time.Second)))
	if err := c.Status().Patch(t.Context(), certificate, client.MergeFrom(before)); err != nil {
		t.Fatal(err)
	}
}

// roll plays the Deployment controller and the kubelet: every replica of the current Deployment is
// available.
func (c *cluster) roll(t *testing.T, namespace, name string) {
	t.Helper()
	await(t, "the rollout of Deployment "+name, func() string {
		deployment := &appsv1.Deployment{}
		if err := c.Get(context.Background(), client.ObjectKey{Namespace: namespace, Name: name}, deployment); err != nil {
			return err.Error()
		}
		pod := c.pod(t, deployment, 0)
		if !maps.Equal(pod.Annotations, deployment.Spec.Template.Annotations) {
			if err := c.Delete(context.Background(), pod, client.GracePeriodSeconds(0)); err != nil {
				return err.Error()
			}
			return "the pod of an older template goes"
		}
		before := pod.DeepCopy()
		pod.Status.Conditions = []corev1.PodCondition{{Type: corev1.PodReady, Status: corev1.ConditionTrue}}
		pod.Status.InitContainerStatuses = []corev1.ContainerStatus{{
			Name: operand.MigrateContainer, State: corev1.ContainerState{Terminated: &corev1.ContainerStateTerminated{ExitCode: 0}},
		}}
		if !equality.Semantic.DeepEqual(pod.Status, before.Status) {
			if err := c.Status().Update(context.Background(), pod); err != nil {
				return err.Error()
			}
		}
		n := *deployment.Spec.Replicas
		rolled := appsv1.DeploymentStatus{
			ObservedGeneration: deployment.Generation, Replicas: n, UpdatedReplicas: n, ReadyReplicas: n, AvailableReplicas: n,
		}
		if equality.Semantic.DeepEqual(deployment.Status, rolled) {
			return ""
		}
		deployment.Status = rolled
		return text(c.Status().Update(context.Background(), deployment)) // a conflict: the operator has changed it meanwhile
	})
}

// awaitReady rolls the Deployment out, again after each change by the operator, until the object is
// Ready.
func (c *cluster) awaitReady(t *testing.T, namespace, name string) {
	t.Helper()
	await(t, namespace+"/"+name+" Ready", func() string {
		c.roll(t, namespace, name)
		sn := &v1alpha1.SecureNotes{}
		if err := c.Get(context.Background(), client.ObjectKey{Namespace: namespace, Name: name}, sn); err != nil {
			return err.Error()
		}
		ready := meta.FindStatusCondition(sn.Status.Conditions, v1alpha1.ConditionReady)
		if ready == nil || ready.Status != metav1.ConditionTrue || ready.ObservedGeneration != sn.Generation {
			return fmt.Sprintf("%+v", sn.Status.Conditions)
		}
		return ""
	})
}

// restart plays the Deployment controller once the operator has named session keys of the version,
// and returns their entry: the previous pods stop, and new ones start.
func (c *cluster) restart(t *testing.T, namespace, name string, version int64) (entry string) {
	t.Helper()
	await(t, fmt.Sprintf("a Deployment with session keys of version %d", version), func() string {
		deployment := &appsv1.Deployment{}
		if err := c.Get(context.Background(), client.ObjectKey{Namespace: namespace, Name: name}, deployment); err != nil {
			return err.Error()
		}
		entry = deployment.Spec.Template.Annotations["securenotes.dev/session-keys"]
		if config.SessionKeysVersion(entry) != version {
			return fmt.Sprint(deployment.Spec.Template.Annotations)
		}
		return ""
	})
	if err := c.DeleteAllOf(t.Context(), &corev1.Pod{}, client.InNamespace(namespace),
		client.MatchingLabels{operand.LabelInstance: name, operand.LabelComponent: operand.ComponentAPI}, client.GracePeriodSeconds(0)); err != nil {
		t.Fatal(err)
	}
	c.roll(t, namespace, name)
	return entry
}

// pod returns the pod of a Deployment, and creates it if it does not exist.
func (c *cluster) pod(t *testing.T, deployment *appsv1.Deployment, index int) *corev1.Pod {
	t.Helper()
	pod := &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{
			Namespace: deployment.Namespace, Name: fmt.Sprintf("%s-%d", deployment.Name, index),
			Labels: deployment.Spec.Template.Labels, Annotations: deployment.Spec.Template.Annotations,
		},
		Spec: *deployment.Spec.Template.Spec.DeepCopy(),
	}
	existing := &corev1.Pod{}
	err := c.Get(t.Context(), client.ObjectKeyFromObject(pod), existing)
	if err == nil {
		return existing
	}
	if client.IgnoreNotFound(err) == nil {
		err = c.Create(t.Context(), pod)
	}
	if err != nil {
		t.Fatal(err)
	}
	return pod
}

// finishJob plays the Job controller: the Job completes, with a pod for each index.
func (c *cluster) finishJob(t *testing.T, namespace, name string) *batchv1.Job {
	t.Helper()
	indexes := "0"
	if completions := *c.awaitJob(t, namespace, name).Spec.Completions; completions > 1 {
		indexes = fmt.Sprintf("0-%d", completions-1)
	}
	return c.completeJob(t, namespace, name, indexes)
}

// completeJob plays the Job controller: pods of these indexes have succeeded.
func (c *cluster) completeJob(t *testing.T, namespace, name, indexes string) *batchv1.Job {
	t.Helper()
	job := c.awaitJob(t, namespace, name)
	now := metav1.Now()
	job.Status.StartTime, job.Status.CompletionTime = &now, &now
	job.Status.Succeeded, job.Status.CompletedIndexes = *job.Spec.Completions, indexes
	job.Status.UncountedTerminatedPods = &batchv1.UncountedTerminatedPods{}
	job.Status.Conditions = []batchv1.JobCondition{
		{Type: batchv1.JobSuccessCriteriaMet, Status: corev1.ConditionTrue},
		{Type: batchv1.JobComplete, Status: corev1.ConditionTrue},
	}
	if err := c.Status().Update(t.Context(), job); err != nil {
		t.Fatalf("finish Job %s: %v", name, err)
	}
	return job
}

// failJob plays the Job controller and a pod that reports why it failed.
func (c *cluster) failJob(t *testing.T, namespace, name string, exitCode int32, termination string) {
	t.Helper()
	job := c.awaitJob(t, namespace, name)
	pod := &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{
			Namespace: namespace, Name: name + "-x", Labels: job.Spec.Template.Labels,
			OwnerReferences: []metav1.OwnerReference{*metav1.NewControllerRef(job, batchv1.SchemeGroupVersion.WithKind("Job"))},
		},
		Spec: *job.Spec.Template.Spec.DeepCopy(),
	}
	if err := c.Create(t.Context(), pod); err != nil {
		t.Fatal(err)
	}
	pod.Status.ContainerStatuses = []corev1.ContainerStatus{{
		Name: operand.JobContainer, State: corev1.ContainerState{Terminated: &corev1.ContainerStateTerminated{ExitCode: exitCode, Message: termination}},
	}}
	if err := c.Status().Update(t.Context(), pod); err != nil {
		t.Fatal(err)
	}
	job.Status.StartTime = new(metav1.Now())
	job.Status.UncountedTerminatedPods = &batchv1.UncountedTerminatedPods{}
	job.Status.Conditions = []batchv1.JobCondition{
		{Type: batchv1.JobFailureTarget, Status: corev1.ConditionTrue},
		{Type: batchv1.JobFailed, Status: corev1.ConditionTrue},
	}
	if err := c.Status().Update(t.Context(), job); err != nil {
		t.Fatalf("fail Job %s: %v", name, err)
	}
}

func (c *cluster) awaitJob(t *testing.T, namespace, name string) *batchv1.Job {
	t.Helper()
	job := &batchv1.Job{}
	await(t, "Job "+name, func() string {
		return text(c.Get(context.Background(), client.ObjectKey{Namespace: namespace, Name: name}, job))
	})
	return job
}

// ready creates an object and plays the other controllers until it is Ready.
func (c *cluster) ready(t *testing.T, sn *v1alpha1.SecureNotes) {
	t.Helper()
	c.namespace(t, sn.Namespace)
	if err := c.Create(t.Context(), sn); err != nil {
		t.Fatal(err)
	}
	c.issue(t, sn.Namespace, sn.Name)
	c.awaitReady(t, sn.Namespace, sn.Name)
	if err := c.Get(t.Context(), client.ObjectKeyFromObject(sn), sn); err != nil {
		t.Fatal(err)
	}
}

func text(err error) string {
	if err == nil {
		return ""
	}
	return err.Error()
}

// orphans are the children that a deletion by label finds without a list.
func orphans(object client.Object) []client.Object {
	in := metav1.ObjectMeta{Namespace: object.GetNamespace()}
	named := func(name string) metav1.ObjectMeta {
		m := in
		m.Name = name
		return m
	}
	return []client.Object{
		&rbacv1.Role{ObjectMeta: named(operand.RotationServiceAccount(object.GetName()))},
		&rbacv1.RoleBinding{ObjectMeta: named(operand.RotationServiceAccount(object.GetName()))},
		&certmanagerv1.Certificate{ObjectMeta: named(operand.CertificateName(object.GetName()))},
		&policyv1.PodDisruptionBudget{ObjectMeta: named(object.GetName())},
	}
}
