package operand

import (
	"testing"

	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/securenotes/securenotes/api/v1alpha1"
)

// defaulted sets what the API server sets in a Job.
func defaulted(job *batchv1.Job) {
	job.Spec.Selector = &metav1.LabelSelector{MatchLabels: map[string]string{batchv1.ControllerUidLabel: "uid"}}
	job.Spec.ManualSelector, job.Spec.Suspend = new(false), new(false)
	job.Spec.PodReplacementPolicy = new(batchv1.Failed)
	job.Spec.Template.Labels[batchv1.ControllerUidLabel] = "uid"
	pod := &job.Spec.Template.Spec
	pod.DNSPolicy, pod.SchedulerName, pod.TerminationGracePeriodSeconds = corev1.DNSClusterFirst, corev1.DefaultSchedulerName, new(int64(30))
	pod.DeprecatedServiceAccount = pod.ServiceAccountName
	for i := range pod.Volumes {
		switch v := &pod.Volumes[i]; {
		case v.ConfigMap != nil:
			v.ConfigMap.DefaultMode = new(int32(0o644))
		case v.Secret != nil:
			v.Secret.DefaultMode = new(int32(0o644))
		case v.Projected != nil:
			v.Projected.DefaultMode = new(int32(0o644))
		}
	}
}

func TestDifference(t *testing.T) {
	t.Parallel()
	pod := func(change func(*corev1.PodSpec)) func(*batchv1.Job) {
		return func(job *batchv1.Job) { change(&job.Spec.Template.Spec) }
	}
	container := func(change func(*corev1.Container)) func(*batchv1.Job) {
		return func(job *batchv1.Job) { change(&job.Spec.Template.Spec.Containers[0]) }
	}
	for name, tc := range map[string]struct {
		change func(*batchv1.Job)
		want   string
	}{
		"nothing":                {change: func(*batchv1.Job) {}, want: ""},
		"a label of the pods":    {change: func(job *batchv1.Job) { job.Spec.Template.Labels["a"] = "b" }, want: ""},
		"image":                  {change: container(func(c *corev1.Container) { c.Image = "other" }), want: "image"},
		"command":                {change: container(func(c *corev1.Container) { c.Command = []string{"true"} }), want: "command"},
		"arguments":              {change: container(func(c *corev1.Container) { c.Args = c.Args[:1] }), want: "arguments"},
		"environment":            {change: container(func(c *corev1.Container) { c.Env = []corev1.EnvVar{{Name: "A"}} }), want: "environment"},
		"another mount":          {change: container(func(c *corev1.Container) { c.VolumeMounts[0].SubPath = "x" }), want: "volumes"},
		"another hook":           {change: container(func(c *corev1.Container) { c.Lifecycle = &corev1.Lifecycle{} }), want: "container"},
		"a second container":     {change: pod(func(p *corev1.PodSpec) { p.Containers = append(p.Containers, p.Containers[0]) }), want: "containers"},
		"no container":           {change: pod(func(p *corev1.PodSpec) { p.Containers = nil }), want: "containers"},
		"an init container":      {change: pod(func(p *corev1.PodSpec) { p.InitContainers = p.Containers }), want: "containers"},
		"another volume":         {change: pod(func(p *corev1.PodSpec) { p.Volumes[0].ConfigMap.Name = "other" }), want: "volumes"},
		"another mode":           {change: pod(func(p *corev1.PodSpec) { p.Volumes[0].ConfigMap.DefaultMode = new(int32(0)) }), want: "volumes"},
		"another account":        {change: pod(func(p *corev1.PodSpec) { p.ServiceAccountName = "other" }), want: "service account"},
		"another name server":    {change: pod(func(p *corev1.PodSpec) { p.DNSConfig = &corev1.PodDNSConfig{Nameservers: []string{"192.0.2.1"}} }), want: "pod"},
		"another network":        {change: pod(func(p *corev1.PodSpec) { p.HostNetwork = true }), want: "pod"},
		"a success policy":       {change: func(job *batchv1.Job) { job.Spec.SuccessPolicy = &batchv1.SuccessPolicy{} }, want: "spec"},
		"fewer completions":      {change: func(job *batchv1.Job) { job.Spec.Completions = new(int32(0)) }, want: "spec"},
		"pods of another":        {change: func(job *batchv1.Job) { job.Spec.ManualSelector = new(true) }, want: "spec"},
		"managed by another":     {change: func(job *batchv1.Job) { job.Spec.ManagedBy = new("example.com/forger") }, want: "spec"},
		"ended by a deadline":    {change: func(job *batchv1.Job) { job.Spec.ActiveDeadlineSeconds = new(int64(1)) }, want: "spec"},
		"without failure policy": {change: func(job *batchv1.Job) { job.Spec.PodFailurePolicy = nil }, want: "spec"},
	} {
		t.Run(name, func(t *testing.T) {
			for _, sn := range []*v1alpha1.SecureNotes{embedded(), postgres()} {
				work := Work{Owner: metav1.NewControllerRef(sn, v1alpha1.GroupVersion.WithKind("SecureNotes")), Name: "job", ToVersion: 2, Shards: 3}
				existing := ReencryptJob(sn, environment(), work)
				defaulted(existing)
				tc.change(existing)
				if got := Difference(ReencryptJob(sn, environment(), work), existing); got != tc.want {
					t.Errorf("differs in %q, want %q", got, tc.want)
				}
			}
		})
	}
}
