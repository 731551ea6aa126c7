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

// rule is one cause.
type rule struct {
	// reason and next are those of the cause, where find does not say others.
	reason string
	// find returns a cause with a message if the evidence shows it.
	find func(e *evidence) Cause
	next string
}

// list has every cause that pods do not come up, deepest first: what refuses pods, what keeps them
// from a node, from an image, from running, and at last what keeps them from being ready. Of two
// rows with one reason the more special one comes first. docs/troubleshooting.md has the same list.
var list = []rule{
	{v1alpha1.ReasonJobSuspended, suspended, "set its spec.suspend to false, or see the queue that has suspended it"},
	{v1alpha1.ReasonQuotaExceeded, refused(`must specify (limits|requests)`), "set these amounts in spec.resources of the SecureNotes, or have a LimitRange give the namespace defaults"},
	{v1alpha1.ReasonQuotaExceeded, refused(`exceeded quota`), "raise the ResourceQuota, free what others use of it, or lower spec.resources or spec.replicas"},
	{v1alpha1.ReasonPriorityClassNotFound, refused(`no PriorityClass with name`), "create the PriorityClass, or correct spec.podTemplate.priorityClassName"},
	{v1alpha1.ReasonOutsideLimitRange, refused(`(minimum|maximum) [\w./-]+ usage per|max limit to request ratio`), "set spec.resources of the SecureNotes to amounts within the namespace's LimitRange; Jobs ask for the same"},
	{v1alpha1.ReasonPodsRefused, refused(`violates PodSecurity`), "something adds to the pods what their namespace forbids, because the operator's keep to the restricted standard: see the mutating webhooks"},
	{v1alpha1.ReasonPodsRefused, refused(`.`), "change what refuses it: an admission webhook or policy, or the namespace"},
	{v1alpha1.ReasonPodsMissing, missing, "see its events; without any, see whether kube-controller-manager runs"},

	{v1alpha1.ReasonUnschedulable, unscheduled(`unbound immediate PersistentVolumeClaims|unbound PersistentVolumeClaim`), "see the condition DatabaseReady, and `kubectl describe pvc`"},
	{v1alpha1.ReasonUnschedulable, jobUnscheduled(`pod affinity rules`), "make room on the node of the API's pod, because the volume can be mounted on one node only"},
	{v1alpha1.ReasonUnschedulable, unscheduled(`untolerated taint|node affinity/selector`), "correct spec.podTemplate (nodeSelector, affinity, tolerations), add a node that fits, or lower spec.resources if it is also about room"},
	{v1alpha1.ReasonUnschedulable, unscheduled(`Insufficient `), "add a node, or lower spec.resources"},
	{v1alpha1.ReasonUnschedulable, unscheduled(`.`), "see `kubectl describe pod`"},

	{v1alpha1.ReasonImagePullFailed, waiting("ErrImagePull", "ImagePullBackOff", "ErrImageNeverPull", "InvalidImageName", "RegistryUnavailable", "ImageInspectError"),
		"correct operand.image in the operator's chart, or give the pods a login with spec.podTemplate.imagePullSecrets"},
	{v1alpha1.ReasonContainerNotCreated, waiting("CreateContainerConfigError", "CreateContainerError", "RunContainerError", "PreCreateHookError", "PreStartHookError", "PostStartHookError"),
		"see `kubectl describe pod`"},
	// Its container has ended, but the pod has not: nothing is tried again.
	{v1alpha1.ReasonSidecarRunning, sidecar, "have the injector leave the pods out, by a label or an annotation in spec.podTemplate, or add its container as an init container with restartPolicy Always; then delete the Job, and the operator creates another"},
	{v1alpha1.ReasonOOMKilled, outOfMemory, "raise limits.memory in spec.resources"},
	{config.ReasonFailed, said, ""},
	{v1alpha1.ReasonContainerCrashing, crashing, "see the log of the run before, with `kubectl logs --previous`"},
	{v1alpha1.ReasonPodNotStarted, notStarted, "correct the cause; the kubelet tries again by itself within about two minutes"},
	{v1alpha1.ReasonNotReady, notReady, "see its log"},
}

