package operand

import (
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"

	"github.com/securenotes/securenotes/api/v1alpha1"
)

// TestOversizedTemplates: what is too large for the cache is dropped there, and no pod is started
// with the rest.
func TestOversizedTemplates(t *testing.T) {
	large := strings.Repeat("x", maxScheduling)
	for name, tc := range map[string]struct {
		template *v1alpha1.PodTemplate
		refused  bool
	}{
		"none":              {nil, false},
		"small":             {&v1alpha1.PodTemplate{Tolerations: []corev1.Toleration{{Key: "key"}}, TopologySpreadConstraints: &[]corev1.TopologySpreadConstraint{}}, false},
		"large affinity":    {&v1alpha1.PodTemplate{Affinity: &corev1.Affinity{PodAffinity: &corev1.PodAffinity{RequiredDuringSchedulingIgnoredDuringExecution: []corev1.PodAffinityTerm{{TopologyKey: large}}}}}, true},
		"large tolerations": {&v1alpha1.PodTemplate{Tolerations: []corev1.Toleration{{Key: large[1:]}, {Key: "key"}}}, true},
		"large constraints": {&v1alpha1.PodTemplate{TopologySpreadConstraints: &[]corev1.TopologySpreadConstraint{{TopologyKey: large}}}, true},
	} {
		t.Run(name, func(t *testing.T) {
			sn := &v1alpha1.SecureNotes{Spec: v1alpha1.SecureNotesSpec{PodTemplate: tc.template}}
			if got := CheckResources(sn) != nil; got != tc.refused {
				t.Errorf("whole: refused %t", got)
			}
			for range 2 {
				DropOversized(sn)
			}
			if got := CheckResources(sn) != nil; got != tc.refused {
				t.Errorf("cached: refused %t", got)
			}
			if oversized(sn) {
				t.Error("it is still too large")
			}
		})
	}
}
