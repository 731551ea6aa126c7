package operand

import (
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

// mounting selects every pod of an object. With an embedded database each of them mounts its
// volume.
func mounting(sn client.Object) corev1.PodAffinityTerm {
	return corev1.PodAffinityTerm{
		TopologyKey:   corev1.LabelHostname,
		LabelSelector: &metav1.LabelSelector{MatchLabels: map[string]string{labelName: product, LabelInstance: sn.GetName()}},
	}
}

// besideVolume keeps a Job on the node of the pods that mount the embedded database's volume: one
// node at a time may do so. A Job matches its own term, and the scheduler lets such a pod go
// anywhere while no other pod matches, so that it also runs when the API does not.
func besideVolume(sn client.Object) *corev1.Affinity {
	return &corev1.Affinity{PodAffinity: &corev1.PodAffinity{
		RequiredDuringSchedulingIgnoredDuringExecution: []corev1.PodAffinityTerm{mounting(sn)},
	}}
}

// nearVolume adds to what the tenant wishes for that the API starts on the node of a Job that has
// the embedded database's volume. It is no condition: a Job on a node that is lost must not hold up
// the API.
func nearVolume(sn client.Object, wished *corev1.Affinity) *corev1.Affinity {
	affinity := wished.DeepCopy()
	if affinity == nil {
		affinity = &corev1.Affinity{}
	}
	if affinity.PodAffinity == nil {
		affinity.PodAffinity = &corev1.PodAffinity{}
	}
	preferred := &affinity.PodAffinity.PreferredDuringSchedulingIgnoredDuringExecution
	*preferred = append(*preferred, corev1.WeightedPodAffinityTerm{Weight: 100, PodAffinityTerm: mounting(sn)})
	return affinity
}

// apartInZones adds to what the tenant wishes for that the API's pods are in different zones. Where
// nodes have no zones it does nothing, and it keeps no pod from running.
func apartInZones(sn client.Object, wished *corev1.Affinity) *corev1.Affinity {
	affinity := wished.DeepCopy()
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
