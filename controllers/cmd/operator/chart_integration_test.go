//go:build integration

package main

import (
	"context"
	"path/filepath"
	"strings"
	"testing"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/validation"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/securenotes/securenotes/controllers/internal/operatorconfig"
	"github.com/securenotes/securenotes/hack/testenv"
)

// TestChart: the API server accepts what the chart renders for a version with build metadata, and
// for names that YAML reads as numbers. A release can be installed beside CRDs that another release
// has left or uses.
func TestChart(t *testing.T) {
	t.Parallel()
	c, _ := shared(t)
	helm := func(arguments ...string) (string, error) { return testenv.Helm(t, c.rest, arguments...) }
	installed := func(t *testing.T, arguments ...string) {
		t.Helper()
		if out, err := helm(append([]string{"install"}, arguments...)...); err != nil {
			t.Fatalf("%v: %s", err, out)
		}
		t.Cleanup(func() {
			if out, err := helm("uninstall", arguments[0], "--namespace", arguments[3]); err != nil {
				t.Errorf("uninstall: %v: %s", err, out)
			}
		})
	}
	// With the CRDs, and the roles of users, of another release.
	beside := []string{"--set", "crds.enabled=false,rbac.aggregateRoles=false"}
	const chart = "../../../charts/securenotes-operator"
	t.Run("odd names", func(t *testing.T) {
		const version, release, namespace, watched = "0.1.0+build.5", "7", "2026", "1e3"
		dir := t.TempDir()
		if out, err := helm("package", chart, "--version", version, "--app-version", version, "--destination", dir); err != nil {
			t.Fatalf("%v: %s", err, out)
		}
		c.namespace(t, namespace)
		c.namespace(t, watched)
		arguments := append([]string{release, filepath.Join(dir, "securenotes-operator-"+version+".tgz"), "--namespace", namespace}, beside...)
		installed(t, append(arguments, "--set-string", "watchNamespaces={"+watched+"}")...)
		config := &corev1.ConfigMap{}
		if err := c.Get(t.Context(), client.ObjectKey{Namespace: namespace, Name: release + "-config"}, config); err != nil {
			t.Fatal(err)
		}
		parsed, err := operatorconfig.Parse([]byte(config.Data["config.yaml"]))
		if err != nil {
			t.Fatal(err)
		}
		if parsed.OperatorNamespace != namespace || parsed.OperatorServiceAccount != release {
			t.Errorf("the operator uses the account %s/%s", parsed.OperatorNamespace, parsed.OperatorServiceAccount)
		}
		deployment := &appsv1.Deployment{}
		if err := c.Get(t.Context(), client.ObjectKey{Namespace: namespace, Name: release}, deployment); err != nil {
			t.Fatal(err)
		}
		for key, value := range deployment.Labels {
			if problems := validation.IsValidLabelValue(value); len(problems) > 0 {
				t.Errorf("label %s=%s: %v", key, value, problems)
			}
		}
		for _, image := range []string{deployment.Spec.Template.Spec.Containers[0].Image, parsed.OperandImage} {
			if !strings.HasSuffix(image, ":0.1.0_build.5") {
				t.Errorf("image %s, whose tag cannot have a +", image)
			}
		}
	})
	t.Run("beside CRDs that were kept", func(t *testing.T) {
		t.Cleanup(func() { c.disown(t) })
		c.namespace(t, "kept")
		out, err := helm("install", "kept", chart, "--namespace", "kept")
		if err == nil || !strings.Contains(out, "invalid ownership metadata") {
			t.Errorf("helm adopts the CRDs without a flag: %v: %s", err, out)
		}
		if _, err := helm("uninstall", "kept", "--namespace", "kept", "--ignore-not-found"); err != nil {
			t.Fatal(err)
		}
		installed(t, "kept", chart, "--namespace", "kept", "--take-ownership", "--force-conflicts")
		c.namespace(t, "second")
		c.namespace(t, "team")
		installed(t, append([]string{"second", chart, "--namespace", "second", "--set", "watchNamespaces={team}"}, beside...)...)
	})
}

// disown removes from the CRDs what says that they belong to a release of the chart.
func (c *cluster) disown(t *testing.T) {
	for _, name := range []string{"securenotes.securenotes.dev", "keyrotations.securenotes.dev"} {
		crd := &metav1.PartialObjectMetadata{ObjectMeta: metav1.ObjectMeta{Name: name}}
		crd.SetGroupVersionKind(schema.GroupVersionKind{Group: "apiextensions.k8s.io", Version: "v1", Kind: "CustomResourceDefinition"})
		patch := mergePatch(t, `{metadata: {labels: {app.kubernetes.io/managed-by: null}, annotations: {meta.helm.sh/release-name: null, meta.helm.sh/release-namespace: null}}}`)
		if err := c.Patch(context.Background(), crd, patch); err != nil {
			t.Error(err)
		}
	}
}
