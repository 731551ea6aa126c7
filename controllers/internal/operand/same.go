package operand

import (
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
)

// Difference returns the part in which the work of an existing Job differs from that of built;
// empty: none. Defaults of the API server are no difference. Labels and annotations of the pods do
// not count.
func Difference(built, existing *batchv1.Job) string {
	want, got := built.Spec.DeepCopy(), existing.Spec.DeepCopy()
	undefaultJob(got)
	undefaultPod(&got.Template.Spec)
	got.Template.ObjectMeta = want.Template.ObjectMeta
	w, g := &want.Template.Spec, &got.Template.Spec
	if len(g.Containers) != 1 || len(g.InitContainers) != 0 || len(g.EphemeralContainers) != 0 {
		return "containers"
	}
	wc, gc := w.Containers[0], g.Containers[0]
	for _, part := range []struct {
		name      string
		want, got any
	}{
		{"image", wc.Image, gc.Image},
		{"command", wc.Command, gc.Command},
		{"arguments", wc.Args, gc.Args},
		{"environment", [2]any{wc.Env, wc.EnvFrom}, [2]any{gc.Env, gc.EnvFrom}},
		{"volumes", [2]any{w.Volumes, wc.VolumeMounts}, [2]any{g.Volumes, gc.VolumeMounts}},
		{"container", wc, gc},
		{"service account", w.ServiceAccountName, g.ServiceAccountName},
		{"pod", *w, *g},
		{"spec", *want, *got},
	} {
		if !equality.Semantic.DeepEqual(part.want, part.got) {
			return part.name
		}
	}
	return ""
}

// undefaultJob unsets the fields that the API server and the Job controller set if a builder does
// not.
func undefaultJob(spec *batchv1.JobSpec) {
	if spec.ManualSelector == nil || !*spec.ManualSelector {
		spec.ManualSelector, spec.Selector = nil, nil
	}
	if spec.Suspend != nil && !*spec.Suspend {
		spec.Suspend = nil
	}
	if spec.ManagedBy != nil && *spec.ManagedBy == batchv1.JobControllerName {
		spec.ManagedBy = nil
	}
	// The time at which a terminating pod is replaced does not change the work.
	spec.PodReplacementPolicy = nil
}

func undefaultPod(spec *corev1.PodSpec) {
	if spec.DNSPolicy == corev1.DNSClusterFirst {
		spec.DNSPolicy = ""
	}
	if spec.SchedulerName == corev1.DefaultSchedulerName {
		spec.SchedulerName = ""
	}
	if seconds := spec.TerminationGracePeriodSeconds; seconds != nil && *seconds == corev1.DefaultTerminationGracePeriodSeconds {
		spec.TerminationGracePeriodSeconds = nil
	}
	if spec.DeprecatedServiceAccount == spec.ServiceAccountName {
		spec.DeprecatedServiceAccount = ""
	}
	for i := range spec.Volumes {
		volume := &spec.Volumes[i]
		var mode **int32
		switch {
		case volume.ConfigMap != nil:
			mode = &volume.ConfigMap.DefaultMode
		case volume.Secret != nil:
			mode = &volume.Secret.DefaultMode
		case volume.Projected != nil:
			mode = &volume.Projected.DefaultMode
		default:
			continue
		}
		if *mode != nil && **mode == corev1.ConfigMapVolumeSourceDefaultMode {
			*mode = nil
		}
	}
}
