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
	// JobContainer is the only container of every Job.
	JobContainer = "job"

	// retriesPerShard covers a few hours without the database or Vault: the Job controller's
	// backoff is at most ten minutes.
	retriesPerShard = 20

	// backgroundCPU is a tenth of the API's default request.
	backgroundCPU = "10m"
)

// Work describes a rotation's Job.
type Work struct {
	// Owner controls the Job: a KeyRotation, or the SecureNotes for a retirement.
	Owner *metav1.OwnerReference
	// Name of the Job.
	Name string
	// ToVersion of the master key.
	ToVersion int64
	Strategy  v1alpha1.RotationStrategy
	Shards    int32
	// Urgent work has no limit by spec.keyRotation.maxNotesPerSecond, and does not pause for users.
	Urgent bool
	// LeastCPU is the lowest CPU request that the namespace allows. See [LeastCPU].
	LeastCPU resource.Quantity
	// EndSessions, if set, ends every session that started then or earlier.
	EndSessions *metav1.Time
}

// ReencryptJob returns an Indexed Job that moves every key, and with strategy Reencrypt every note,
// to the new version. It has one pod for each shard of the owners.
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
	// To report progress. No other pod gets a token for the API server.
	job.Spec.Template.Spec.AutomountServiceAccountToken = new(true)
	return job
}

// VerifyJob returns a Job that checks, in a new process, that nothing is below the new version and
// that every key unwraps.
func VerifyJob(sn *v1alpha1.SecureNotes, env Environment, work Work) *batchv1.Job {
	return job(sn, env, work, ComponentVerify, 1, work.rotation().VerifyArgs()...)
}

func (w Work) rotation() config.Rotation {
	return config.Rotation{ToVersion: w.ToVersion, Strategy: string(w.Strategy), Urgent: w.Urgent}
}

func job(sn *v1alpha1.SecureNotes, env Environment, work Work, component string, pods int32, args ...string) *batchv1.Job {
	c := container(sn, env, JobContainer, args...)
	if !work.Urgent {
		lowerCPU(sn, c.Resources.Requests, work.LeastCPU)
	}
	object := meta(sn, work.Name, component)
	object.OwnerReferences = []metav1.OwnerReference{*work.Owner}
	return jobOf(sn, object, pods, podSpec(sn, env, RotationServiceAccount(sn.Name)), c)
}

// jobOf returns an Indexed Job with the container c in a pod of spec.
func jobOf(sn *v1alpha1.SecureNotes, object metav1.ObjectMeta, pods int32, spec corev1.PodSpec, c corev1.Container) *batchv1.Job {
	template := resolvePodTemplate(sn)
	spec.RestartPolicy = corev1.RestartPolicyNever
	spec.Containers = []corev1.Container{c}
	if IsEmbedded(sn) {
		spec.Affinity = requireVolumeNode(sn)
	}
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
					Labels:      overlay(object.Labels, removeJobLabels(template.Labels)),
					Annotations: template.Annotations,
				},
				Spec: spec,
			},
		},
	}
}

// removeJobLabels returns the labels without those that the Job controller sets, because the API
// server rejects a Job with them. Objects may have been stored before admission rejected such
// labels.
func removeJobLabels(labels map[string]string) map[string]string {
	kept := maps.Clone(labels)
	maps.DeleteFunc(kept, func(key, _ string) bool {
		return key == "job-name" || key == "controller-uid" || strings.HasPrefix(key, "batch.kubernetes.io/")
	})
	return kept
}

// lowerCPU sets a low CPU request, so that the API's pods have priority: pods that compete for a
// processor get it in proportion to their requests. A nice value has an effect within one pod only.
// It keeps the tenant's requests, and the minimum of a LimitRange, because the namespace may
// require them.
func lowerCPU(sn *v1alpha1.SecureNotes, requests corev1.ResourceList, least resource.Quantity) {
	if sn.Spec.Resources != nil {
		return
	}
	request := resource.MustParse(backgroundCPU)
	if least.Cmp(request) > 0 {
		request = least
	}
	requests[corev1.ResourceCPU] = request
}

// LeastCPU returns the lowest CPU request that the LimitRanges of a namespace allow for a pod with
// one container.
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

// podFailurePolicy ends the Job at once if a retry cannot help, and does not count pods that were
// evicted or drained.
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
