// Package slim bounds what the operator's cache keeps of an object.
//
// Anyone who may edit objects in a namespace decides how large they are: up to 1.5 MB each, in
// their data, annotations, labels, finalizers or owner references. [Transform] keeps what the
// reconcilers read, and a fixed number of bytes of it. The spec of a SecureNotes is kept whole,
// except for what its CustomResourceDefinition cannot bound; see [operand.DropOversized].
//
// A cached object is therefore incomplete. Patches of maps (labels, annotations) and of the status
// are safe, because they hold differences only. A merge patch replaces a list as a whole, so
// anyone who changes finalizers or owner references has to read the object past the cache first.
package slim

import (
	"maps"
	"slices"
	"strings"

	certmanagerv1 "github.com/cert-manager/cert-manager/pkg/apis/certmanager/v1"
	appsv1 "k8s.io/api/apps/v1"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/securenotes/securenotes/api/v1alpha1"
	"github.com/securenotes/securenotes/app/config/truncate"
	"github.com/securenotes/securenotes/controllers/internal/operand"
)

const (
	// ownPrefix is the prefix of all annotations that the operator reads.
	ownPrefix = "securenotes.dev/"
	// maxText bounds one name, value or message, in bytes. No name or UID of Kubernetes is longer.
	maxText = 256
	// maxMessage bounds a text for people, in bytes.
	maxMessage = 4096
	// maxPairs bounds the labels that are kept, and separately the annotations.
	maxPairs = 16
	// maxWaiting bounds the message of a waiting container, in bytes.
	maxWaiting = 1024
	// maxContainers bounds the containers of a pod whose states are kept.
	maxContainers = 16
)

// labelKeys are the labels that the operator reads.
var labelKeys = append(slices.Collect(maps.Keys(operand.Labels(&v1alpha1.SecureNotes{}, operand.ComponentAPI))),
	batchv1.JobNameLabel, v1alpha1.LabelScheduled, operand.LabelOwner)

// requestAnnotations are the annotations with which users request something.
var requestAnnotations = []string{v1alpha1.AnnotationRotateRequestedAt, v1alpha1.AnnotationBackupRequestedAt, v1alpha1.AnnotationRetryRequestedAt,
	v1alpha1.AnnotationAbandonVault, v1alpha1.AnnotationAcceptEmptyDatabase, v1alpha1.AnnotationTrimDespiteBackups, v1alpha1.AnnotationDeleteDespiteBackups}

// Transform is the cache's transformer. It may be applied twice to the same object.
func Transform(in any) (any, error) {
	object, ok := in.(client.Object)
	if !ok {
		return in, nil // a tombstone, whose object was transformed before
	}
	stripMetadata(object)
	switch o := in.(type) {
	case *v1alpha1.SecureNotes:
		operand.DropOversized(o)
	case *corev1.Pod:
		o.Spec, o.Status = corev1.PodSpec{}, podStatus(&o.Status)
	case *appsv1.Deployment:
		template := corev1.PodTemplateSpec{ObjectMeta: metav1.ObjectMeta{Annotations: ownAnnotations(o.Spec.Template.Annotations)}}
		o.Spec = appsv1.DeploymentSpec{Template: template}
		o.Status.Conditions = deploymentConditions(o.Status.Conditions)
	case *batchv1.Job:
		o.Spec, o.Status = batchv1.JobSpec{}, jobStatus(&o.Status)
	case *corev1.PersistentVolumeClaim:
		o.Spec = corev1.PersistentVolumeClaimSpec{
			VolumeName: short(o.Spec.VolumeName),
			Resources:  corev1.VolumeResourceRequirements{Requests: storage(o.Spec.Resources.Requests)},
		}
		o.Status = corev1.PersistentVolumeClaimStatus{Phase: o.Status.Phase, Capacity: storage(o.Status.Capacity)}
	case *certmanagerv1.Certificate:
		o.Spec = certmanagerv1.CertificateSpec{DNSNames: shortNames(o.Spec.DNSNames)}
		o.Status = certmanagerv1.CertificateStatus{
			NotAfter: o.Status.NotAfter, Revision: o.Status.Revision, Conditions: certificateConditions(o.Status.Conditions),
		}
	case *certmanagerv1.Issuer:
		o.Spec, o.Status = certmanagerv1.IssuerSpec{}, issuerStatus(&o.Status)
	case *certmanagerv1.ClusterIssuer:
		o.Spec, o.Status = certmanagerv1.IssuerSpec{}, issuerStatus(&o.Status)
	}
	return in, nil
}

