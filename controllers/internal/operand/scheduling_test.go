package operand

import (
	"slices"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"

	"github.com/securenotes/securenotes/api/v1alpha1"
)

// TestOversizedTemplates checks that what is too large for the cache is dropped, and that no pod
// starts without it.
func TestOversizedTemplates(t *testing.T) {
	t.Parallel()
	large := strings.Repeat("x", maxScheduling)
	for name, tc := range map[string]struct {
		template *v1alpha1.PodTemplate
		refused  bool
	}{
		"none":              {template: nil, refused: false},
		"small":             {template: &v1alpha1.PodTemplate{Tolerations: []corev1.Toleration{{Key: "key"}}, TopologySpreadConstraints: &[]corev1.TopologySpreadConstraint{}}},
		"large affinity":    {template: &v1alpha1.PodTemplate{Affinity: &corev1.Affinity{PodAffinity: &corev1.PodAffinity{RequiredDuringSchedulingIgnoredDuringExecution: []corev1.PodAffinityTerm{{TopologyKey: large}}}}}, refused: true},
		"large tolerations": {template: &v1alpha1.PodTemplate{Tolerations: []corev1.Toleration{{Key: large[1:]}, {Key: "key"}}}, refused: true},
		"large constraints": {template: &v1alpha1.PodTemplate{TopologySpreadConstraints: &[]corev1.TopologySpreadConstraint{{TopologyKey: large}}}, refused: true},
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

// TestDefaultSpread checks that a constraint spreads pods over nodes and an affinity over zones,
// because the scheduler excludes nodes without the label of one constraint from all of them. The
// tenant's choice is kept.
func TestDefaultSpread(t *testing.T) {
	t.Parallel()
	chosen := corev1.TopologySpreadConstraint{MaxSkew: 2, TopologyKey: "rack", WhenUnsatisfiable: corev1.DoNotSchedule}
	affinity := &corev1.Affinity{PodAntiAffinity: &corev1.PodAntiAffinity{
		PreferredDuringSchedulingIgnoredDuringExecution: []corev1.WeightedPodAffinityTerm{{Weight: 1, PodAffinityTerm: corev1.PodAffinityTerm{TopologyKey: "rack"}}},
	}}
	for name, tc := range map[string]struct {
		sn            *v1alpha1.SecureNotes
		template      *v1alpha1.PodTemplate
		spread, apart []string
	}{
		"default":      {sn: postgres(), spread: []string{corev1.LabelHostname}, apart: []string{corev1.LabelTopologyZone}},
		"own affinity": {sn: postgres(), template: &v1alpha1.PodTemplate{Affinity: affinity}, spread: []string{corev1.LabelHostname}, apart: []string{"rack", corev1.LabelTopologyZone}},
		"own spread":   {sn: postgres(), template: &v1alpha1.PodTemplate{TopologySpreadConstraints: &[]corev1.TopologySpreadConstraint{chosen}}, spread: []string{"rack"}},
		"none":         {sn: postgres(), template: &v1alpha1.PodTemplate{TopologySpreadConstraints: &[]corev1.TopologySpreadConstraint{}}},
		"embedded":     {sn: embedded()},
	} {
		t.Run(name, func(t *testing.T) {
			tc.sn.Spec.PodTemplate = tc.template
			template := Deployment(tc.sn, Environment{}, "hash").Spec.Template
			var spread, apart []string
			for _, constraint := range template.Spec.TopologySpreadConstraints {
				spread = append(spread, constraint.TopologyKey)
			}
			if affinity := template.Spec.Affinity; affinity != nil && affinity.PodAntiAffinity != nil {
				for _, term := range affinity.PodAntiAffinity.PreferredDuringSchedulingIgnoredDuringExecution {
					apart = append(apart, term.PodAffinityTerm.TopologyKey)
				}
			}
			if !slices.Equal(spread, tc.spread) || !slices.Equal(apart, tc.apart) {
				t.Errorf("spread over %v, apart in %v; want %v, %v", spread, apart, tc.spread, tc.apart)
			}
		})
	}
	if terms := affinity.PodAntiAffinity.PreferredDuringSchedulingIgnoredDuringExecution; len(terms) != 1 {
		t.Errorf("the object in the cache was changed: %v", terms)
	}
}
