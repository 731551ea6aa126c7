package main

import (
	"context"
	"database/sql"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/pressly/goose/v3"

	"github.com/securenotes/securenotes/app/config"
	"github.com/securenotes/securenotes/app/internal/deployment"
	"github.com/securenotes/securenotes/app/internal/store"
)

// localConfig returns the configuration of a deployment with a master key in a file below dir.
func localConfig(t *testing.T, dir string, database config.Database) *config.Config {
	t.Helper()
	c := &config.Config{
		APIVersion: config.APIVersion, Kind: config.Kind,
		Deployment: config.Deployment{ID: "test", Namespace: "ns", Name: "name"},
		Database:   database,
		Keys:       config.Keys{Local: &config.Local{File: filepath.Join(dir, "master.key")}},
		Auth:       config.Auth{Registration: config.RegistrationOpen, TokenTTL: config.Duration(time.Hour), BcryptCost: 12, MinPasswordLength: 8},
	}
	if err := c.Complete(); err != nil {
		t.Fatal(err)
	}
	return cheapHashes(c)
}

// prepare does what the init container does.
func prepare(t *testing.T, c *config.Config, claimed bool) (applied int, err error) {
	t.Helper()
	c.Claimed = claimed
	trust, err := newTrust(t.Context(), c)
	if err != nil {
		t.Fatal(err)
	}
	return migrate(t.Context(), c, trust)
}

// TestLostSQLite checks that nothing is created in the place of a database that has been in use,
// whatever is left of it. The deployment's own database is accepted, also with the schema of an
// earlier release.
func TestLostSQLite(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "notes.db")
	c := localConfig(t, dir, config.Database{SQLite: &config.SQLite{Path: file}})
	if _, err := prepare(t, c, false); err != nil {
		t.Fatal(err)
	}
	backup, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	for name, tc := range map[string]struct {
		spoil   func() error
		claimed bool
		want    error
		size    int64 // of the file afterwards, if nothing may be created; -1: it does not exist
	}{
		"it is there":              {spoil: func() error { return nil }, claimed: true, want: nil},
		"an earlier release's":     {spoil: func() error { return earlierSchema(t.Context(), file) }, claimed: true, want: nil},
		"the file is missing":      {spoil: func() error { return os.Remove(file) }, claimed: true, want: deployment.ErrLost, size: -1},
		"the file is empty":        {spoil: func() error { return os.Truncate(file, 0) }, claimed: true, want: deployment.ErrLost},
		"another deployment's":     {spoil: func() error { return statement(file, "UPDATE meta SET deployment_id = 'other'") }, claimed: true, want: deployment.ErrOtherDeployment},
		"whose meta row is gone":   {spoil: func() error { return statement(file, "DELETE FROM meta") }, claimed: true, want: deployment.ErrLost},
		"none was in use before":   {spoil: func() error { return os.Remove(file) }, want: nil},
		"an empty one is accepted": {spoil: func() error { return os.Truncate(file, 0) }, want: nil},
	} {
		t.Run(name, func(t *testing.T) {
			if err := os.WriteFile(file, backup, 0o600); err != nil {
				t.Fatal(err)
			}
			if err := tc.spoil(); err != nil {
				t.Fatal(err)
			}
			if _, err := prepare(t, c, tc.claimed); !errors.Is(err, tc.want) {
				t.Fatalf("migrate: %v, want %v", err, tc.want)
			}
			trust, err := newTrust(t.Context(), c)
			if err != nil {
				t.Fatal(err)
			}
			d, err := openData(t.Context(), c, trust, store.RoleAPI)
			if !errors.Is(err, tc.want) {
				t.Errorf("serve: %v, want %v", err, tc.want)
			}
			if err == nil {
				defer d.store.Close()
			}
			switch info, err := os.Stat(file); {
			case tc.size < 0 && !errors.Is(err, fs.ErrNotExist):
				t.Errorf("a file was created: %v", err)
			case tc.size == 0 && err != nil:
				t.Error(err)
			case name == "the file is empty" && info.Size() > 4096: // the header that SQLite writes when it opens the file
				t.Errorf("tables were created: %d bytes", info.Size())
			}
		})
	}
}

func statement(file string, statements ...string) error {
	db, err := sql.Open("sqlite", file)
	if err != nil {
		return err
	}
	db.SetMaxOpenConns(1) // what one statement attaches, the next one uses
	for _, s := range statements {
		if _, errStatement := db.Exec(s); errStatement != nil {
			err = errors.Join(err, errStatement)
		}
	}
	return errors.Join(err, db.Close())
}

// earlierSchema replaces the database by one that an earlier release has prepared, of the same
// deployment: it has the first seven migrations only.
func earlierSchema(ctx context.Context, file string) error {
	const earlier = 7
	if err := os.Rename(file, file+".now"); err != nil {
		return err
	}
	db, err := sql.Open("sqlite", file)
	if err != nil {
		return err
	}
	defer db.Close()
	migrations := os.DirFS(filepath.Join("..", "..", "internal", "store", "migrations", "sqlite"))
	provider, err := goose.NewProvider(goose.DialectSQLite3, db, migrations, goose.WithDisableGlobalRegistry(true))
	if err != nil {
		return err
	}
	if _, err := provider.UpTo(ctx, earlier); err != nil {
		return err
	}
	const columns = "id, deployment_id, belongs_to, canary_id, canary_version, canary_wrapped, canary"
	return statement(file, "ATTACH '"+file+".now' AS now", "INSERT INTO meta ("+columns+") SELECT "+columns+" FROM now.meta")
}
