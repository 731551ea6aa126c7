package keyrotation

import (
	"cmp"
	"slices"

	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/securenotes/securenotes/controllers/internal/cause"
)

// JobPhase is how far a Job has come.
type JobPhase string

// The phases of a Job.
const (
	JobAbsent   JobPhase = "Absent"
	JobRunning  JobPhase = "Running"
	JobComplete JobPhase = "Complete"
	JobFailed   JobPhase = "Failed"
	// JobForeign is a Job of the right name that is not the one that was made; see Expected.
	JobForeign JobPhase = "Foreign"
)

// JobOutcome is a Job's phase and, when it failed, why.
type JobOutcome struct {
	// Name of the Job; empty when it is absent.
	Name  string
	Phase JobPhase
	// Reason and Message of a failure, fit for a condition; of a foreign Job, its Message.
	Reason, Message string
	// Cause is why a running Job does not come to its end; none while it works.
	Cause cause.Cause
	// Made identifies a Job that is the expected one.
	Made MadeJob
	// Completed is when a complete Job was, by the cluster's clock.
	Completed *metav1.Time
}

// Outcome reads a Job, nil when there is none. owner is the UID that must control it.
func Outcome(job *batchv1.Job, owner types.UID, pods []corev1.Pod) JobOutcome {
	if job == nil {
		return JobOutcome{Phase: JobAbsent}
	}
	if controller := metav1.GetControllerOf(job); controller == nil || controller.UID != owner {
		return JobOutcome{Name: job.Name, Phase: JobForeign}
	}
	for _, condition := range job.Status.Conditions {
		if condition.Status != corev1.ConditionTrue {
			continue
		}
		switch condition.Type {
		case batchv1.JobComplete:
			return JobOutcome{Name: job.Name, Phase: JobComplete, Completed: job.Status.CompletionTime}
		case batchv1.JobFailed:
			reason, message := failure(job, condition, pods)
			return JobOutcome{Name: job.Name, Phase: JobFailed, Reason: reason, Message: message}
		}
	}
	return JobOutcome{Name: job.Name, Phase: JobRunning}
}

// failure takes the words of the pod that failed last; without any, those of the Job's condition.
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
	// A pod that was superseded says why all others stopped too.
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
	words := cause.Words(failed.Message)
	if words == "" {
		words = "no pod of it says why"
	}
	return "", "Job " + job.Name + " failed: " + words + "; see the logs of its pods"
}
