//go:build e2e

package e2e

import (
	"context"
	"fmt"
	"net/http"
	"net/url"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/securenotes/securenotes/api/v1alpha1"
	"github.com/securenotes/securenotes/hack/notesclient"
)

// Each test in this file causes one fault, checks that a condition names it and the next step,
// corrects the fault, and checks that the object recovers by itself.

func TestMissingIssuer(t *testing.T) {
	t.Parallel()
	c := open(t)
	namespace := c.newNamespace(t)
	sn := embedded(namespace, "notes")
	sn.Spec.TLS.CertManager.IssuerRef = v1alpha1.IssuerReference{Name: "not-there"}
	if err := c.Create(context.Background(), sn); err != nil {
		t.Fatal(err)
	}
	message := c.condition(t, sn, time.Minute, v1alpha1.ConditionCertificateReady, metav1.ConditionFalse, v1alpha1.ReasonIssuerNotFound)
	if !strings.Contains(message, "not-there") {
		t.Errorf("the message does not name the issuer: %s", message)
	}
	command(t, fmt.Sprintf(`{"apiVersion":"cert-manager.io/v1","kind":"Issuer","metadata":{"name":"not-there","namespace":%q},"spec":{"selfSigned":{}}}`, namespace),
		"kubectl", "apply", "-f", "-")
	c.ready(t, sn)
}

// psql runs SQL as the database's superuser, and returns the output.
func psql(t testing.TB, database, sql string) string {
	t.Helper()
	return command(t, sql, "kubectl", "-n", "postgres", "exec", "-i", "postgres-0", "-c", "postgres", "--",
		"/usr/lib/postgresql/15/bin/psql", "--host=/var/run/postgresql", "--username=postgres", "--dbname="+database,
		"--quiet", "--no-psqlrc", "--tuples-only", "--no-align", "--set=ON_ERROR_STOP=1")
}

// newDatabase creates an empty PostgreSQL database with its own role, and returns its URI.
func newDatabase(t testing.TB, name, password string) string {
	t.Helper()
	psql(t, "postgres", fmt.Sprintf("CREATE ROLE %[1]s LOGIN PASSWORD '%[2]s';\nCREATE DATABASE %[1]s OWNER %[1]s;\n", name, password))
	t.Cleanup(func() {
		psql(t, "postgres", fmt.Sprintf("DROP DATABASE IF EXISTS %[1]s WITH (FORCE);\nDROP ROLE IF EXISTS %[1]s;\n", name))
	})
	uri := url.URL{Scheme: "postgres", User: url.UserPassword(name, password), Host: "postgres.postgres.svc:5432", Path: name}
	return uri.String()
}

// TestDatabaseTrouble checks that the condition names each fault that a database's URI can have,
// and that the service starts by itself once the fault is corrected.
func TestDatabaseTrouble(t *testing.T) {
	t.Parallel()
	const password = "a-fine-password"
	for _, trouble := range []struct {
		reason, names string
		spoil         func(uri string) string // empty: there is no Secret
	}{
		{"DatabaseSecretMissing", "database", func(string) string { return "" }},
		{"DatabaseURIInvalid", "postgres://", func(string) string { return "not a URI at all" }},
		{"DatabaseUnreachable", "postgres.postgres.svc:5999", func(uri string) string {
			return strings.Replace(uri, "postgres.postgres.svc:5432", "postgres.postgres.svc:5999", 1)
		}},
		{"DatabaseAuthenticationFailed", "postgres.postgres.svc:5432", func(uri string) string {
			return strings.Replace(uri, password, "a-wrong-password", 1)
		}},
	} {
		t.Run(trouble.reason, func(t *testing.T) {
			t.Parallel()
			c := open(t)
			namespace := c.newNamespace(t)
			uri := newDatabase(t, strings.ReplaceAll(namespace, "-", "_"), password)
			ca := &corev1.Secret{}
			if err := c.Get(context.Background(), client.ObjectKey{Namespace: c.namespace, Name: "notes-database-ca"}, ca); err != nil {
				t.Fatal(err)
			}
			c.putSecret(t, namespace, "ca", "ca.crt", string(ca.Data["ca.crt"]))
			if spoilt := trouble.spoil(uri); spoilt != "" {
				c.putSecret(t, namespace, "database", "uri", spoilt)
			}

			sn := embedded(namespace, "notes")
			sn.Spec.Database = &v1alpha1.Database{Postgres: &v1alpha1.Postgres{
				URISecretRef: v1alpha1.SecretKeyReference{Name: "database", Key: "uri"},
				CASecretRef:  &v1alpha1.SecretKeyReference{Name: "ca", Key: "ca.crt"},
			}}
			sn.Spec.Replicas = new(int32(1))
			if err := c.Create(context.Background(), sn); err != nil {
				t.Fatal(err)
			}
			message := c.condition(t, sn, 6*time.Minute, v1alpha1.ConditionDatabaseReady, metav1.ConditionFalse, trouble.reason)
			if !strings.Contains(message, trouble.names) {
				t.Errorf("the message does not name %q: %s", trouble.names, message)
			}
			if strings.Contains(message, "-password") {
				t.Errorf("the message contains the password: %s", message)
			}
			c.putSecret(t, namespace, "database", "uri", uri)
			c.ready(t, sn)
		})
	}
}

// putSecret creates or replaces a Secret with one entry.
func (c *cluster) putSecret(t testing.TB, namespace, name, key, value string) {
	t.Helper()
	object := &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: name}}
	err := c.Get(context.Background(), client.ObjectKeyFromObject(object), object)
	object.Data = map[string][]byte{key: []byte(value)}
	switch {
	case err == nil:
		err = c.Update(context.Background(), object)
	case apierrors.IsNotFound(err):
		err = c.Create(context.Background(), object)
	}
	if err != nil {
		t.Fatal(err)
	}
}

