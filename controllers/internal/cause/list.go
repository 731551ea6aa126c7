package cause

import (
	"fmt"
	"regexp"
	"slices"
	"strings"
	"time"

	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"

	"github.com/securenotes/securenotes/api/v1alpha1"
	"github.com/securenotes/securenotes/app/config"
	"github.com/securenotes/securenotes/controllers/internal/operand"
)

// rule finds one cause.
type rule struct {
	// reason and next belong to the cause, unless find returns others.
	reason string
	// find returns a cause with a message if the rule applies to the evidence.
	find func(e *evidence) Cause
	next string
}

// rules are ordered from the root cause outwards: a pod is refused, gets no node, no image, does
// not run, and finally does not become ready. Of two rules with the same reason, the more specific
// one comes first. docs/troubleshooting.md has the same order.
var rules = []rule{
	{v1alpha1.ReasonJobSuspended, suspended, "set its spec.suspend to false, or check the queue that suspended it"},
	{v1alpha1.ReasonQuotaExceeded, refused(`must specify (limits|requests)`), "set these amounts in spec.resources of the SecureNotes, or add a LimitRange with defaults to the namespace"},
	{v1alpha1.ReasonQuotaExceeded, refused(`exceeded quota`), "raise the ResourceQuota or free some of it, or lower spec.resources or spec.replicas of the SecureNotes"},
	{v1alpha1.ReasonPriorityClassNotFound, refused(`no PriorityClass with name`), "create the PriorityClass, or correct spec.podTemplate.priorityClassName of the SecureNotes"},
	{v1alpha1.ReasonOutsideLimitRange, refused(`(minimum|maximum) [\w./-]+ usage per|max limit to request ratio`), "set spec.resources of the SecureNotes to amounts that the LimitRange of the namespace allows; Jobs request the same amounts"},
	{v1alpha1.ReasonPodsRefused, refused(`violates PodSecurity`), "check the mutating webhooks: one of them adds what the namespace forbids, because the operator's own pods meet the restricted standard"},
	{v1alpha1.ReasonPodsRefused, refused(`.`), "correct the admission webhook, the policy or the namespace that refuses them"},
	{v1alpha1.ReasonPodsMissing, missing, "check the events of the Job, and whether kube-controller-manager runs"},

	{v1alpha1.ReasonUnschedulable, unscheduled(`unbound immediate PersistentVolumeClaims|unbound PersistentVolumeClaim`), "see the condition DatabaseReady, and `kubectl describe pvc`"},
	{v1alpha1.ReasonUnschedulable, jobUnscheduled(`pod affinity rules`), "free resources on the node of the API pod, because the volume can be mounted on one node only"},
	{v1alpha1.ReasonUnschedulable, unscheduled(`untolerated taint|node affinity/selector`), "correct nodeSelector, affinity or tolerations in spec.podTemplate of the SecureNotes, add a matching node, or lower spec.resources if the message also reports insufficient resources"},
	{v1alpha1.ReasonUnschedulable, unscheduled(`Insufficient `), "add a node, or lower spec.resources of the SecureNotes"},
	{v1alpha1.ReasonUnschedulable, unscheduled(`.`), "see `kubectl describe pod`"},

	{v1alpha1.ReasonImagePullFailed, waiting("ErrImagePull", "ImagePullBackOff", "ErrImageNeverPull", "InvalidImageName", "RegistryUnavailable", "ImageInspectError"),
		"correct operand.image in the values of the operator's chart, or add credentials with spec.podTemplate.imagePullSecrets of the SecureNotes"},
	{v1alpha1.ReasonContainerNotCreated, waiting("CreateContainerConfigError", "CreateContainerError", "RunContainerError", "PreCreateHookError", "PreStartHookError", "PostStartHookError"),
		"see `kubectl describe pod`"},
	// This rule comes before the next two: while the pod runs, the Job does not retry a failed
	// container.
	{v1alpha1.ReasonSidecarRunning, sidecar, "exclude the pods from the injector with a label or annotation in spec.podTemplate of the SecureNotes, or let it add an init container with restartPolicy Always; then delete the Job, and the operator creates another"},
	{v1alpha1.ReasonOOMKilled, outOfMemory, "raise limits.memory in spec.resources of the SecureNotes"},
	{config.ReasonFailed, reported, ""},
	{v1alpha1.ReasonContainerCrashing, crashing, "see the log of the previous run with `kubectl logs --previous`"},
	{v1alpha1.ReasonPodNotStarted, notStarted, "correct the cause; the kubelet retries within about two minutes"},
	{v1alpha1.ReasonNotReady, notReady, "see the log of the pod"},
}

