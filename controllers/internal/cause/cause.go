// Package cause finds out why something that Kubernetes is to make does not come up: pods, Jobs,
// the certificate, the volume. What is true of each is said in many places: the status of a
// Deployment, the states of containers, events, other controllers' conditions. A SecureNotes or
// KeyRotation shows one cause, the deepest, with the next step.
//
// The list of causes is in list.go, deepest first. [OfPod], [OfDeployment] and [OfJob] go through
// it; [OfClaim], [OfCertificate] and [OfError] are for what has no pods. They read nothing but what
// they are given, and [Look] where that does not say enough.
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

// patience is how long a pod may take to be scheduled, started and ready before it is asked why.
// kstatus waits as long for the scheduler.
const patience = 15 * time.Second

// startPatience is how long the service may say that it is starting.
const startPatience = 30 * time.Second

// jobPatience is how long the Job controller may take to create pods.
const jobPatience = 5 * time.Second

// Cause is why something does not come up. The zero value: no cause is known.
type Cause struct {
	// Reason of a condition.
	Reason string
	// Message says what is wrong, with which object.
	Message string
	// Next is what to do; empty where the message says that.
	Next string
	// Said is what the service itself said, where that is the cause.
	Said *config.Termination
}

// Known reports whether there is a cause.
func (c Cause) Known() bool { return c.Reason != "" }

// String is the message of a condition.
func (c Cause) String() string {
	if c.Next == "" {
		return c.Message
	}
	return c.Message + ": " + c.Next
}

// OfDeployment returns why the Deployment controller can create no pod.
func OfDeployment(d *appsv1.Deployment) Cause {
	for _, condition := range d.Status.Conditions {
		if condition.Type == appsv1.DeploymentReplicaFailure && condition.Status == corev1.ConditionTrue {
			return find(evidence{maker: "Deployment " + d.Name, refused: condition.Message})
		}
	}
	return Cause{}
}

// OfPod returns why a pod of the API is not ready.
func OfPod(pod *corev1.Pod, look Look, now time.Time) Cause {
	return find(evidence{now: now, look: look, pod: pod})
}

// OfJob returns why a Job that has not ended does not come to its end. wanted is how many pods it
// needs.
func OfJob(job *batchv1.Job, wanted int32, pods []corev1.Pod, look Look, now time.Time) Cause {
	own := newest(job, wanted, pods)
	e := evidence{now: now, look: look, maker: "Job " + job.Name, job: job}
	alive := job.Status.Succeeded
	for _, pod := range own {
		if pod.Status.Phase != corev1.PodFailed && pod.Status.Phase != corev1.PodSucceeded {
			alive++
		}
	}
	if alive < wanted && older(job.CreationTimestamp, jobPatience, now) {
		e.refused = look.said(job, "FailedCreate")
		e.podless = len(own) == 0 && e.late(job.CreationTimestamp)
	}
	if c := find(e); c.Known() {
		return c
	}
	for _, pod := range own {
		e := evidence{now: now, look: look, maker: e.maker, job: job, pod: pod}
		if c := find(e); c.Known() {
			return c
		}
	}
	return Cause{}
}

// newest returns the newest pod of each index of the Job, in the order of the indexes.
func newest(job *batchv1.Job, wanted int32, pods []corev1.Pod) []*corev1.Pod {
	byIndex := make([]*corev1.Pod, max(wanted, 0))
	for i := range pods {
		pod := &pods[i]
		if !metav1.IsControlledBy(pod, job) {
			continue
		}
		index, ok := indexOf(job, wanted, pod)
		if !ok {
			continue
		}
		if other := byIndex[index]; other == nil || other.CreationTimestamp.Before(&pod.CreationTimestamp) {
			byIndex[index] = pod
		}
	}
	return slices.DeleteFunc(byIndex, func(pod *corev1.Pod) bool { return pod == nil })
}

// indexOf returns the index of a pod of an indexed Job, which its name contains. Others than the
// Job controller can create pods that the Job controls: one of no index that it has is not its own.
func indexOf(job *batchv1.Job, wanted int32, pod *corev1.Pod) (index int, ok bool) {
	text, _, _ := strings.Cut(strings.TrimPrefix(pod.Name, job.Name+"-"), "-")
	index, err := strconv.Atoi(text)
	return index, err == nil && index >= 0 && index < int(wanted) && strconv.Itoa(index) == text
}

// evidence is what the rules of the list look at. They are asked first about what makes the pods,
// and then about each pod.
type evidence struct {
	now  time.Time
	look Look
	// maker is what makes the pods, as in "Job NAME".
	maker string
	// refused is what the API server said when it refused a pod.
	refused string
	// job is set if the pods are a Job's; podless, if it is late and has none.
	job     *batchv1.Job
	podless bool
	pod     *corev1.Pod
}

func (e *evidence) late(since metav1.Time) bool { return older(since, patience, e.now) }

func older(since metav1.Time, than time.Duration, now time.Time) bool {
	return !since.IsZero() && now.Sub(since.Time) >= than
}

// find returns the first cause of the list that the evidence shows.
func find(e evidence) Cause {
	for _, rule := range list {
		c := rule.find(&e)
		if c.Message == "" {
			continue
		}
		if c.Reason == "" {
			c.Reason = rule.reason
		}
		if c.Next == "" && c.Said == nil {
			c.Next = rule.next
		}
		return c
	}
	return Cause{}
}

// initialized reports whether no init container is still to do its work or fails at it. One that
// runs beside the others, as injected ones may, has done it.
func initialized(pod *corev1.Pod) bool {
	for _, status := range pod.Status.InitContainerStatuses {
		all := ends(status)
		if status.State.Running == nil && len(all) > 0 && all[0].ExitCode != 0 {
			return false
		}
		if status.Name == operand.MigrateContainer && !done(status) {
			return false
		}
	}
	return true
}

func done(status corev1.ContainerStatus) bool {
	return status.State.Terminated != nil && status.State.Terminated.ExitCode == 0
}
