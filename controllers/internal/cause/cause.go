// Package cause finds out why pods, a Job, a certificate or a volume does not become ready.
//
// Kubernetes reports the reasons in many places: the status of a Deployment, the states of
// containers, events, and conditions of other controllers. A SecureNotes or KeyRotation shows only
// one of them, the root cause, with the next step.
//
// Start with the rules in list.go, which are ordered from the root cause outwards. [OfPod],
// [OfDeployment] and [OfJob] apply them. [OfClaim], [OfCertificate] and [OfError] are for objects
// without pods. All of them are pure, except that they use a [Lookup] for what is not cached.
package cause

import (
	"slices"
	"strconv"
	"strings"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/securenotes/securenotes/app/config"
	"github.com/securenotes/securenotes/controllers/internal/operand"
)

const (
	// podGrace is how long a pod may take to be scheduled, started and ready. kstatus gives the
	// scheduler as long.
	podGrace = 15 * time.Second
	// startGrace is how long the service may report that it is starting.
	startGrace = 30 * time.Second
	// jobGrace is how long the Job controller may take to create pods.
	jobGrace = 5 * time.Second
)

// Cause is why something does not become ready. The zero value means that no cause is known.
type Cause struct {
	// Reason is the reason of the condition.
	Reason string
	// Message tells what is wrong with which object.
	Message string
	// Next is what to do. It is empty if the message tells that.
	Next string
	// Reported is what the service itself reported, if that is the cause.
	Reported *config.Termination
}

// Known reports whether there is a cause.
func (c Cause) Known() bool { return c.Reason != "" }

// String returns the message of a condition: what is wrong, and the next step.
func (c Cause) String() string {
	if c.Next == "" {
		return c.Message
	}
	return strings.TrimSuffix(c.Message, ".") + ": " + c.Next
}

// OfDeployment returns why the Deployment controller can create no pod.
func OfDeployment(d *appsv1.Deployment) Cause {
	for _, condition := range d.Status.Conditions {
		if condition.Type == appsv1.DeploymentReplicaFailure && condition.Status == corev1.ConditionTrue {
			return find(evidence{creator: "Deployment " + d.Name, refusal: condition.Message})
		}
	}
	return Cause{}
}

// OfPod returns why a pod of the API is not ready.
func OfPod(pod *corev1.Pod, lookup Lookup, now time.Time) Cause {
	return find(evidence{now: now, lookup: lookup, pod: pod})
}

// OfJob returns why a Job that has not ended makes no progress. wanted is the number of pods that
// it needs.
func OfJob(job *batchv1.Job, wanted int32, pods []corev1.Pod, lookup Lookup, now time.Time) Cause {
	own := newestPods(job, wanted, pods)
	e := evidence{now: now, lookup: lookup, creator: "Job " + job.Name, job: job}
	counted := job.Status.Succeeded
	for _, pod := range own {
		if pod.Status.Phase != corev1.PodFailed && pod.Status.Phase != corev1.PodSucceeded {
			counted++
		}
	}
	if counted < wanted && olderThan(job.CreationTimestamp, jobGrace, now) {
		e.refusal = lookup.message(job, "FailedCreate")
		e.noPods = len(own) == 0 && e.overdue(job.CreationTimestamp)
	}
	if c := find(e); c.Known() {
		return c
	}
	for _, pod := range own {
		e := evidence{now: now, lookup: lookup, creator: e.creator, job: job, pod: pod}
		if c := find(e); c.Known() {
			return c
		}
	}
	return Cause{}
}

// newestPods returns the newest pod of each index of the Job, in the order of the indexes.
func newestPods(job *batchv1.Job, wanted int32, pods []corev1.Pod) []*corev1.Pod {
	byIndex := make([]*corev1.Pod, max(wanted, 0))
	for i := range pods {
		pod := &pods[i]
		if !metav1.IsControlledBy(pod, job) {
			continue
		}
		index, ok := podIndex(job, wanted, pod)
		if !ok {
			continue
		}
		if other := byIndex[index]; other == nil || other.CreationTimestamp.Before(&pod.CreationTimestamp) {
			byIndex[index] = pod
		}
	}
	return slices.DeleteFunc(byIndex, func(pod *corev1.Pod) bool { return pod == nil })
}

// podIndex returns the index of a pod of an indexed Job, which is part of the pod's name. Anyone
// who may create pods can create one that names the Job as its controller. A pod without a valid
// index is therefore ignored.
func podIndex(job *batchv1.Job, wanted int32, pod *corev1.Pod) (index int, ok bool) {
	text, _, _ := strings.Cut(strings.TrimPrefix(pod.Name, job.Name+"-"), "-")
	index, err := strconv.Atoi(text)
	return index, err == nil && index >= 0 && index < int(wanted) && strconv.Itoa(index) == text
}

// evidence is the input of the rules. They are applied first without a pod, to the creator of the
// pods, and then to each pod.
type evidence struct {
	now    time.Time
	lookup Lookup
	// creator is the object that creates the pods, such as "Job NAME".
	creator string
	// refusal is the API server's message when it refused a pod.
	refusal string
	// job is set if the pods belong to a Job. noPods is true if it should have pods by now.
	job    *batchv1.Job
	noPods bool
	pod    *corev1.Pod
}

// overdue reports whether what began at since has had more than its grace period.
func (e *evidence) overdue(since metav1.Time) bool { return olderThan(since, podGrace, e.now) }

func olderThan(since metav1.Time, than time.Duration, now time.Time) bool {
	return !since.IsZero() && now.Sub(since.Time) >= than
}

// find returns the cause of the first rule that applies to the evidence.
func find(e evidence) Cause {
	for _, rule := range rules {
		c := rule.find(&e)
		if c.Message == "" {
			continue
		}
		if c.Reason == "" {
			c.Reason = rule.reason
		}
		if c.Next == "" && c.Reported == nil {
			c.Next = rule.next
		}
		return c
	}
	return Cause{}
}

// initialized reports whether the migration has succeeded and no init container has failed. An init
// container that runs beside the others, as an injected one may, has not failed.
func initialized(pod *corev1.Pod) bool {
	for _, status := range pod.Status.InitContainerStatuses {
		all := terminations(status)
		if status.State.Running == nil && len(all) > 0 && all[0].ExitCode != 0 {
			return false
		}
		if status.Name == operand.MigrateContainer && !succeeded(status) {
			return false
		}
	}
	return true
}

func succeeded(status corev1.ContainerStatus) bool {
	return status.State.Terminated != nil && status.State.Terminated.ExitCode == 0
}