func stripMetadata(object metav1.Object) {
	object.SetManagedFields(nil)
	object.SetGenerateName("")
	object.SetLabels(ownLabels(object.GetLabels()))
	object.SetAnnotations(ownAnnotations(object.GetAnnotations()))
	object.SetOwnerReferences(controllerOnly(object))
	var finalizers []string
	if slices.Contains(object.GetFinalizers(), v1alpha1.Finalizer) {
		finalizers = []string{v1alpha1.Finalizer}
	}
	object.SetFinalizers(finalizers)
}

// storage returns only the amount of storage. A list may have any number of other resources.
func storage(all corev1.ResourceList) corev1.ResourceList {
	size, ok := all[corev1.ResourceStorage]
	if !ok {
		return nil
	}
	return corev1.ResourceList{corev1.ResourceStorage: size}
}

func ownLabels(all map[string]string) map[string]string {
	return pairs(all, func(key string) bool { return slices.Contains(labelKeys, key) })
}

// shortNames returns the names with at most one dot, which may be Services of other namespaces.
func shortNames(all []string) []string {
	var kept []string
	for _, name := range all {
		if strings.Count(name, ".") <= 1 && len(name) <= maxText && len(kept) < maxPairs+2 {
			kept = append(kept, strings.Clone(name))
		}
	}
	return kept
}

func ownAnnotations(all map[string]string) map[string]string {
	return pairs(all, func(key string) bool { return strings.HasPrefix(key, ownPrefix) })
}

// pairs returns the wanted pairs that are within the bounds. A value that is too long is omitted,
// because a part of it would be another value. A request annotation is truncated instead: it is
// still too long, and a condition says so.
func pairs(all map[string]string, wanted func(key string) bool) map[string]string {
	var kept map[string]string
	for _, key := range slices.Sorted(maps.Keys(all)) {
		value := all[key]
		if slices.Contains(requestAnnotations, key) {
			value = short(value)
		}
		if !wanted(key) || len(key) > maxText || len(value) > maxText || len(kept) >= maxPairs {
			continue
		}
		if kept == nil {
			kept = map[string]string{}
		}
		kept[key] = value
	}
	return kept
}

// controllerOnly returns the reference to the controller. The operator reads no other.
func controllerOnly(object metav1.Object) []metav1.OwnerReference {
	controller := metav1.GetControllerOf(object)
	if controller == nil {
		return nil
	}
	return []metav1.OwnerReference{{
		APIVersion: short(controller.APIVersion), Kind: short(controller.Kind), Name: short(controller.Name), UID: types.UID(short(string(controller.UID))),
		Controller: new(true),
	}}
}

// short truncates a text that is longer than any name in Kubernetes.
func short(text string) string { return truncate.Bytes(text, maxText) }

func podStatus(status *corev1.PodStatus) corev1.PodStatus {
	kept := corev1.PodStatus{
		Phase:                 status.Phase,
		PodIP:                 short(status.PodIP),
		HostIP:                short(status.HostIP),
		InitContainerStatuses: containerStatuses(status.InitContainerStatuses),
		ContainerStatuses:     containerStatuses(status.ContainerStatuses),
	}
	for _, c := range status.Conditions {
		if c.Type == corev1.PodReady || c.Type == corev1.PodScheduled {
			kept.Conditions = append(kept.Conditions, corev1.PodCondition{
				Type: c.Type, Status: c.Status, Reason: short(c.Reason), Message: truncate.Bytes(c.Message, maxMessage),
			})
		}
	}
	return kept
}

