package operand

import (
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

// volumeUsers selects every pod of an object. With an embedded database, all of them mount its
// volume.
func volumeUsers(sn client.Object) corev1.PodAffinityTerm {
	return corev1.PodAffinityTerm{
		TopologyKey:   corev1.LabelHostname,
		LabelSelector: &metav1.LabelSelector{MatchLabels: map[string]string{labelName: product, LabelInstance: sn.GetName()}},
	}
}

// requireVolumeNode returns an affinity that keeps a Job on the node of the pods that mount the
// embedded database's volume, because only one node at a time can. A pod that matches its own term
// may run on any node while no other pod matches, so the Job runs without the API, too.
func requireVolumeNode(sn client.Object) *corev1.Affinity {
	return &corev1.Affinity{PodAffinity: &corev1.PodAffinity{
		RequiredDuringSchedulingIgnoredDuringExecution: []corev1.PodAffinityTerm{volumeUsers(sn)},
	}}
}

// preferVolumeNode adds a preference to the tenant's affinity: the API starts on the node of a Job
// that has mounted the embedded database's volume. It is only a preference, because a Job on a lost
// node must not block the API.
func preferVolumeNode(sn client.Object, chosen *corev1.Affinity) *corev1.Affinity {
	affinity := chosen.DeepCopy()
	if affinity == nil {
		affinity = &corev1.Affinity{}
	}
	if affinity.PodAffinity == nil {
		affinity.PodAffinity = &corev1.PodAffinity{}
	}
	preferred := &affinity.PodAffinity.PreferredDuringSchedulingIgnoredDuringExecution
	*preferred = append(*preferred, corev1.WeightedPodAffinityTerm{Weight: 100, PodAffinityTerm: volumeUsers(sn)})
	return affinity
}

// preferOtherZones adds a preference to the tenant's affinity: the API's pods run in different
// zones. It prevents no pod from running, and has no effect if nodes have no zones.
func preferOtherZones(sn client.Object, chosen *corev1.Affinity) *corev1.Affinity {
	affinity := chosen.DeepCopy()
	if affinity == nil {
		affinity = &corev1.Affinity{}
	}
	if affinity.PodAntiAffinity == nil {
		affinity.PodAntiAffinity = &corev1.PodAntiAffinity{}
	}
	preferred := &affinity.PodAntiAffinity.PreferredDuringSchedulingIgnoredDuringExecution
	*preferred = append(*preferred, corev1.WeightedPodAffinityTerm{Weight: 100, PodAffinityTerm: corev1.PodAffinityTerm{
		TopologyKey:    corev1.LabelTopologyZone,
		LabelSelector:  &metav1.LabelSelector{MatchLabels: Selector(sn)},
		MatchLabelKeys: sameRollOut(),
	}})
	return affinity
}
