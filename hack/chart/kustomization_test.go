package main

import (
	"os"
	"path/filepath"
	"slices"
	"testing"

	"sigs.k8s.io/yaml"
)

// TestKustomizations checks that kubectl can apply each folder of config/ that has a kustomization,
// and that the kustomization names all files. That of the samples names some of them only.
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
			files, err := filepath.Glob(filepath.Join(filepath.Dir(path), "*.yaml"))
			if err != nil {
				t.Fatal(err)
			}
			bases, err := filepath.Glob(filepath.Join(filepath.Dir(path), "bases", "*.yaml"))
			if err != nil {
				t.Fatal(err)
			}
			for _, file := range append(files, bases...) {
				name, err := filepath.Rel(filepath.Dir(path), file)
				if err != nil {
					t.Fatal(err)
				}
				if name != "kustomization.yaml" && filepath.Base(filepath.Dir(path)) != "samples" && !slices.Contains(kustomization.Resources, name) {
					t.Errorf("%s is not among the resources", name)
				}
			}
			for _, resource := range kustomization.Resources {
				if _, err := os.Stat(filepath.Join(filepath.Dir(path), resource)); err != nil {
					t.Errorf("resource: %v", err)
				}
			}
		})
	}
}
