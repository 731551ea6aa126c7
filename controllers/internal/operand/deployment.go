package operand

import (
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	policyv1 "k8s.io/api/policy/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"

	"github.com/securenotes/securenotes/api/v1alpha1"
	"github.com/securenotes/securenotes/app/config"
)

const (
	// MigrateContainer prepares the database.
	MigrateContainer = "migrate"
	// APIContainer serves.
	APIContainer = "api"
)

// Deployment returns the API's Deployment.
func Deployment(sn *v1alpha1.SecureNotes, env Environment, configHash string) *appsv1.Deployment {
	template := resolvePodTemplate(sn)
	spec := podSpec(sn, env, APIServiceAccount(sn.Name))
	spec.TerminationGracePeriodSeconds = new(int64(config.GracePeriod / time.Second))
	spec.Affinity = template.Affinity
	if IsEmbedded(sn) {
		spec.Affinity = preferVolumeNode(sn, template.Affinity)
	} else if template.TopologySpreadConstraints == nil {
		spec.Affinity = preferOtherZones(sn, template.Affinity)
	}
	spec.TopologySpreadConstraints = spread(sn)
	spec.InitContainers = []corev1.Container{container(sn, env, MigrateContainer, config.MigrateArgs()...)}
	spec.Volumes = append(spec.Volumes, corev1.Volume{Name: "tls", VolumeSource: corev1.VolumeSource{
		Secret: &corev1.SecretVolumeSource{SecretName: TLSSecretName(sn, env)},
	}})
	spec.Volumes = append(spec.Volumes, redisVolumes(sn)...)
	spec.Containers = []corev1.Container{apiContainer(sn, env)}

	return &appsv1.Deployment{
		ObjectMeta: meta(sn, sn.Name, ComponentAPI),
		Spec: appsv1.DeploymentSpec{
			Replicas:             new(Replicas(sn)),
			Selector:             &metav1.LabelSelector{MatchLabels: Selector(sn)},
			RevisionHistoryLimit: new(int32(3)),
			Strategy:             strategy(sn),
			Template: corev1.PodTemplateSpec{
				ObjectMeta: metav1.ObjectMeta{
					Labels:      overlay(Labels(sn, ComponentAPI), template.Labels),
					Annotations: overlay(podAnnotations(env, configHash), template.Annotations),
				},
				Spec: spec,
			},
		},
	}
}

// podAnnotations returns annotations whose change restarts the pods.
func podAnnotations(env Environment, configHash string) map[string]string {
	annotations := map[string]string{annotationConfigHash: configHash}
	if env.SessionKeys != "" {
		annotations[annotationSessionKeys] = env.SessionKeys
	}
	return annotations
}

// Restarted reports whether every pod of the API started with the session keys of the entry, and so
// with a token of the recreated service account. deployment is nil if there is none.
func Restarted(entry string, deployment *appsv1.Deployment, pods []corev1.Pod) bool {
	if deployment != nil && (deployment.Spec.Template.Annotations[annotationSessionKeys] != entry || deployment.Status.ObservedGeneration < deployment.Generation) {
		// There may still be new pods of the old template.
		return false
	}
	for _, pod := range pods {
		ended := pod.Status.Phase == corev1.PodSucceeded || pod.Status.Phase == corev1.PodFailed
		if !ended && pod.Annotations[annotationSessionKeys] != entry {
			return false
		}
	}
	return true
}

// RolledOut reports whether every pod of the API is of the current template.
func RolledOut(d *appsv1.Deployment) bool {
	return d.Status.ObservedGeneration >= d.Generation && d.Status.UpdatedReplicas == d.Status.Replicas
}

