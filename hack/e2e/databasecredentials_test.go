//go:build e2e

package e2e

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/hashicorp/vault/api"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/securenotes/securenotes/api/v1alpha1"
	"github.com/securenotes/securenotes/app/config"
)

// databaseEngine is a PostgreSQL database for which Vault creates logins, as described in
// docs/database-credentials.md.
type databaseEngine struct {
	*vault
	// name is the name of the database and of the role that owns it. role is the engine's role.
	name, role string
}

// prepare creates the database and its roles, and configures Vault's connection to it. The engine
// has no role yet.
func (e *databaseEngine) prepare(t testing.TB, authority string) {
	t.Helper()
	psql(t, "postgres", "CREATE DATABASE "+e.name)
	psql(t, e.name, e.sample(t, "roles.sql"))
	mounts, err := e.Sys().ListMounts()
	if err != nil {
		t.Fatal(err)
	}
	if mounts["database/"] == nil {
		if err := e.Sys().Mount("database", &api.MountInput{Type: "database"}); err != nil {
			t.Fatal(err)
		}
	}
	e.write(t, "config/"+e.name, map[string]any{
		"plugin_name": "postgresql-database-plugin", "allowed_roles": e.role, "username": e.name + "_vault", "password": "replace-me",
		"connection_url": "postgres://{{username}}:{{password}}@postgres.postgres.svc:5432/postgres?sslmode=verify-full", "tls_ca": authority,
		"password_authentication": "scram-sha-256",
	})
	e.write(t, "rotate-root/"+e.name, nil)
}

// createRole creates the engine's role, so that Vault can create logins. Each lasts for an hour.
func (e *databaseEngine) createRole(t testing.TB) {
	t.Helper()
	e.write(t, "roles/"+e.role, map[string]any{
		"db_name": e.name, "default_ttl": "1h", "max_ttl": "1h",
		"creation_statements": e.sample(t, "creation.sql"), "revocation_statements": e.sample(t, "revocation.sql"),
	})
}

// remove removes everything that prepare and createRole have created. No process may request logins
// any more.
func (e *databaseEngine) remove(t testing.TB) {
	t.Helper()
	if _, err := e.Logical().Write("sys/leases/revoke-prefix/database/creds/"+e.role, map[string]any{"sync": true}); err != nil {
		t.Error(err)
	}
	for _, path := range []string{"roles/" + e.role, "config/" + e.name} {
		if _, err := e.Logical().Delete("database/" + path); err != nil {
			t.Error(err)
		}
	}
	psql(t, "postgres", fmt.Sprintf("DROP DATABASE %[1]s WITH (FORCE);\nDROP ROLE %[1]s_vault;\nDROP ROLE %[1]s;\n", e.name))
}

func (e *databaseEngine) write(t testing.TB, path string, data map[string]any) {
	t.Helper()
	if _, err := e.Logical().Write("database/"+path, data); err != nil {
		t.Fatal(err)
	}
}

// sample returns one of the sample files, with the name of this database in place of "notes".
func (e *databaseEngine) sample(t testing.TB, file string) string {
	t.Helper()
	raw, err := os.ReadFile(filepath.Join("..", "..", "config", "samples", "database-credentials", file))
	if err != nil {
		t.Fatal(err)
	}
	return strings.NewReplacer("notes", e.name, "vault", e.name+"_vault").Replace(string(raw))
}

// users returns the logins that Vault has created and not dropped.
func (e *databaseEngine) users(t testing.TB) []string {
	t.Helper()
	return strings.Fields(psql(t, e.name, fmt.Sprintf(
		"SELECT m.rolname FROM pg_auth_members a JOIN pg_roles m ON m.oid = a.member JOIN pg_roles g ON g.oid = a.roleid WHERE g.rolname = '%s' AND m.rolname LIKE 'v-%%'", e.name)))
}

// TestDatabaseCredentials checks that a service with vaultCredentials starts as soon as Vault can
// create logins. After a Compromise it has new logins, and the previous ones are gone.
func TestDatabaseCredentials(t *testing.T) {
	t.Parallel()
	c := open(t)
	namespace := c.newNamespace(t)
	ca := &corev1.Secret{}
	if err := c.Get(context.Background(), client.ObjectKey{Namespace: c.namespace, Name: "notes-database-ca"}, ca); err != nil {
		t.Fatal(err)
	}
	engine := &databaseEngine{vault: c.vault(t), name: strings.ReplaceAll(namespace, "-", "_"), role: config.DatabaseRoleName(c.clusterID(t), namespace, "notes")}
	engine.prepare(t, string(ca.Data["ca.crt"]))
	c.putSecret(t, namespace, "ca", "ca.crt", string(ca.Data["ca.crt"]))
	c.putSecret(t, namespace, "database", "uri", "postgres://postgres.postgres.svc:5432/"+engine.name)

	sn := embedded(namespace, "notes")
	sn.Spec.Database = &v1alpha1.Database{Postgres: &v1alpha1.Postgres{
		URISecretRef:     v1alpha1.SecretKeyReference{Name: "database", Key: "uri"},
		CASecretRef:      &v1alpha1.SecretKeyReference{Name: "ca", Key: "ca.crt"},
		VaultCredentials: &v1alpha1.VaultCredentials{},
	}}
	if err := c.Create(context.Background(), sn); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		c.remove(t, sn)
		engine.remove(t)
	})
	message := c.condition(t, sn, time.Minute, v1alpha1.ConditionVaultReady, metav1.ConditionFalse, v1alpha1.ReasonDatabaseRoleMissing)
	if !strings.Contains(message, "database/roles/"+engine.role) {
		t.Errorf("the message does not name the role: %s", message)
	}
	engine.createRole(t)
	c.ready(t, sn)
	service, stop := c.connectTo(t, namespace, "service/notes", "443")
	u := signUp(t, service)
	notes := map[string]string{u.write(t, "before the compromise"): "before the compromise"}
	stop()
	before := engine.users(t)
	if len(before) < 2 {
		t.Errorf("two replicas share the logins %v", before)
	}

	c.complete(t, &v1alpha1.KeyRotation{
		ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: "urgent"},
		Spec:       v1alpha1.KeyRotationSpec{SecureNotesRef: v1alpha1.LocalObjectReference{Name: "notes"}, Reason: v1alpha1.RotationCompromise},
	})
	after := " " + strings.Join(engine.users(t), " ") + " "
	for _, user := range before {
		if strings.Contains(after, " "+user+" ") {
			t.Errorf("login %s from before the compromise still exists", user)
		}
	}
	c.ready(t, sn)
	again, _ := c.connectTo(t, namespace, "service/notes", "443")
	u.moveTo(again)
	u.logIn(t)
	u.mustRead(t, notes)
}
