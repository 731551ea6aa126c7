//go:build integration

package main

import (
	"context"
	"fmt"
	"io"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/securenotes/securenotes/api/v1alpha1"
	"github.com/securenotes/securenotes/app/config"
	"github.com/securenotes/securenotes/controllers/internal/operand"
	"github.com/securenotes/securenotes/hack/testenv"
)

// TestVaultCredentials: with vaultCredentials Vault creates the database credentials, and each
// identity gets only its own. A Compromise revokes all of them, if need be once the database is
// reachable again.
func TestVaultCredentials(t *testing.T) {
	t.Parallel()
	c, namespace := apart(t, apartOptions{})
	sn := postgresNotes(namespace, "notes")
	sn.Spec.Database.Postgres.VaultCredentials = &v1alpha1.VaultCredentials{}
	c.namespace(t, sn.Namespace)
	if err := c.Create(t.Context(), sn); err != nil {
		t.Fatal(err)
	}
	message := c.awaitCondition(t, namespace, "notes", v1alpha1.ConditionDatabaseReady, metav1.ConditionFalse, v1alpha1.ReasonSetupMissing)
	if !strings.Contains(message, "operator vault-setup --cluster-id "+c.id) || !strings.Contains(message, "--database-mount database") {
		t.Errorf("the message does not say what to run: %s", message)
	}
	c.awaitCondition(t, namespace, "notes", v1alpha1.ConditionVaultReady, metav1.ConditionTrue, v1alpha1.ReasonReady)
	setup := c.setup()
	setup.DatabaseMount = "database"
	if err := setup.Apply(t.Context(), c.vault.Client(t), io.Discard, false); err != nil {
		t.Fatal(err)
	}
	role := config.DatabaseRoleName(c.id, namespace, "notes")
	c.touchSpec(t, sn, "2h")
	message = c.awaitCondition(t, namespace, "notes", v1alpha1.ConditionVaultReady, metav1.ConditionFalse, v1alpha1.ReasonDatabaseRoleMissing)
	if !strings.Contains(message, "database/roles/"+role) {
		t.Errorf("the message does not name the role: %s", message)
	}
	postgres := testenv.StartPostgres(t)
	t.Cleanup(func() {
		if err := c.vault.Client(t).Sys().Unmount("database"); err != nil {
			t.Error(err)
		}
	})
	c.vault.CreateDatabaseRole(t, postgres, role, time.Hour)
	c.touchSpec(t, sn, "3h")
	c.issue(t, namespace, "notes")
	c.awaitReady(t, namespace, "notes")

	cm := &corev1.ConfigMap{}
	if err := c.Get(t.Context(), client.ObjectKey{Namespace: namespace, Name: operand.ConfigMapName("notes")}, cm); err != nil {
		t.Fatal(err)
	}
	for _, file := range []string{"api.yaml", "rotation.yaml"} {
		read, err := config.Parse([]byte(cm.Data[file]))
		if err != nil || read.Database.Postgres.VaultCredentials == nil || *read.Database.Postgres.VaultCredentials != (config.VaultCredentials{Mount: "database", Role: role}) {
			t.Errorf("%s: %v: %s", file, err, cm.Data[file])
		}
	}
	t.Run("escapes", func(t *testing.T) { testDatabaseEscapes(t, c, namespace, role) })
	t.Run("compromise", func(t *testing.T) {
		c.createDatabaseLogin(t, namespace, role)
		kr := c.compromise(t, sn, "first", 2)
		c.awaitEvent(t, namespace, "KeyRotation", "DatabaseCredentialsReplaced")
		c.awaitEvent(t, namespace, "SecureNotes", "DatabaseCredentialsReplaced")
		if users := databaseUsers(t, postgres); users != 0 {
			t.Errorf("%d earlier database users are left", users)
		}
		c.finishWork(t, kr, 2)
		c.awaitReplaced(t, kr, 2)
	})
	t.Run("compromise without the database", func(t *testing.T) {
		c.createDatabaseLogin(t, namespace, role)
		postgres.Stop(t)
		kr := c.compromise(t, sn, "second", 3)
		c.awaitRotation(t, kr, "the failed revocation", func() string {
			found := meta.FindStatusCondition(kr.Status.Conditions, v1alpha1.ConditionDatabaseCredentialsReplaced)
			if found == nil || found.Status != metav1.ConditionFalse || found.Reason != v1alpha1.ReasonRevocationFailed || !strings.Contains(found.Message, role) {
				return fmt.Sprintf("%+v", found)
			}
			return ""
		})
		c.awaitEvent(t, namespace, "KeyRotation", v1alpha1.ReasonRevocationFailed)
		c.finishWork(t, kr, 3)
		c.awaitRotation(t, kr, "what it waits for", func() string {
			waits := meta.FindStatusCondition(kr.Status.Conditions, v1alpha1.ConditionReconciling)
			if waits == nil || waits.Reason != v1alpha1.ReasonRevocationFailed || !meta.IsStatusConditionTrue(kr.Status.Conditions, v1alpha1.ConditionSessionKeysReplaced) {
				return fmt.Sprintf("%+v", kr.Status.Conditions)
			}
			return ""
		})
		postgres.Start(t)
		c.awaitReplaced(t, kr, 3)
		if users := databaseUsers(t, postgres); users != 0 {
			t.Errorf("%d earlier database users are left", users)
		}
	})
}

