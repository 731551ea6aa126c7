package securenotes

import (
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
)

func TestVolumeSize(t *testing.T) {
	t.Parallel()
	sized := func(request, capacity string) *corev1.PersistentVolumeClaim {
		claim := &corev1.PersistentVolumeClaim{}
		claim.Name, claim.Status.Phase = "notes-data", corev1.ClaimPending
		if request != "" {
			claim.Spec.Resources.Requests = corev1.ResourceList{corev1.ResourceStorage: resource.MustParse(request)}
		}
		if capacity != "" {
			claim.Status.Phase = corev1.ClaimBound
			claim.Status.Capacity = corev1.ResourceList{corev1.ResourceStorage: resource.MustParse(capacity)}
		}
		return claim
	}
	for name, tc := range map[string]struct {
		wanted                string
		existing              *corev1.PersistentVolumeClaim
		size, request, advice string
	}{
		"no claim yet":                    {wanted: "1Gi", existing: &corev1.PersistentVolumeClaim{}, request: "1Gi"},
		"no volume yet":                   {wanted: "1Gi", existing: sized("1Gi", ""), request: "1Gi"},
		"lowered before there is one":     {wanted: "1Gi", existing: sized("4Ti", ""), request: "1Gi", advice: "notes-data has no volume yet: delete it"},
		"as it is":                        {wanted: "2Gi", existing: sized("2Gi", "2Gi"), size: "2Gi", request: "2Gi"},
		"raised":                          {wanted: "4Gi", existing: sized("2Gi", "2Gi"), size: "2Gi", request: "4Gi", advice: "back to 2Gi"},
		"raised, in a volume rounded up":  {wanted: "4Gi", existing: sized("2Gi", "10Gi"), size: "2Gi", request: "4Gi", advice: "back to 2Gi"},
		"back after a failed expansion":   {wanted: "2Gi", existing: sized("4Gi", "2Gi"), size: "2Gi", request: "4Gi"},
		"between, after one that failed":  {wanted: "3Gi", existing: sized("4Gi", "2Gi"), size: "2Gi", request: "3Gi", advice: "back to 2Gi"},
		"less than the volume":            {wanted: "1Gi", existing: sized("2Gi", "2Gi"), size: "2Gi", request: "2Gi"},
		"a volume of thousands, not 1024": {wanted: "4Gi", existing: sized("2G", "2G"), size: "1953125Ki", request: "4Gi", advice: "back to 1953125Ki"},
	} {
		t.Run(name, func(t *testing.T) {
			desired := sized(tc.wanted, "")
			keepRequest(desired, tc.existing)
			if got := sizeText(volumeSize(tc.existing)); got != tc.size {
				t.Errorf("size %q, want %q", got, tc.size)
			}
			if got := desired.Spec.Resources.Requests[corev1.ResourceStorage]; got.Cmp(resource.MustParse(tc.request)) != 0 {
				t.Errorf("request %s, want %s", got.String(), tc.request)
			}
			if got := sizeAdvice(desired, tc.existing); (got == "") != (tc.advice == "") || !strings.Contains(got, tc.advice) {
				t.Errorf("advice %q, want %q", got, tc.advice)
			}
		})
	}
}