func suspended(e *evidence) Cause {
	if e.job == nil || e.pod != nil {
		return Cause{}
	}
	for _, condition := range e.job.Status.Conditions {
		if condition.Type == batchv1.JobSuspended && condition.Status == corev1.ConditionTrue {
			return Cause{Message: e.maker + " is suspended"}
		}
	}
	return Cause{}
}

// refusal is what comes before the words that matter: the name of a pod is another with each try.
var refusal = regexp.MustCompile(`^(Error creating: |\(combined from similar events\): )*(pods? "[^"]*" is forbidden: )?`)

// refused finds a pod that the API server did not take, with words that match.
func refused(pattern string) func(*evidence) Cause {
	words := regexp.MustCompile(pattern)
	return func(e *evidence) Cause {
		if e.pod != nil || !words.MatchString(e.refused) {
			return Cause{}
		}
		return Cause{Message: "the API server refuses the pods of " + e.maker + ": " + Words(refusal.ReplaceAllString(e.refused, ""))}
	}
}

func missing(e *evidence) Cause {
	if e.pod != nil || !e.podless {
		return Cause{}
	}
	return Cause{Message: e.maker + " has no pod, and nothing says why"}
}

// unscheduled finds a pod that the scheduler has no node for.
func unscheduled(pattern string) func(*evidence) Cause {
	words := regexp.MustCompile(pattern)
	return func(e *evidence) Cause {
		if e.pod == nil || !e.late(e.pod.CreationTimestamp) {
			return Cause{}
		}
		for _, condition := range e.pod.Status.Conditions {
			if condition.Type == corev1.PodScheduled && condition.Status == corev1.ConditionFalse && words.MatchString(condition.Message) {
				return Cause{Message: fmt.Sprintf("pod %s cannot be scheduled: %s", e.pod.Name, Words(condition.Message))}
			}
		}
		return Cause{}
	}
}

func jobUnscheduled(pattern string) func(*evidence) Cause {
	ofAny := unscheduled(pattern)
	return func(e *evidence) Cause {
		if e.job == nil {
			return Cause{}
		}
		return ofAny(e)
	}
}

// containers are those of a pod in the order in which they start.
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
			message := fmt.Sprintf("container %s of pod %s waits: %s", status.Name, e.pod.Name, w.Reason)
			if w.Message != "" {
				message += ": " + Words(w.Message)
			}
			return Cause{Message: message}
		}
		return Cause{}
	}
}

// ends are how a container ended last, and before that.
func ends(status corev1.ContainerStatus) []*corev1.ContainerStateTerminated {
	var all []*corev1.ContainerStateTerminated
	for _, state := range []*corev1.ContainerStateTerminated{status.State.Terminated, status.LastTerminationState.Terminated} {
		if state != nil {
			all = append(all, state)
		}
	}
	return all
}

// failing are the containers that count now: those of the init phase until it is over, but for
// those that are done, because what they said before is history.
func failing(pod *corev1.Pod) []corev1.ContainerStatus {
	if initialized(pod) {
		return pod.Status.ContainerStatuses
	}
	return slices.DeleteFunc(slices.Clone(pod.Status.InitContainerStatuses), done)
}