// TestVaultTrouble adds broken connections to the operator's configuration, and objects that use
// them.
func TestVaultTrouble(t *testing.T) {
	c := open(t)
	namespace := c.newNamespace(t)
	v := c.vault(t)
	t.Cleanup(func() { c.upgrade(t) })
	connection := func(name, address, authMount string) []string {
		prefix := "vaultConnections." + name
		return []string{"--set", prefix + ".address=" + address, "--set-file", prefix + ".caBundle=" + c.ca, "--set", prefix + ".authMount=" + authMount}
	}
	const right = "https://vault.vault.svc:8200"
	bare := connection("bare", right, "e2e-"+namespace)
	c.upgrade(t, append(connection("away", "https://vault.vault.svc:8299", "kubernetes"), bare...)...)

	wrong := map[string]struct{ reason, names, next string }{
		"nowhere": {v1alpha1.ReasonUnknownVaultConnection, "nowhere", "vaultConnections"},
		"away":    {v1alpha1.ReasonVaultUnreachable, "vault.vault.svc:8299", "check the address"},
		"bare":    {v1alpha1.ReasonSetupMissing, "vault-setup", "--auth-mount"},
	}
	for name := range wrong {
		sn := embedded(namespace, name)
		sn.Spec.VaultConnection = name
		c.create(t, sn)
	}
	for name, want := range wrong {
		message := c.condition(t, embedded(namespace, name), time.Minute, v1alpha1.ConditionVaultReady, metav1.ConditionFalse, want.reason)
		if !strings.Contains(message, want.names) || !strings.Contains(message, want.next) {
			t.Errorf("%s: the message does not name %q or the next step, %q: %s", name, want.names, want.next, message)
		}
	}

	// Vault's administrator follows the condition's advice, and the platform team corrects the
	// values.
	t.Setenv("VAULT_ADDR", v.address)
	t.Setenv("VAULT_TOKEN", v.token)
	t.Setenv("VAULT_CACERT", c.ca)
	operator, err := filepath.Abs("../../bin/operator")
	if err != nil {
		t.Fatal(err)
	}
	command(t, "", operator, "vault-setup", "--operator-namespace", operatorNamespace, "--operator-service-account", operatorRelease,
		"--kubernetes-host", "https://kubernetes.default.svc", "--auth-mount", "e2e-"+namespace, "--allow-shred")
	t.Cleanup(func() {
		if err := v.Sys().DisableAuth("e2e-" + namespace); err != nil {
			t.Error(err)
		}
	})
	c.ready(t, embedded(namespace, "bare"))
	c.upgrade(t, slices.Concat(connection("away", right, "kubernetes"), connection("nowhere", right, "kubernetes"), bare)...)
	for name := range wrong {
		c.ready(t, embedded(namespace, name))
	}
	for name := range wrong { // correct all before waiting for the first
		if err := c.Delete(t.Context(), embedded(namespace, name)); err != nil {
			t.Fatal(err)
		}
	}
	for name := range wrong {
		c.remove(t, embedded(namespace, name))
	}
}

// TestVaultSealed checks that the sample reports a sealed Vault, serves only users whose keys it
// has cached, and recovers without a restart.
func TestVaultSealed(t *testing.T) {
	c := open(t)
	c.ready(t, c.sample())
	warm := signUp(t, c.connect(t, c.url))
	notes := map[string]string{warm.write(t, "readable while Vault is sealed"): "readable while Vault is sealed"}
	var replicas []*user
	pods := c.apiPods(t, c.namespace, c.name)
	for _, pod := range pods {
		replica, _ := c.connectTo(t, c.namespace, "pod/"+pod.Name, "8443")
		u := &user{Client: replica.WithToken(warm.Token())}
		u.mustRead(t, notes) // now each replica has the key
		replicas = append(replicas, u)
	}
	cold := signUp(t, c.connect(t, c.url)) // no replica has this user's key
	v := c.vault(t)
	if err := v.Sys().Seal(); err != nil {
		t.Fatal(err)
	}
	sealed := true
	t.Cleanup(func() {
		if sealed {
			v.unseal(t)
		}
	})
	for _, replica := range replicas {
		mustSucceed(t, replica.list)
		for id := range notes {
			mustSucceed(t, func(ctx context.Context) error {
				_, err := replica.GetNote(ctx, id)
				return err
			})
		}
	}
	mustBeRefused(t, http.StatusServiceUnavailable, func(ctx context.Context) error {
		_, err := cold.CreateNote(ctx, notesclient.Content{Content: "not now"})
		return err
	})
	mustSucceed(t, cold.list)
	message := c.condition(t, c.sample(), 4*time.Minute, v1alpha1.ConditionVaultReady, metav1.ConditionFalse, v1alpha1.ReasonVaultSealed)
	if !strings.Contains(strings.ToLower(message), "unseal") {
		t.Errorf("the message does not say what to do: %s", message)
	}
	v.unseal(t)
	sealed = false
	c.ready(t, c.sample())
	warm.mustRead(t, notes)
	cold.mustRead(t, map[string]string{cold.write(t, "written when Vault was back"): "written when Vault was back"})
	for i, pod := range c.apiPods(t, c.namespace, c.name) {
		if pod.UID != pods[i].UID || restarts(pod) != restarts(pods[i]) {
			t.Errorf("pod %s was restarted", pod.Name)
		}
	}
}
