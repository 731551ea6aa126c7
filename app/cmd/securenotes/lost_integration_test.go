//go:build integration

package main

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/securenotes/securenotes/app/config"
	"github.com/securenotes/securenotes/app/internal/deployment"
	"github.com/securenotes/securenotes/hack/testenv"
)

// TestLostPostgres drops a PostgreSQL database and recreates it empty. The running service must end
// with the reason, must not create a schema in the new database, and must serve a restored one.
func TestLostPostgres(t *testing.T) {
	server := testenv.StartPostgres(t)
	dir := t.TempDir()
	certificate := testenv.NewCertificate(t, dir)
	uri := server.CreateDatabase(t, "notes")
	uriFile := filepath.Join(dir, "uri")
	if err := os.WriteFile(uriFile, []byte(uri), 0o600); err != nil {
		t.Fatal(err)
	}
	c := localConfig(t, dir, config.Database{Postgres: &config.Postgres{URIFile: uriFile, CAFile: server.CAFile, MaxConnections: 16}})
	c.Listen, c.MetricsListen = testenv.FreeAddress(t), testenv.FreeAddress(t)
	c.TLS = &config.TLS{CertFile: certificate.CertFile, KeyFile: certificate.KeyFile}
	if _, err := prepare(t, c, false); err != nil {
		t.Fatal(err)
	}
	server.Execute(t, "CREATE DATABASE backup TEMPLATE notes")
	c.Claimed = true

	stop, ended := serveUntilReady(t, c)
	defer stop()
	server.Execute(t, "DROP DATABASE notes WITH (FORCE)", "CREATE DATABASE notes")
	select {
	case err := <-ended:
		if termination, _ := outcome(err); termination.Reason != config.ReasonDatabaseLost {
			t.Errorf("the service ended with %+v", termination)
		}
	case <-time.After(30 * time.Second):
		t.Error("the service continues without its database")
		stop()
		<-ended
	}
	// First the container restarts, then another pod starts, whose init container runs first.
	if err := serve(t.Context(), c, 0, newLog(c.Log, os.Stderr)); !errors.Is(err, deployment.ErrLost) {
		t.Errorf("the restarted service: %v", err)
	}
	if _, err := prepare(t, c, true); !errors.Is(err, deployment.ErrLost) {
		t.Errorf("migrate: %v", err)
	}
	if tables := tablesOf(t, uri); tables != 0 {
		t.Errorf("%d tables were created in the place of the lost ones", tables)
	}

	server.Execute(t, "DROP DATABASE notes", "CREATE DATABASE notes TEMPLATE backup")
	if _, err := prepare(t, c, true); err != nil {
		t.Fatalf("the restored database: %v", err)
	}
	stop, ended = serveUntilReady(t, c)
	stop()
	if err := <-ended; err != nil {
		t.Error(err)
	}
}

// tablesOf returns the number of tables in a database.
func tablesOf(t *testing.T, uri string) (tables int) {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), uri)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(context.Background())
	if err := conn.QueryRow(t.Context(), "SELECT count(*) FROM information_schema.tables WHERE table_schema = 'public'").Scan(&tables); err != nil {
		t.Fatal(err)
	}
	return tables
}