func suspended(e *evidence) Cause {
	if e.job == nil || e.pod != nil {
		return Cause{}
	}
	for _, condition := range e.job.Status.Conditions {
		if condition.Type == batchv1.JobSuspended && condition.Status == corev1.ConditionTrue {
			return Cause{Message: e.creator + " is suspended"}
		}
	}
	return Cause{}
}

// refusalPrefix is the part of a refusal that changes with each attempt, such as the pod's name.
var refusalPrefix = regexp.MustCompile(`^(Error creating: |\(combined from similar events\): )*(pods? "[^"]*" is forbidden: )?`)

// refused finds a pod that the API server refused with a message that matches pattern.
func refused(pattern string) func(*evidence) Cause {
	matcher := regexp.MustCompile(pattern)
	return func(e *evidence) Cause {
		if e.pod != nil || !matcher.MatchString(e.refusal) {
			return Cause{}
		}
		return Cause{Message: "the API server refuses the pods of " + e.creator + ": " + Sanitize(refusalPrefix.ReplaceAllString(e.refusal, ""))}
	}
}

func missing(e *evidence) Cause {
	if e.pod != nil || !e.noPods {
		return Cause{}
	}
	return Cause{Message: e.creator + " has no pod, and no event tells why"}
}

// unscheduled finds a pod that has no node, with a message of the scheduler that matches pattern.
func unscheduled(pattern string) func(*evidence) Cause {
	matcher := regexp.MustCompile(pattern)
	return func(e *evidence) Cause {
		if e.pod == nil || !e.overdue(e.pod.CreationTimestamp) {
			return Cause{}
		}
		for _, condition := range e.pod.Status.Conditions {
			if condition.Type == corev1.PodScheduled && condition.Status == corev1.ConditionFalse && matcher.MatchString(condition.Message) {
				return Cause{Message: fmt.Sprintf("pod %s cannot be scheduled: %s", e.pod.Name, Sanitize(condition.Message))}
			}
		}
		return Cause{}
	}
}

// jobUnscheduled is unscheduled for the pods of Jobs only.
func jobUnscheduled(pattern string) func(*evidence) Cause {
	unscheduledPod := unscheduled(pattern)
	return func(e *evidence) Cause {
		if e.job == nil {
			return Cause{}
		}
		return unscheduledPod(e)
	}
}

// containers returns the containers of a pod in the order in which they start.
func containers(pod *corev1.Pod) []corev1.ContainerStatus {
	return slices.Concat(pod.Status.InitContainerStatuses, pod.Status.ContainerStatuses)
}

// waiting finds a container that the kubelet cannot start.
func waiting(reasons ...string) func(*evidence) Cause {
	return func(e *evidence) Cause {
		if e.pod == nil {
			return Cause{}
		}
		for _, status := range containers(e.pod) {
			w := status.State.Waiting
			if w == nil || !slices.Contains(reasons, w.Reason) {
				continue
			}
			message := fmt.Sprintf("container %s of pod %s cannot start: %s", status.Name, e.pod.Name, w.Reason)
			if w.Message != "" {
				message += ": " + Sanitize(w.Message)
			}
			return Cause{Message: message}
		}
		return Cause{}
	}
}

// terminations returns the last two terminations of a container, the newest first.
func terminations(status corev1.ContainerStatus) []*corev1.ContainerStateTerminated {
	var all []*corev1.ContainerStateTerminated
	for _, state := range []*corev1.ContainerStateTerminated{status.State.Terminated, status.LastTerminationState.Terminated} {
		if state != nil {
			all = append(all, state)
		}
	}
	return all
}

// relevant returns the containers that can explain the current state of a pod. In the init phase,
// these are the init containers that have not succeeded; earlier failures of the others are
// outdated.
func relevant(pod *corev1.Pod) []corev1.ContainerStatus {
	if initialized(pod) {
		return pod.Status.ContainerStatuses
	}
	return slices.DeleteFunc(slices.Clone(pod.Status.InitContainerStatuses), succeeded)
}

func outOfMemory(e *evidence) Cause {
	if e.pod == nil {
		return Cause{}
	}
	for _, status := range relevant(e.pod) {
		if all := terminations(status); len(all) > 0 && all[0].Reason == "OOMKilled" {
			return Cause{Message: fmt.Sprintf("container %s of pod %s was killed because it used more memory than its limit (%s)", status.Name, e.pod.Name, restarts(status))}
		}
	}
	return Cause{}
}

func restarts(status corev1.ContainerStatus) string {
	if status.RestartCount == 1 {
		return "1 restart"
	}
	return fmt.Sprintf("%d restarts", status.RestartCount)
}

