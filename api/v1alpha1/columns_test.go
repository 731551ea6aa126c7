package v1alpha1

import (
	"os"
	"testing"

	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	"sigs.k8s.io/yaml"
)

// TestColumnsHaveTheReason checks that kubectl get shows why an object is not ready or a rotation
// is blocked.
func TestColumnsHaveTheReason(t *testing.T) {
	t.Parallel()
	for kind, want := range map[string]string{
		"securenotes":   `.status.conditions[?(@.type=="Ready")].reason`,
		"keyrotations":  ".status.reason",
		"notesbackups":  ".status.reason",
		"notesrestores": ".status.reason",
	} {
		raw, err := os.ReadFile("../../config/crd/bases/securenotes.dev_" + kind + ".yaml")
		if err != nil {
			t.Fatal(err)
		}
		crd := apiextensionsv1.CustomResourceDefinition{}
		if err := yaml.Unmarshal(raw, &crd); err != nil {
			t.Fatal(err)
		}
		got := ""
		for _, column := range crd.Spec.Versions[0].AdditionalPrinterColumns {
			if column.Name == "Reason" && column.Priority == 0 {
				got = column.JSONPath
			}
		}
		if got != want {
			t.Errorf("the column Reason of %s is %q, want %q", kind, got, want)
		}
	}
}