func outOfMemory(e *evidence) Cause {
	if e.pod == nil {
		return Cause{}
	}
	for _, status := range failing(e.pod) {
		if all := ends(status); len(all) > 0 && all[0].Reason == "OOMKilled" {
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

// said finds the service's own words, which it leaves when it ends.
func said(e *evidence) Cause {
	if e.pod == nil {
		return Cause{}
	}
	for _, status := range failing(e.pod) {
		for _, state := range ends(status) {
			if state.ExitCode == 0 {
				continue
			}
			termination, ok := ReadTermination(state.Message)
			// A service that runs has found its database when it started.
			if ok && (status.State.Running == nil || termination.Reason != config.ReasonDatabaseLost) {
				return Cause{Reason: termination.Reason, Message: termination.Message, Said: &termination}
			}
		}
	}
	return Cause{}
}

// crashing finds a container that ends and leaves no words. Those of other programs are not shown,
// because they may be the end of a log.
func crashing(e *evidence) Cause {
	if e.pod == nil {
		return Cause{}
	}
	for _, status := range failing(e.pod) {
		all := ends(status)
		if len(all) == 0 || all[0].ExitCode == 0 || status.State.Running != nil {
			continue
		}
		return Cause{Message: fmt.Sprintf("container %s of pod %s ended with exit code %d (%s)", status.Name, e.pod.Name, all[0].ExitCode, restarts(status))}
	}
	return Cause{}
}

// notStarted finds a pod that has a node, and there a volume, a network or a sandbox that it cannot
// get.
func notStarted(e *evidence) Cause {
	if e.pod == nil || !e.late(e.pod.CreationTimestamp) || e.pod.Status.Phase != corev1.PodPending {
		return Cause{}
	}
	for _, status := range containers(e.pod) {
		if status.State.Running != nil || status.State.Terminated != nil {
			return Cause{}
		}
	}
	event := e.look.latest(e.pod, func(event corev1.Event) bool { return slices.Contains(unstarted, event.Reason) })
	if event == nil {
		return Cause{}
	}
	// The time, not the age: a message that changes with every look would be a write with every
	// look.
	return Cause{Message: fmt.Sprintf("pod %s does not start: %s (event of %s)", e.pod.Name, Words(event.Message), at(*event).UTC().Format(time.RFC3339))}
}

// unstarted are the reasons of the kubelet's events about what a pod lacks on its node.
var unstarted = []string{"FailedMount", "FailedAttachVolume", "FailedMapVolume", "FailedCreatePodSandBox", "NetworkNotReady"}

// sidecar finds a pod of a Job whose work is done, and which another container keeps alive.
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
	if work == nil || !e.late(work.FinishedAt) || len(others) == 0 {
		return Cause{}
	}
	return Cause{Message: fmt.Sprintf("the container of %s has ended with exit code %d, but %s of pod %s still runs, so the Job does not end",
		e.maker, work.ExitCode, strings.Join(others, ", "), e.pod.Name)}
}

// answer is what /readyz says where the service has a reason for it.
var answer = regexp.MustCompile(`^([A-Z][A-Za-z]{1,60}): (.+)$`)

// notReady finds a pod of the API that runs and says by /readyz why it does not serve.
func notReady(e *evidence) Cause {
	if e.job != nil || e.pod == nil || !e.late(e.pod.CreationTimestamp) {
		return Cause{}
	}
	since := e.pod.CreationTimestamp
	for _, status := range e.pod.Status.ContainerStatuses {
		if status.Name != operand.APIContainer {
			continue
		}
		running := status.State.Running
		if running == nil || status.Ready || !running.StartedAt.IsZero() && !e.late(running.StartedAt) {
			return Cause{}
		}
		if since.Before(&running.StartedAt) {
			since = running.StartedAt
		}
	}
	if !initialized(e.pod) || len(e.pod.Status.ContainerStatuses) == 0 {
		return Cause{}
	}
	about := "pod " + e.pod.Name + " runs, but is not ready"
	words := Words(e.look.readyz(e.pod))
	parts := answer.FindStringSubmatch(words)
	switch {
	case words == "starting" && !older(since, startPatience, e.now):
		return Cause{}
	case words == "":
		return Cause{Message: about}
	case parts == nil || parts[1] == config.ReasonDatabaseLost:
		return Cause{Message: about + ": " + words}
	default:
		return Cause{Reason: parts[1], Message: about + ": " + parts[2], Said: &config.Termination{Reason: parts[1], Message: parts[2]}}
	}
}