// reported finds the reason that the service itself left in its termination message.
func reported(e *evidence) Cause {
	if e.pod == nil {
		return Cause{}
	}
	for _, status := range relevant(e.pod) {
		for _, state := range terminations(status) {
			if state.ExitCode == 0 {
				continue
			}
			termination, ok := ReadTermination(state.Message)
			if ok && (status.State.Running == nil || !slices.Contains(untilRestart, termination.Reason)) {
				return Cause{Reason: termination.Reason, Message: termination.Message, Reported: &termination}
			}
		}
	}
	return Cause{}
}

// untilRestart are the reasons that are outdated once the service runs again: it runs only on a
// database that is not lost, and /readyz reports an unfinished restore.
var untilRestart = []string{config.ReasonDatabaseLost, config.ReasonDatabaseRestoring, config.ReasonDatabaseRestored}

// crashing finds a container that failed without reporting a reason. Termination messages of other
// programs are not shown, because they may be the end of a log, with secrets.
func crashing(e *evidence) Cause {
	if e.pod == nil {
		return Cause{}
	}
	for _, status := range relevant(e.pod) {
		all := terminations(status)
		if len(all) == 0 || all[0].ExitCode == 0 || status.State.Running != nil {
			continue
		}
		return Cause{Message: fmt.Sprintf("container %s of pod %s ended with exit code %d (%s)", status.Name, e.pod.Name, all[0].ExitCode, restarts(status))}
	}
	return Cause{}
}

// notStarted finds a pod that has a node, but no volume, network or sandbox there.
func notStarted(e *evidence) Cause {
	if e.pod == nil || !e.overdue(e.pod.CreationTimestamp) || e.pod.Status.Phase != corev1.PodPending {
		return Cause{}
	}
	for _, status := range containers(e.pod) {
		if status.State.Running != nil || status.State.Terminated != nil {
			return Cause{}
		}
	}
	event := e.lookup.latest(e.pod, func(event corev1.Event) bool { return slices.Contains(startFailures, event.Reason) })
	if event == nil {
		return Cause{}
	}
	// The message has the time of the event instead of its age: each change of a message is a
	// write.
	return Cause{Message: fmt.Sprintf("pod %s does not start: %s (event of %s)", e.pod.Name, Sanitize(event.Message), lastSeen(*event).UTC().Format(time.RFC3339))}
}

// startFailures are the reasons of the kubelet's events about what a pod lacks on its node.
var startFailures = []string{"FailedMount", "FailedAttachVolume", "FailedMapVolume", "FailedCreatePodSandBox", "NetworkNotReady"}

// sidecar finds a pod of a Job whose work has ended and that another container keeps running.
func sidecar(e *evidence) Cause {
	if e.job == nil || e.pod == nil {
		return Cause{}
	}
	var others []string
	var work *corev1.ContainerStateTerminated
	for _, status := range e.pod.Status.ContainerStatuses {
		switch {
		case status.Name == operand.JobContainer:
			work = status.State.Terminated
		case status.State.Running != nil:
			others = append(others, status.Name)
		}
	}
	if work == nil || !e.overdue(work.FinishedAt) || len(others) == 0 {
		return Cause{}
	}
	return Cause{Message: fmt.Sprintf("the container of %s has ended with exit code %d, but other containers of pod %s still run (%s), so the Job does not end",
		e.creator, work.ExitCode, e.pod.Name, strings.Join(others, ", "))}
}

// readyzReason matches an answer of /readyz that starts with a reason.
var readyzReason = regexp.MustCompile(`^([A-Z][A-Za-z]{1,60}): (.+)$`)

// notReady finds an API pod that runs but is not ready, and asks its /readyz for the reason.
func notReady(e *evidence) Cause {
	if e.job != nil || e.pod == nil || !e.overdue(e.pod.CreationTimestamp) {
		return Cause{}
	}
	since := e.pod.CreationTimestamp
	for _, status := range e.pod.Status.ContainerStatuses {
		if status.Name != operand.APIContainer {
			continue
		}
		running := status.State.Running
		if running == nil || status.Ready || !running.StartedAt.IsZero() && !e.overdue(running.StartedAt) {
			return Cause{}
		}
		if since.Before(&running.StartedAt) {
			since = running.StartedAt
		}
	}
	if !initialized(e.pod) || len(e.pod.Status.ContainerStatuses) == 0 {
		return Cause{}
	}
	about := "pod " + e.pod.Name + " runs but is not ready"
	answer := Sanitize(e.lookup.readyz(e.pod))
	parts := readyzReason.FindStringSubmatch(answer)
	switch {
	case answer == "starting" && !olderThan(since, startGrace, e.now):
		return Cause{}
	case answer == "":
		return Cause{Message: about}
	case parts == nil || parts[1] == config.ReasonDatabaseLost:
		return Cause{Message: about + ": " + answer}
	default:
		return Cause{Reason: parts[1], Message: about + ": " + parts[2], Reported: &config.Termination{Reason: parts[1], Message: parts[2]}}
	}
}