// testDatabaseEscapes tries what each identity must not be able to do with the database engine.
func testDatabaseEscapes(t *testing.T, c *cluster, namespace, role string) {
	other := config.DatabaseRoleName("00000000-0000-0000-0000-000000000000", namespace, "notes")
	credentials := attempt{"read", "database/creds/" + role, nil}
	forAll := []attempt{
		{"read", "database/config/notes", nil},
		{"write", "database/roles/" + role, map[string]any{"db_name": "notes", "creation_statements": "x"}},
		{"write", "database/rotate-root/notes", nil},
		{"read", "database/creds/" + other, nil},
		{"write", "sys/leases/revoke-prefix/database/creds/" + other, nil},
		{"write", "sys/leases/revoke-prefix/database", nil},
		{"write", "sys/leases/revoke-prefix/auth/" + c.authMount + "/login", nil},
		{"write", "sys/leases/revoke-force/database/creds/" + role, nil},
		{"list", "sys/leases/lookup/database/creds/" + role, nil},
	}
	revoke := attempt{"write", "sys/leases/revoke-prefix/database/creds/" + role, map[string]any{"sync": true}}
	for name, identity := range map[string]struct {
		role, namespace, account string
		refused, allowed         []attempt
	}{
		"operator":                 {config.RoleOperator, operatorNamespace, operatorAccount, []attempt{credentials}, []attempt{revoke}},
		"api":                      {config.RoleAPI, namespace, "notes" + config.ServiceAccountAPISuffix, []attempt{revoke}, []attempt{credentials}},
		"rotation":                 {config.RoleRotation, namespace, "notes" + config.ServiceAccountRotationSuffix, []attempt{revoke}, []attempt{credentials}},
		"api of another namespace": {config.RoleAPI, "stranger", "notes" + config.ServiceAccountAPISuffix, []attempt{credentials, revoke}, nil},
	} {
		t.Run(name, func(t *testing.T) {
			client, err := c.login(t, identity.role, identity.namespace, identity.account, "vault")
			if err != nil {
				t.Fatal(err)
			}
			for _, a := range append(identity.refused, forAll...) {
				if err := a.run(client); !refused(err) {
					t.Errorf("%s %s was not rejected: %v", a.method, a.path, err)
				}
			}
			for _, a := range identity.allowed {
				if err := a.run(client); err != nil {
					t.Errorf("%s %s: %v", a.method, a.path, err)
				}
			}
		})
	}
}

// createDatabaseLogin creates credentials, as a pod of the API does.
func (c *cluster) createDatabaseLogin(t *testing.T, namespace, role string) {
	t.Helper()
	await(t, "the service account", func() string {
		account := &corev1.ServiceAccount{}
		return text(c.Get(context.Background(), client.ObjectKey{Namespace: namespace, Name: operand.APIServiceAccount("notes")}, account))
	})
	pod, err := c.login(t, config.RoleAPI, namespace, operand.APIServiceAccount("notes"), "vault")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := pod.Logical().Read("database/creds/" + role); err != nil {
		t.Fatal(err)
	}
}

// compromise creates a Compromise, and waits for its version.
func (c *cluster) compromise(t *testing.T, sn *v1alpha1.SecureNotes, name string, to int64) *v1alpha1.KeyRotation {
	t.Helper()
	kr := rotationOf(sn, name)
	kr.Spec.Reason = v1alpha1.RotationCompromise
	if err := c.Create(t.Context(), kr); err != nil {
		t.Fatal(err)
	}
	c.awaitJob(t, sn.Namespace, fmt.Sprintf("%s-rotate-v%d-1", sn.Name, to))
	return kr
}

// finishWork plays the Jobs and pods of a rotation.
func (c *cluster) finishWork(t *testing.T, kr *v1alpha1.KeyRotation, to int64) {
	t.Helper()
	name := kr.Spec.SecureNotesRef.Name
	c.finishJob(t, kr.Namespace, fmt.Sprintf("%s-rotate-v%d-1", name, to))
	c.restart(t, kr.Namespace, name, to)
	c.finishJob(t, kr.Namespace, fmt.Sprintf("%s-verify-v%d-1", name, to))
}

// awaitReplaced waits for the end of a rotation, and completes the retirement of the old version.
func (c *cluster) awaitReplaced(t *testing.T, kr *v1alpha1.KeyRotation, to int64) {
	t.Helper()
	c.awaitState(t, kr, v1alpha1.ReasonComplete)
	if !meta.IsStatusConditionTrue(kr.Status.Conditions, v1alpha1.ConditionDatabaseCredentialsReplaced) {
		t.Errorf("%+v", kr.Status.Conditions)
	}
	c.finishJob(t, kr.Namespace, fmt.Sprintf("%s-retire-v%d-1", kr.Spec.SecureNotesRef.Name, to))
}

// databaseUsers counts the users that Vault created and has not dropped.
func databaseUsers(t *testing.T, p *testenv.Postgres) (n int) {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), p.URI("postgres"))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(t.Context())
	if err := conn.QueryRow(t.Context(), "SELECT count(*) FROM pg_roles WHERE rolname LIKE 'v-%'").Scan(&n); err != nil {
		t.Fatal(err)
	}
	return n
}
