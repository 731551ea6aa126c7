//go:build e2e

package e2e

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/go-logr/logr"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	clientgoscheme "k8s.io/client-go/kubernetes/scheme"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/log"

	"github.com/securenotes/securenotes/api/v1alpha1"
	"github.com/securenotes/securenotes/hack/poll"
)

const (
	operatorNamespace = "securenotes-system"
	operatorRelease   = "securenotes-operator"
	issuer            = "securenotes-ca"
)

// cluster is the real cluster that hack/kind has created.
type cluster struct {
	client.Client
	settings *rest.Config
	// url, ca, namespace and name are those of the sample.
	url, ca, namespace, name string
	// dir is the directory in which hack/kind stores the cluster's keys.
	dir string
}

func open(t testing.TB) *cluster {
	t.Helper()
	env := func(name string) string {
		value := os.Getenv(name)
		if value == "" {
			t.Fatalf("%s is not set: run these tests with `make test-e2e`, which creates the cluster", name)
		}
		return value
	}
	settings, err := clientcmd.BuildConfigFromFlags("", env("KUBECONFIG"))
	if err != nil {
		t.Fatal(err)
	}
	settings.QPS, settings.Burst = 50, 100
	log.SetLogger(logr.Discard()) // the client warns if no logger is set
	scheme := runtime.NewScheme() // a separate one, because tests run in parallel
	if err := errors.Join(clientgoscheme.AddToScheme(scheme), v1alpha1.AddToScheme(scheme)); err != nil {
		t.Fatal(err)
	}
	c, err := client.New(settings, client.Options{Scheme: scheme})
	if err != nil {
		t.Fatal(err)
	}
	return &cluster{Client: c, settings: settings, url: env("URL"), ca: env("CA"), namespace: env("NAMESPACE"), name: env("NAME"), dir: env("SECURENOTES_CLUSTER_DIR")}
}

// command runs a program with the cluster's environment and returns what it printed.
func command(t testing.TB, stdin, program string, args ...string) string {
	t.Helper()
	cmd := exec.Command(program, args...)
	cmd.Stdin = strings.NewReader(stdin)
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	if err := cmd.Run(); err != nil {
		t.Fatalf("%s %s: %v\n%s", filepath.Base(program), strings.Join(args, " "), err, stderr.String())
	}
	return stdout.String()
}

func kubectl(t testing.TB, args ...string) string {
	t.Helper()
	return command(t, "", "kubectl", args...)
}

// upgrade installs the operator's chart from this checkout, with additional flags for helm.
func (c *cluster) upgrade(t testing.TB, extra ...string) {
	t.Helper()
	args := []string{"upgrade", operatorRelease, "../../charts/securenotes-operator", "--namespace", operatorNamespace, "--wait", "--timeout", "3m",
		"--values", filepath.Join(c.dir, "values.json")}
	command(t, "", "helm", append(args, extra...)...)
}

// newNamespace creates a namespace for the test, with the strictest Pod Security Standard.
func (c *cluster) newNamespace(t testing.TB) string {
	t.Helper()
	ns := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{
		GenerateName: "e2e-",
		Labels:       map[string]string{"pod-security.kubernetes.io/enforce": "restricted", "securenotes.dev/e2e": "true"},
	}}
	if err := c.Create(context.Background(), ns); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("events of %s:\n%s", ns.Name, kubectl(t, "-n", ns.Name, "get", "events", "--sort-by=.lastTimestamp"))
		}
		// Delete the SecureNotes first: their finalizer needs other objects of the namespace.
		list := &v1alpha1.SecureNotesList{}
		if err := c.List(context.Background(), list, client.InNamespace(ns.Name)); err != nil {
			t.Error(err)
		}
		for i := range list.Items {
			c.remove(t, &list.Items[i])
		}
		if err := c.Delete(context.Background(), ns); err != nil {
			t.Error(err)
		}
	})
	return ns.Name
}

// remove deletes an object and waits until it is gone.
func (c *cluster) remove(t testing.TB, object client.Object) {
	t.Helper()
	if err := c.Delete(context.Background(), object); client.IgnoreNotFound(err) != nil {
		t.Fatal(err)
	}
	poll.Eventually(t, 2*time.Minute, "deletion of "+object.GetName(), func(ctx context.Context) error {
		err := c.Get(ctx, client.ObjectKeyFromObject(object), object)
		if apierrors.IsNotFound(err) {
			return nil
		}
		if err == nil {
			err = fmt.Errorf("it still exists, with finalizers %v", object.GetFinalizers())
		}
		return err
	})
}

// embedded returns a minimal SecureNotes, with an SQLite database.
func embedded(namespace, name string) *v1alpha1.SecureNotes {
	return &v1alpha1.SecureNotes{
		ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: name},
		Spec: v1alpha1.SecureNotesSpec{
			TLS: v1alpha1.TLS{CertManager: &v1alpha1.CertManager{
				IssuerRef: v1alpha1.IssuerReference{Name: issuer, Kind: "ClusterIssuer"},
			}},
			Hostnames:      []string{"localhost"},
			DeletionPolicy: v1alpha1.DeletionPolicyDelete,
		},
	}
}

// condition waits until a condition has the status and the reason, and returns its message.
func (c *cluster) condition(t testing.TB, sn *v1alpha1.SecureNotes, within time.Duration, kind string, status metav1.ConditionStatus, reason string) string {
	t.Helper()
	message := ""
	poll.Eventually(t, within, fmt.Sprintf("%s/%s: %s=%s %s", sn.Namespace, sn.Name, kind, status, reason), func(ctx context.Context) error {
		if err := c.Get(ctx, client.ObjectKeyFromObject(sn), sn); err != nil {
			return err
		}
		found := meta.FindStatusCondition(sn.Status.Conditions, kind)
		if found == nil || found.Status != status || reason != "" && found.Reason != reason || sn.Status.ObservedGeneration < sn.Generation {
			return fmt.Errorf("conditions: %s", describe(sn.Status.Conditions))
		}
		message = found.Message
		return nil
	})
	return message
}

func (c *cluster) ready(t testing.TB, sn *v1alpha1.SecureNotes) {
	t.Helper()
	c.condition(t, sn, 6*time.Minute, v1alpha1.ConditionReady, metav1.ConditionTrue, "")
}

func describe(conditions []metav1.Condition) string {
	var lines []string
	for _, c := range conditions {
		lines = append(lines, fmt.Sprintf("\n  %s=%s %s: %s", c.Type, c.Status, c.Reason, c.Message))
	}
	return strings.Join(lines, "")
}

// apiPods returns the running pods of a SecureNotes' API.
func (c *cluster) apiPods(t testing.TB, namespace, name string) []corev1.Pod {
	t.Helper()
	list := &corev1.PodList{}
	err := c.List(context.Background(), list, client.InNamespace(namespace), client.MatchingLabels{
		"app.kubernetes.io/instance": name, "app.kubernetes.io/component": "api",
	})
	if err != nil {
		t.Fatal(err)
	}
	var running []corev1.Pod
	for _, pod := range list.Items {
		if pod.DeletionTimestamp == nil {
			running = append(running, pod)
		}
	}
	return running
}

func isReady(pod corev1.Pod) bool {
	for _, condition := range pod.Status.Conditions {
		if condition.Type == corev1.PodReady {
			return condition.Status == corev1.ConditionTrue
		}
	}
	return false
}
