//go:build e2e

package e2e

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/securenotes/securenotes/api/v1alpha1"
	"github.com/securenotes/securenotes/hack/poll"
)

// TestLostDatabase checks that the service stalls, even while it runs, when an empty PostgreSQL
// database replaces the one with the notes, and until the right one is back.
func TestLostDatabase(t *testing.T) {
	t.Parallel()
	c := open(t)
	namespace := c.newNamespace(t)
	name := strings.ReplaceAll(namespace, "-", "_")
	uri := newDatabase(t, name, "a-fine-password")
	t.Cleanup(func() { psql(t, "postgres", fmt.Sprintf("DROP DATABASE IF EXISTS %s_kept WITH (FORCE);\n", name)) })
	ca := &corev1.Secret{}
	if err := c.Get(context.Background(), client.ObjectKey{Namespace: c.namespace, Name: "notes-database-ca"}, ca); err != nil {
		t.Fatal(err)
	}
	c.putSecret(t, namespace, "ca", "ca.crt", string(ca.Data["ca.crt"]))
	c.putSecret(t, namespace, "database", "uri", uri)
	sn := embedded(namespace, "notes")
	sn.Spec.Database = &v1alpha1.Database{Postgres: &v1alpha1.Postgres{
		URISecretRef: v1alpha1.SecretKeyReference{Name: "database", Key: "uri"},
		CASecretRef:  &v1alpha1.SecretKeyReference{Name: "ca", Key: "ca.crt"},
	}}
	sn.Spec.Replicas = new(int32(1))
	if err := c.Create(context.Background(), sn); err != nil {
		t.Fatal(err)
	}
	c.ready(t, sn)
	service, stop := c.connectTo(t, namespace, "service/notes", "443")
	u := signUp(t, service)
	notes := map[string]string{u.write(t, "comes back with its database"): "comes back with its database"}
	stop()

	psql(t, "postgres", fmt.Sprintf(`ALTER DATABASE %[1]s ALLOW_CONNECTIONS false;
SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity WHERE datname = '%[1]s';
ALTER DATABASE %[1]s RENAME TO %[1]s_kept;
CREATE DATABASE %[1]s OWNER %[1]s;
`, name))
	message := c.condition(t, sn, 3*time.Minute, v1alpha1.ConditionDatabaseReady, metav1.ConditionFalse, v1alpha1.ReasonDatabaseLost)
	if !strings.Contains(message, v1alpha1.AnnotationAcceptEmptyDatabase+"="+sn.Status.DeploymentID) {
		t.Errorf("the message does not say what to do: %s", message)
	}
	if tables := psql(t, name, "SELECT count(*) FROM information_schema.tables WHERE table_schema = 'public';\n"); strings.TrimSpace(tables) != "0" {
		t.Errorf("%s tables were created in place of the lost ones", tables)
	}
	psql(t, "postgres", fmt.Sprintf("DROP DATABASE %[1]s WITH (FORCE);\nALTER DATABASE %[1]s_kept RENAME TO %[1]s;\nALTER DATABASE %[1]s ALLOW_CONNECTIONS true;\n", name))
	c.ready(t, sn)
	again, _ := c.connectTo(t, namespace, "service/notes", "443")
	u.moveTo(again)
	u.mustRead(t, notes)
}

// TestLostVolume deletes the claim of the embedded database. The operator must not recreate it
// until an empty database is accepted.
func TestLostVolume(t *testing.T) {
	t.Parallel()
	c := open(t)
	namespace := c.newNamespace(t)
	sn := embedded(namespace, "small")
	if err := c.Create(context.Background(), sn); err != nil {
		t.Fatal(err)
	}
	c.ready(t, sn)
	const claim = "small-data"
	kubectl(t, "-n", namespace, "delete", "persistentvolumeclaim", claim, "--wait=false")
	c.condition(t, sn, time.Minute, v1alpha1.ConditionDatabaseReady, metav1.ConditionFalse, v1alpha1.ReasonDatabaseLost)
	for _, pod := range c.apiPods(t, namespace, "small") {
		if !isReady(pod) {
			t.Errorf("pod %s, which still has the volume, was stopped", pod.Name)
		}
		kubectl(t, "-n", namespace, "delete", "pod", pod.Name)
	}
	poll.Eventually(t, 2*time.Minute, "the claim to be gone and reported as lost", func(ctx context.Context) error {
		err := c.Get(ctx, client.ObjectKey{Namespace: namespace, Name: claim}, &corev1.PersistentVolumeClaim{})
		if err == nil {
			return errors.New("it still exists")
		}
		if !apierrors.IsNotFound(err) {
			return err
		}
		message := c.condition(t, sn, time.Minute, v1alpha1.ConditionDatabaseReady, metav1.ConditionFalse, v1alpha1.ReasonDatabaseLost)
		if !strings.Contains(message, "is missing") {
			return errors.New(message)
		}
		return nil
	})
	kubectl(t, "-n", namespace, "annotate", "securenotes", "small", v1alpha1.AnnotationAcceptEmptyDatabase+"="+sn.Status.DeploymentID)
	c.ready(t, sn)
}