func containerStatuses(all []corev1.ContainerStatus) []corev1.ContainerStatus {
	var kept []corev1.ContainerStatus
	for _, status := range all[:min(len(all), maxContainers)] {
		kept = append(kept, corev1.ContainerStatus{
			Name: status.Name, Ready: status.Ready, RestartCount: status.RestartCount,
			State: containerState(status.State), LastTerminationState: containerState(status.LastTerminationState),
		})
	}
	return kept
}

func containerState(state corev1.ContainerState) corev1.ContainerState {
	if w := state.Waiting; w != nil {
		return corev1.ContainerState{Waiting: &corev1.ContainerStateWaiting{Reason: short(w.Reason), Message: truncate.Bytes(w.Message, maxWaiting)}}
	}
	if t := state.Terminated; t != nil {
		return corev1.ContainerState{Terminated: &corev1.ContainerStateTerminated{
			ExitCode: t.ExitCode, Reason: short(t.Reason), Message: truncate.Bytes(t.Message, maxMessage), StartedAt: t.StartedAt, FinishedAt: t.FinishedAt,
		}}
	}
	return state
}

func jobStatus(status *batchv1.JobStatus) batchv1.JobStatus {
	kept := batchv1.JobStatus{
		StartTime: status.StartTime, CompletionTime: status.CompletionTime,
		Active: status.Active, Succeeded: status.Succeeded, Failed: status.Failed,
	}
	for _, c := range status.Conditions {
		if c.Type == batchv1.JobComplete || c.Type == batchv1.JobFailed || c.Type == batchv1.JobSuspended {
			kept.Conditions = append(kept.Conditions, batchv1.JobCondition{
				Type: c.Type, Status: c.Status, Reason: short(c.Reason), Message: truncate.Bytes(c.Message, maxMessage), LastTransitionTime: c.LastTransitionTime,
			})
		}
	}
	return kept
}

// deploymentConditions returns the condition that says why pods cannot be created.
func deploymentConditions(all []appsv1.DeploymentCondition) []appsv1.DeploymentCondition {
	for _, c := range all {
		if c.Type == appsv1.DeploymentReplicaFailure {
			return []appsv1.DeploymentCondition{{Type: c.Type, Status: c.Status, Reason: short(c.Reason), Message: truncate.Bytes(c.Message, maxMessage)}}
		}
	}
	return nil
}

func certificateConditions(all []certmanagerv1.CertificateCondition) []certmanagerv1.CertificateCondition {
	var kept []certmanagerv1.CertificateCondition
	for _, kind := range []certmanagerv1.CertificateConditionType{certmanagerv1.CertificateConditionReady, certmanagerv1.CertificateConditionIssuing} {
		i := slices.IndexFunc(all, func(c certmanagerv1.CertificateCondition) bool { return c.Type == kind })
		if i >= 0 {
			kept = append(kept, certmanagerv1.CertificateCondition{
				Type: kind, Status: all[i].Status, Reason: short(all[i].Reason), Message: truncate.Bytes(all[i].Message, maxMessage),
				ObservedGeneration: all[i].ObservedGeneration, LastTransitionTime: all[i].LastTransitionTime,
			})
		}
	}
	return kept
}

func issuerStatus(status *certmanagerv1.IssuerStatus) certmanagerv1.IssuerStatus {
	for _, c := range status.Conditions {
		if c.Type == certmanagerv1.IssuerConditionReady {
			return certmanagerv1.IssuerStatus{Conditions: []certmanagerv1.IssuerCondition{
				{Type: c.Type, Status: c.Status, Message: truncate.Bytes(c.Message, maxMessage)},
			}}
		}
	}
	return certmanagerv1.IssuerStatus{}
}
