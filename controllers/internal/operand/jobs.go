package operand

import (
	"maps"
	"strings"

	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/securenotes/securenotes/api/v1alpha1"
	"github.com/securenotes/securenotes/app/config"
)

const (
	// JobContainer is the one container of every Job.
	JobContainer = "job"

	// retriesPerShard at a back-off that the Job controller caps at ten minutes: some hours of a
	// database or Vault that is away.
	retriesPerShard = 20

	// backgroundCPU is a tenth of what a pod of the API asks for.
	backgroundCPU = "10m"
)

// Work says what a rotation's Jobs are to do.
type Work struct {
	// Owner controls the Job: a KeyRotation, or the SecureNotes for a retirement.
	Owner *metav1.OwnerReference
	// Name of the Job.
	Name string
	// ToVersion that everything is moved to.
	ToVersion int64
	Strategy  v1alpha1.RotationStrategy
	Shards    int32
	// Urgent work is not held back, neither by spec.keyRotation.maxNotesPerSecond nor to make way for users.
	Urgent bool
	// LeastCPU is what the namespace lets a container ask for at least; see LeastCPU.
	LeastCPU resource.Quantity
	// EndSessions, when it is set, ends every session that began then or before.
	EndSessions *metav1.Time
}

// ReencryptJob moves every key, and for Reencrypt every note, to the new version: an Indexed Job
// with one pod for each shard of the owners.
func ReencryptJob(sn *v1alpha1.SecureNotes, env Environment, work Work) *batchv1.Job {
	reencryption := config.Reencryption{
		Rotation: work.rotation(), Shards: work.Shards,
		ProgressConfigMap: sn.Namespace + "/" + ProgressName(sn.Name), Job: work.Name,
		MaxNotesPerSecond: ResolveRotation(sn).MaxNotesPerSecond,
	}
	if work.EndSessions != nil {
		reencryption.EndSessions = work.EndSessions.Time
	}
	job := job(sn, env, work, ComponentRotation, work.Shards, reencryption.Args()...)
	// The one token of the API server that any pod of ours gets: to report progress.
	job.Spec.Template.Spec.AutomountServiceAccountToken = new(true)
	return job
}

// VerifyJob checks, in a fresh process, that nothing is below the new version and every key works.
func VerifyJob(sn *v1alpha1.SecureNotes, env Environment, work Work) *batchv1.Job {
	return job(sn, env, work, ComponentVerify, 1, work.rotation().VerifyArgs()...)
}

func (w Work) rotation() config.Rotation {
	return config.Rotation{ToVersion: w.ToVersion, Strategy: string(w.Strategy), Urgent: w.Urgent}
}

func job(sn *v1alpha1.SecureNotes, env Environment, work Work, component string, pods int32, args ...string) *batchv1.Job {
	template := resolvePodTemplate(sn)
	spec := podSpec(sn, env, RotationServiceAccount(sn.Name))
	spec.RestartPolicy = corev1.RestartPolicyNever
	c := container(sn, env, JobContainer, args...)
	if !work.Urgent {
		leaveCPU(sn, c.Resources.Requests, work.LeastCPU)
	}
	spec.Containers = []corev1.Container{c}
	if IsEmbedded(sn) {
		spec.Affinity = besideVolume(sn)
	}
	object := meta(sn, work.Name, component)
	object.OwnerReferences = []metav1.OwnerReference{*work.Owner}
	return &batchv1.Job{
		ObjectMeta: object,
		Spec: batchv1.JobSpec{
			CompletionMode:   new(batchv1.IndexedCompletion),
			Completions:      new(pods),
			Parallelism:      new(pods),
			BackoffLimit:     new(pods * retriesPerShard),
			PodFailurePolicy: podFailurePolicy(),
			Template: corev1.PodTemplateSpec{
				ObjectMeta: metav1.ObjectMeta{
					Labels:      overlay(Labels(sn, component), withoutJobLabels(template.Labels)),
					Annotations: template.Annotations,
				},
				Spec: spec,
			},
		},
	}
}

// withoutJobLabels leaves out what the Job controller sets: the API server takes no Job that does.
// Objects that were stored before their validation refused such labels may still have them.
func withoutJobLabels(labels map[string]string) map[string]string {
	kept := maps.Clone(labels)
	maps.DeleteFunc(kept, func(key, _ string) bool {
		return key == "job-name" || key == "controller-uid" || strings.HasPrefix(key, "batch.kubernetes.io/")
	})
	return kept
}

// leaveCPU asks for little CPU. Where pods compete for a processor they get it in proportion to their
// requests, so that the API's pods go first; a nice value would count among the processes of one pod only.
// What the tenant asks for is left: the namespace may require it.
// So is what a LimitRange asks for: no pod would be made with less.
func leaveCPU(sn *v1alpha1.SecureNotes, requests corev1.ResourceList, least resource.Quantity) {
	if sn.Spec.Resources != nil {
		return
	}
	request := resource.MustParse(backgroundCPU)
	if least.Cmp(request) > 0 {
		request = least
	}
	requests[corev1.ResourceCPU] = request
}

// LeastCPU is the least that the LimitRanges of a namespace let a container, or a pod of one, ask
// for.
func LeastCPU(ranges []corev1.LimitRange) resource.Quantity {
	least := resource.Quantity{}
	for _, limits := range ranges {
		for _, item := range limits.Spec.Limits {
			bound := item.Type == corev1.LimitTypeContainer || item.Type == corev1.LimitTypePod
			if lowest, ok := item.Min[corev1.ResourceCPU]; ok && bound && lowest.Cmp(least) > 0 {
				least = lowest
			}
		}
	}
	return least
}

// podFailurePolicy ends the Job at once where trying again cannot help, and does not count pods that
// were evicted or drained.
func podFailurePolicy() *batchv1.PodFailurePolicy {
	return &batchv1.PodFailurePolicy{Rules: []batchv1.PodFailurePolicyRule{
		{
			Action: batchv1.PodFailurePolicyActionFailJob,
			OnExitCodes: &batchv1.PodFailurePolicyOnExitCodesRequirement{
				ContainerName: new(JobContainer), Operator: batchv1.PodFailurePolicyOnExitCodesOpIn,
				Values: []int32{config.ExitConfiguration, config.ExitSuperseded},
			},
		},
		{
			Action: batchv1.PodFailurePolicyActionIgnore,
			OnPodConditions: []batchv1.PodFailurePolicyOnPodConditionsPattern{
				{Type: corev1.DisruptionTarget, Status: corev1.ConditionTrue},
			},
		},
	}}
}
