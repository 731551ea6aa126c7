package addons

import (
	"context"
	"crypto/rand"
	"encoding/base64"
	"fmt"
	"net/url"
	"os"
	"strings"
	"time"

	"github.com/securenotes/securenotes/hack/kind/imagelock"
)

const (
	postgresHome = "/usr/lib/postgresql/15" // in Debian's packages and in the official image
	databaseHost = "postgres.postgres.svc"
)

// Postgres installs a PostgreSQL server that accepts TLS connections only.
func (a Addons) Postgres(ctx context.Context) (string, error) {
	if err := a.applyImage(ctx, "postgres.yaml", imagelock.Postgres); err != nil {
		return "", err
	}
	return "TLS only", a.Kube.Rollout(ctx, "postgres", "statefulset/postgres", 3*time.Minute)
}

// Database is a role with a database of its own, and the Secrets with which a SecureNotes object
// finds it. The password is random, is generated once, and is passed by standard input.
type Database struct {
	Name      string // of role and database
	Namespace string // of the Secrets
	Secret    string // holds `uri`
	CASecret  string // holds `ca.crt`
}

// EnsureDatabase creates d unless it exists.
func (a Addons) EnsureDatabase(ctx context.Context, d Database) (string, error) {
	password, err := a.databasePassword(ctx, d)
	if err != nil {
		return "", err
	}
	sql := fmt.Sprintf(`SELECT 'CREATE ROLE %[1]s LOGIN' WHERE NOT EXISTS (SELECT FROM pg_roles WHERE rolname = '%[1]s') \gexec
ALTER ROLE %[1]s PASSWORD '%[2]s';
SELECT 'CREATE DATABASE %[1]s OWNER %[1]s' WHERE NOT EXISTS (SELECT FROM pg_database WHERE datname = '%[1]s') \gexec
REVOKE ALL ON DATABASE %[1]s FROM PUBLIC;
`, d.Name, password)
	if err := a.Kube.Command("-n", "postgres", "exec", "-i", "postgres-0", "-c", "postgres", "--",
		postgresHome+"/bin/psql", "--host=/var/run/postgresql", "--username=postgres", "--quiet", "--no-psqlrc", "--set=ON_ERROR_STOP=1").
		WithStdin(strings.NewReader(sql)).Run(ctx); err != nil {
		return "", err
	}
	ca, err := os.ReadFile(a.Layout.CA())
	if err != nil {
		return "", err
	}
	uri := url.URL{Scheme: "postgres", User: url.UserPassword(d.Name, password), Host: databaseHost + ":5432", Path: d.Name}
	b64 := base64.StdEncoding.EncodeToString
	return "role and database " + d.Name, a.Kube.Apply(ctx, fmt.Sprintf(`apiVersion: v1
kind: Secret
metadata: {name: %s, namespace: %s}
data: {uri: %s}
---
apiVersion: v1
kind: Secret
metadata: {name: %s, namespace: %[2]s}
data: {ca.crt: %[5]s}
`, d.Secret, d.Namespace, b64([]byte(uri.String())), d.CASecret, b64(ca)))
}

// databasePassword returns the password in the Secret, or a new one.
func (a Addons) databasePassword(ctx context.Context, d Database) (string, error) {
	var secret struct {
		Data map[string]string `json:"data"`
	}
	found, err := a.Kube.Get(ctx, d.Namespace, "secret", d.Secret, &secret)
	if err != nil {
		return "", err
	}
	if found {
		raw, err := base64.StdEncoding.DecodeString(secret.Data["uri"])
		if err != nil {
			return "", err
		}
		if u, err := url.Parse(string(raw)); err == nil && u.User != nil {
			if p, ok := u.User.Password(); ok && p != "" && !strings.ContainsAny(p, `'\`) {
				return p, nil
			}
		}
	}
	return rand.Text(), nil
}
