package operand

import (
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/securenotes/securenotes/api/v1alpha1"
	"github.com/securenotes/securenotes/app/config"
)

const (
	// vaultTokenSeconds is the lifetime of the projected token. The kubelet renews it after 80 %.
	vaultTokenSeconds = 3600

	portHTTPS   = "https"
	portMetrics = "metrics"
)

// podSpec returns what the pods of the API and of Jobs have in common: the restricted Pod Security
// Standard, the volumes, and the tenant's pod template.
func podSpec(sn *v1alpha1.SecureNotes, env Environment, serviceAccount string) corev1.PodSpec {
	template := resolvePodTemplate(sn)
	spec := corev1.PodSpec{
		ServiceAccountName:           serviceAccount,
		AutomountServiceAccountToken: new(false),
		EnableServiceLinks:           new(false),
		SecurityContext: &corev1.PodSecurityContext{
			RunAsNonRoot:   new(true),
			RunAsUser:      new(int64(config.UserID)),
			RunAsGroup:     new(int64(config.UserID)),
			FSGroup:        new(int64(config.UserID)),
			SeccompProfile: &corev1.SeccompProfile{Type: corev1.SeccompProfileTypeRuntimeDefault},
			// Otherwise every start would walk through a large volume.
			FSGroupChangePolicy: new(corev1.FSGroupChangeOnRootMismatch),
		},
		NodeSelector:      template.NodeSelector,
		Tolerations:       template.Tolerations,
		PriorityClassName: template.PriorityClassName,
		Volumes:           volumes(sn, env),
	}
	for _, ref := range template.ImagePullSecrets {
		spec.ImagePullSecrets = append(spec.ImagePullSecrets, corev1.LocalObjectReference{Name: ref.Name})
	}
	return spec
}

// container returns a container with the mounts of all subcommands.
func container(sn *v1alpha1.SecureNotes, env Environment, name string, args ...string) corev1.Container {
	return corev1.Container{
		Name:                     name,
		Image:                    env.Image,
		ImagePullPolicy:          env.PullPolicy,
		Command:                  []string{config.Executable},
		Args:                     args,
		Resources:                resolveResources(sn),
		VolumeMounts:             mounts(sn),
		TerminationMessagePath:   config.TerminationLog,
		TerminationMessagePolicy: corev1.TerminationMessageReadFile,
		SecurityContext: &corev1.SecurityContext{
			AllowPrivilegeEscalation: new(false),
			ReadOnlyRootFilesystem:   new(true),
			RunAsNonRoot:             new(true),
			Capabilities:             &corev1.Capabilities{Drop: []corev1.Capability{"ALL"}},
			SeccompProfile:           &corev1.SeccompProfile{Type: corev1.SeccompProfileTypeRuntimeDefault},
		},
	}
}

func volumes(sn *v1alpha1.SecureNotes, env Environment) []corev1.Volume {
	all := []corev1.Volume{
		{Name: "config", VolumeSource: corev1.VolumeSource{ConfigMap: &corev1.ConfigMapVolumeSource{
			LocalObjectReference: corev1.LocalObjectReference{Name: ConfigMapName(sn.Name)},
		}}},
		{Name: "vault-token", VolumeSource: corev1.VolumeSource{Projected: &corev1.ProjectedVolumeSource{
			Sources: []corev1.VolumeProjection{{ServiceAccountToken: &corev1.ServiceAccountTokenProjection{
				Audience: env.Connection.Audience, ExpirationSeconds: new(int64(vaultTokenSeconds)), Path: config.TokenFile,
			}}},
		}}},
	}
	if IsEmbedded(sn) {
		return append(all, corev1.Volume{Name: "data", VolumeSource: corev1.VolumeSource{
			PersistentVolumeClaim: &corev1.PersistentVolumeClaimVolumeSource{ClaimName: ClaimName(sn.Name)},
		}})
	}
	all = append(all, secretKeyVolume("database", sn.Spec.Database.Postgres.URISecretRef, config.URIFile))
	if ref := sn.Spec.Database.Postgres.CASecretRef; ref != nil {
		all = append(all, secretKeyVolume("database-ca", *ref, config.CAFile))
	}
	return all
}

// secretKeyVolume returns an optional volume. If the Secret is missing, the pod starts and the
// service reports it.
func secretKeyVolume(name string, ref v1alpha1.SecretKeyReference, file string) corev1.Volume {
	return corev1.Volume{Name: name, VolumeSource: corev1.VolumeSource{Secret: &corev1.SecretVolumeSource{
		SecretName: ref.Name, Optional: new(true), Items: []corev1.KeyToPath{{Key: ref.Key, Path: file}},
	}}}
}

func mounts(sn *v1alpha1.SecureNotes) []corev1.VolumeMount {
	all := []corev1.VolumeMount{
		{Name: "config", MountPath: config.ConfigDirectory, ReadOnly: true},
		{Name: "vault-token", MountPath: config.VaultTokenDirectory, ReadOnly: true},
	}
	if IsEmbedded(sn) {
		return append(all, corev1.VolumeMount{Name: "data", MountPath: config.DataDirectory})
	}
	all = append(all, corev1.VolumeMount{Name: "database", MountPath: config.DatabaseDirectory, ReadOnly: true})
	if sn.Spec.Database.Postgres.CASecretRef != nil {
		all = append(all, corev1.VolumeMount{Name: "database-ca", MountPath: config.DatabaseCADirectory, ReadOnly: true})
	}
	return all
}

// spread returns the tenant's constraints, or by default one over nodes, which prevents no pod from
// running. There is no second one over zones: the scheduler excludes a node without the label of
// one constraint from all of them. See preferOtherZones.
func spread(sn *v1alpha1.SecureNotes) []corev1.TopologySpreadConstraint {
	if chosen := resolvePodTemplate(sn).TopologySpreadConstraints; chosen != nil {
		return *chosen
	}
	if IsEmbedded(sn) {
		return nil
	}
	return []corev1.TopologySpreadConstraint{{
		MaxSkew: 1, TopologyKey: corev1.LabelHostname, WhenUnsatisfiable: corev1.ScheduleAnyway,
		LabelSelector:  &metav1.LabelSelector{MatchLabels: Selector(sn)},
		MatchLabelKeys: sameRollOut(),
	}}
}

// sameRollOut counts only pods of the same roll-out. Otherwise an update ends with an uneven
// distribution.
func sameRollOut() []string { return []string{appsv1.DefaultDeploymentUniqueLabelKey} }
