package trustedjob

import (
	"cmp"
	"slices"

	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/securenotes/securenotes/controllers/internal/cause"
)

// Phase is the state of a Job.
type Phase string

// The phases of a Job.
const (
	Absent   Phase = "Absent"
	Running  Phase = "Running"
	Complete Phase = "Complete"
	Failed   Phase = "Failed"
	// Foreign is a Job of the expected name that is not the [Expected] one.
	Foreign Phase = "Foreign"
)

// Outcome is a Job's phase and, if it failed, why.
type Outcome struct {
	// Name of the Job; empty if it is absent.
	Name  string
	Phase Phase
	// Reason and Message of a failure, fit for a condition. A foreign Job has a Message alone.
	Reason, Message string
	// Cause is why a running Job does not complete; none while it works.
	Cause cause.Cause
	// Identity of the Job, if it is the expected one.
	Identity Identity
	// Completed is the completion time of a complete Job, by the cluster's clock.
	Completed *metav1.Time
}

// outcomeOf returns the outcome of a Job, which is nil if there is none. owner is the UID that must
// control it.
func outcomeOf(job *batchv1.Job, owner types.UID, pods []corev1.Pod) Outcome {
	if job == nil {
		return Outcome{Phase: Absent}
	}
	if controller := metav1.GetControllerOf(job); controller == nil || controller.UID != owner {
		return Outcome{Name: job.Name, Phase: Foreign}
	}
	for _, condition := range job.Status.Conditions {
		if condition.Status != corev1.ConditionTrue {
			continue
		}
		switch condition.Type {
		case batchv1.JobComplete:
			return Outcome{Name: job.Name, Phase: Complete, Completed: job.Status.CompletionTime}
		case batchv1.JobFailed:
			reason, message := failure(job, condition, pods)
			return Outcome{Name: job.Name, Phase: Failed, Reason: reason, Message: message}
		}
	}
	return Outcome{Name: job.Name, Phase: Running}
}

// failure returns the reason and message of the pod that failed last. If no pod has any, the
// message is the message of the Job's condition.
func failure(job *batchv1.Job, failed batchv1.JobCondition, pods []corev1.Pod) (reason, message string) {
	var ended []*corev1.ContainerStateTerminated
	for i := range pods {
		if controller := metav1.GetControllerOf(&pods[i]); controller == nil || controller.UID != job.UID {
			continue
		}
		for _, status := range pods[i].Status.ContainerStatuses {
			if t := status.State.Terminated; t != nil && t.ExitCode != 0 {
				ended = append(ended, t)
			}
		}
	}
	// If one pod was superseded, that is why the others stopped too.
	slices.SortFunc(ended, func(a, b *corev1.ContainerStateTerminated) int {
		if c := cmp.Compare(a.ExitCode, b.ExitCode); c != 0 {
			return c
		}
		return a.FinishedAt.Compare(b.FinishedAt.Time)
	})
	for _, t := range slices.Backward(ended) {
		if termination, ok := cause.ReadTermination(t.Message); ok {
			return termination.Reason, termination.Message
		}
	}
	words := cause.Sanitize(failed.Message)
	if words == "" {
		words = "no pod reported why"
	}
	return "", "Job " + job.Name + " failed: " + words + "; see the logs of its pods"
}