// strategy keeps all replicas available during a roll-out. Only one process may serve an embedded
// database, so its old pod is stopped first.
func strategy(sn *v1alpha1.SecureNotes) appsv1.DeploymentStrategy {
	if IsEmbedded(sn) {
		return appsv1.DeploymentStrategy{Type: appsv1.RecreateDeploymentStrategyType}
	}
	return appsv1.DeploymentStrategy{
		Type: appsv1.RollingUpdateDeploymentStrategyType,
		RollingUpdate: &appsv1.RollingUpdateDeployment{
			MaxUnavailable: new(intstr.FromInt32(0)), MaxSurge: new(intstr.FromInt32(1)),
		},
	}
}

func apiContainer(sn *v1alpha1.SecureNotes, env Environment) corev1.Container {
	c := container(sn, env, APIContainer, config.ServeArgs(env.SessionKeys, env.SessionKeysDigest)...)
	c.VolumeMounts = append(c.VolumeMounts, corev1.VolumeMount{Name: "tls", MountPath: config.TLSDirectory, ReadOnly: true})
	c.VolumeMounts = append(c.VolumeMounts, redisMounts(sn)...)
	c.Ports = []corev1.ContainerPort{
		{Name: portHTTPS, ContainerPort: config.PortHTTPS, Protocol: corev1.ProtocolTCP},
		{Name: portMetrics, ContainerPort: config.PortMetrics, Protocol: corev1.ProtocolTCP},
	}
	c.StartupProbe = probe(config.PathLive, 2, 60)
	c.LivenessProbe = probe(config.PathLive, 10, 3)
	c.ReadinessProbe = probe(config.PathReady, 5, 2)
	return c
}

// redisVolumes returns volumes with the Secrets of spec.rateLimits.redis, which only the API needs.
func redisVolumes(sn *v1alpha1.SecureNotes) []corev1.Volume {
	if sn.Spec.RateLimits == nil || sn.Spec.RateLimits.Redis == nil {
		return nil
	}
	all := []corev1.Volume{secretKeyVolume("redis", sn.Spec.RateLimits.Redis.URISecretRef, config.URIFile)}
	if ref := sn.Spec.RateLimits.Redis.CASecretRef; ref != nil {
		all = append(all, secretKeyVolume("redis-ca", *ref, config.CAFile))
	}
	return all
}

func redisMounts(sn *v1alpha1.SecureNotes) []corev1.VolumeMount {
	if sn.Spec.RateLimits == nil || sn.Spec.RateLimits.Redis == nil {
		return nil
	}
	all := []corev1.VolumeMount{{Name: "redis", MountPath: config.RedisDirectory, ReadOnly: true}}
	if sn.Spec.RateLimits.Redis.CASecretRef != nil {
		all = append(all, corev1.VolumeMount{Name: "redis-ca", MountPath: config.RedisCADirectory, ReadOnly: true})
	}
	return all
}

func probe(path string, period, failures int32) *corev1.Probe {
	return &corev1.Probe{
		ProbeHandler: corev1.ProbeHandler{HTTPGet: &corev1.HTTPGetAction{
			Path: path, Port: intstr.FromString(portMetrics), Scheme: corev1.URISchemeHTTP,
		}},
		PeriodSeconds: period, FailureThreshold: failures, TimeoutSeconds: 5,
	}
}

// DisruptionBudget returns a budget that lets drains evict one pod at a time. It is nil with one
// replica, where it would forbid every drain or have no effect.
func DisruptionBudget(sn *v1alpha1.SecureNotes) *policyv1.PodDisruptionBudget {
	if Replicas(sn) < 2 {
		return nil
	}
	return &policyv1.PodDisruptionBudget{
		ObjectMeta: meta(sn, sn.Name, ComponentAPI),
		Spec: policyv1.PodDisruptionBudgetSpec{
			MaxUnavailable: new(intstr.FromInt32(1)),
			Selector:       &metav1.LabelSelector{MatchLabels: Selector(sn)},
			// A pod that is not ready serves nobody and must not block a drain.
			UnhealthyPodEvictionPolicy: new(policyv1.AlwaysAllow),
		},
	}
}
