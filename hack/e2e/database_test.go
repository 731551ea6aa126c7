//go:build e2e

package e2e

import (
	"context"
	"testing"

	"github.com/jackc/pgx/v5"
	corev1 "k8s.io/api/core/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

// database connects to the sample's PostgreSQL database as the service does.
func (c *cluster) database(t testing.TB) *pgx.Conn {
	t.Helper()
	secret := &corev1.Secret{}
	if err := c.Get(context.Background(), client.ObjectKey{Namespace: c.namespace, Name: "notes-database"}, secret); err != nil {
		t.Fatal(err)
	}
	address, _ := forward(t, "postgres", "pod/postgres-0", "5432")
	settings, err := pgx.ParseConfig(string(secret.Data["uri"]) + "?sslmode=verify-full&sslrootcert=" + c.ca)
	if err != nil {
		t.Fatal(err)
	}
	// The certificate is for the Service's name, but the connection uses a forwarded port.
	local, err := pgx.ParseConfig("postgres://" + address)
	if err != nil {
		t.Fatal(err)
	}
	settings.Host, settings.Port = local.Host, local.Port
	conn, err := pgx.ConnectConfig(context.Background(), settings)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close(context.Background()) })
	return conn
}

// count returns the number that a query selects.
func count(t testing.TB, db *pgx.Conn, query string, args ...any) int64 {
	t.Helper()
	var n int64
	if err := db.QueryRow(context.Background(), query, args...).Scan(&n); err != nil {
		t.Fatalf("%s: %v", query, err)
	}
	return n
}
