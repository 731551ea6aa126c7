package trustedjob

import (
	"cmp"
	"slices"

	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/securenotes/securenotes/app/config"
	"github.com/securenotes/securenotes/controllers/internal/cause"
	"github.com/securenotes/securenotes/controllers/internal/operand"
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
	// LastFailure is what the pod of a running Job that failed last reported, if any did.
	LastFailure string
	// Identity of the Job, if it is the expected one.
	Identity Identity
	// Completed is the completion time of a complete Job, by the cluster's clock.
	Completed *metav1.Time
	// Report is the termination message of the pod of a complete Job, if [Expected] asks for it. It
	// is empty if there is none, or if several pods say different things. It is not validated.
	Report string
}

// Ended reports whether a Job is complete or has failed.
func Ended(job *batchv1.Job) bool {
	return slices.ContainsFunc(job.Status.Conditions, func(c batchv1.JobCondition) bool {
		return (c.Type == batchv1.JobComplete || c.Type == batchv1.JobFailed) && c.Status == corev1.ConditionTrue
	})
}

// reportOf returns what the succeeded pods of a Job reported, if they agree.
func reportOf(job *batchv1.Job, pods []corev1.Pod) string {
	report := ""
	for _, t := range terminated(job, pods, operand.JobContainer) {
		switch {
		case t.ExitCode != 0 || t.Message == "":
		case report != "" && report != t.Message:
			return ""
		default:
			report = t.Message
		}
	}
	return report
}

// terminated returns how the containers of this name ended in the pods of a Job. An empty name
// means all containers.
func terminated(job *batchv1.Job, pods []corev1.Pod, container string) []*corev1.ContainerStateTerminated {
	var ended []*corev1.ContainerStateTerminated
	for i := range pods {
		if controller := metav1.GetControllerOf(&pods[i]); controller == nil || controller.UID != job.UID {
			continue
		}
		for _, status := range pods[i].Status.ContainerStatuses {
			if t := status.State.Terminated; t != nil && (container == "" || status.Name == container) {
				ended = append(ended, t)
			}
		}
	}
	return ended
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
	running := Outcome{Name: job.Name, Phase: Running}
	if last, reported := lastFailure(job, pods); reported {
		running.LastFailure = last.Message
	}
	return running
}

// failure returns the reason and message of the pod that failed last. If no pod has any, the
// message is the message of the Job's condition.
func failure(job *batchv1.Job, failed batchv1.JobCondition, pods []corev1.Pod) (reason, message string) {
	if last, reported := lastFailure(job, pods); reported {
		return last.Reason, last.Message
	}
	words := cause.Sanitize(failed.Message)
	if words == "" {
		words = "no pod reported why"
	}
	return "", "Job " + job.Name + " failed: " + words + "; see the logs of its pods"
}

// lastFailure returns what the pod that failed last reported, and whether one did.
func lastFailure(job *batchv1.Job, pods []corev1.Pod) (last config.Termination, reported bool) {
	ended := slices.DeleteFunc(terminated(job, pods, ""), func(t *corev1.ContainerStateTerminated) bool { return t.ExitCode == 0 })
	// If one pod was superseded, that is why the others stopped too.
	slices.SortFunc(ended, func(a, b *corev1.ContainerStateTerminated) int {
		if c := cmp.Compare(a.ExitCode, b.ExitCode); c != 0 {
			return c
		}
		return a.FinishedAt.Compare(b.FinishedAt.Time)
	})
	for _, t := range slices.Backward(ended) {
		if termination, ok := cause.ReadTermination(t.Message); ok {
			return termination, true
		}
	}
	return config.Termination{}, false
}
