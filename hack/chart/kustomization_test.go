package main

import (
	"os"
	"path/filepath"
	"testing"

	"sigs.k8s.io/yaml"
)

// TestKustomizations checks that kubectl can apply each folder of config/ that has a kustomization.
func TestKustomizations(t *testing.T) {
	paths, err := filepath.Glob("../../config/*/kustomization.yaml")
	if err != nil {
		t.Fatal(err)
	}
	if len(paths) == 0 {
		t.Fatal("config/ has no kustomization.yaml")
	}
	for _, path := range paths {
		t.Run(filepath.Base(filepath.Dir(path)), func(t *testing.T) {
			raw, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			var kustomization struct {
				APIVersion string   `json:"apiVersion"`
				Kind       string   `json:"kind"`
				Resources  []string `json:"resources"`
			}
			if err := yaml.UnmarshalStrict(raw, &kustomization); err != nil {
				t.Fatal(err)
			}
			if kustomization.Kind != "Kustomization" || len(kustomization.Resources) == 0 {
				t.Errorf("kind %q with %d resources, want a Kustomization with resources", kustomization.Kind, len(kustomization.Resources))
			}
			for _, resource := range kustomization.Resources {
				if _, err := os.Stat(filepath.Join(filepath.Dir(path), resource)); err != nil {
					t.Errorf("resource: %v", err)
				}
			}
		})
	}
}
