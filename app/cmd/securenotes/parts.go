package main

import (
	"context"
	"errors"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"time"

	"github.com/securenotes/securenotes/app/config"
	"github.com/securenotes/securenotes/app/internal/audit"
	"github.com/securenotes/securenotes/app/internal/backup"
	"github.com/securenotes/securenotes/app/internal/deployment"
	"github.com/securenotes/securenotes/app/internal/envelope"
	"github.com/securenotes/securenotes/app/internal/store"
	"github.com/securenotes/securenotes/app/internal/vault"
)

// newLog logs JSON lines.
func newLog(c config.LogConfig, out io.Writer) *slog.Logger {
	var level slog.Level
	_ = level.UnmarshalText([]byte(c.Level)) // validated with the configuration
	return slog.New(slog.NewJSONHandler(out, &slog.HandlerOptions{Level: level}))
}

func loadConfig(path string) (*config.Config, error) {
	c, err := config.Load(path)
	if err != nil {
		return nil, configurationError{err}
	}
	return c, nil
}

// configurationError is an error of the configuration, whose text already says so.
type configurationError struct{ error }

// Unwrap returns the class and the error.
func (c configurationError) Unwrap() []error { return []error{errConfiguration, c.error} }

// secrets provides session keys and peppers, and signs the audit log and backups. It is Vault, or a
// file for development.
type secrets interface {
	SessionKeys(context.Context) (*config.SessionKeys, error)
	backup.PepperReader
	backup.PepperCreator
	audit.Signer
	backup.Signer
	backup.IdentityReader
}

// trust is the source of keys and secrets.
type trust struct {
	provider envelope.KeyProvider
	// masterKey is the name of the master key.
	masterKey string
	versions  backup.VersionReader
	secrets
	// logins are the source of database credentials; nil: the database's URI has them.
	logins store.Logins
}

// newTrust does not call Vault yet. Until ctx ends, it renews what Vault lends to the process.
func newTrust(ctx context.Context, c *config.Config) (*trust, error) {
	if c.Keys.Local != nil {
		local, err := envelope.OpenLocal(c.Keys.Local.File)
		if err != nil {
			return nil, err
		}
		return &trust{provider: local, masterKey: localKey, versions: localVersions{local}, secrets: localSecrets{localSecretsPath(c.Keys.Local)}}, nil
	}
	session, err := vault.NewSession(*c.Keys.Vault)
	if err != nil {
		return nil, err
	}
	t := &trust{provider: envelope.NewVault(session, *c.Keys.Vault), masterKey: c.Keys.Vault.TransitKey, versions: session, secrets: session}
	if p := c.Database.Postgres; p != nil && p.VaultCredentials != nil {
		login := session.DatabaseLogin(*p.VaultCredentials)
		go login.Run(ctx)
		t.logins = login
	}
	return t, nil
}

// data is an open database and the guarded keyring for it.
type data struct {
	store store.Store
	keys  *envelope.Keyring
	// meta is what the database said of itself when it was opened.
	meta store.Meta
}

// openStore opens the database. If a database that has been in use no longer has the deployment's
// data, the error is deployment.ErrLost, and nothing is created in its place: to open SQLite would
// create the file.
func openStore(ctx context.Context, c *config.Config, t *trust, role store.Role) (store.Store, error) {
	if file := c.Database.SQLite; c.Claimed && file != nil {
		if _, err := os.Stat(file.Path); errors.Is(err, fs.ErrNotExist) {
			return nil, deployment.Lost(c.Deployment, "there is no file "+file.Path)
		}
	}
	db, err := store.Open(ctx, c.Database, t.logins, role)
	if err != nil || !c.Claimed {
		return db, err
	}
	if err := deployment.CheckID(ctx, db, c.Deployment); err != nil {
		return nil, errors.Join(err, db.Close())
	}
	return db, nil
}

// openData opens the database. It checks that the database belongs to this deployment, that its
// schema fits this program, and that the master key is the right one.
func openData(ctx context.Context, c *config.Config, t *trust, role store.Role) (*data, error) {
	db, err := openStore(ctx, c, t, role)
	if err != nil {
		return nil, err
	}
	d := &data{store: db, keys: deployment.GuardedKeyring(c.Deployment.ID, t.provider, db)}
	if err = db.CheckSchema(ctx); err == nil {
		// First, so that after a restore in between it is the outdated one.
		d.meta, err = db.Meta(ctx)
	}
	if err == nil {
		err = deployment.Check(ctx, db, d.keys, c.Deployment)
	}
	if err != nil {
		_ = db.Close()
		return nil, err
	}
	return d, nil
}

// retry calls do with a growing pause until it succeeds, fails permanently, or ctx ends. It passes
// each error to report, and returns the last one.
func retry(ctx context.Context, report func(error), do func(context.Context) error) error {
	for pause := time.Second; ; pause = min(2*pause, 15*time.Second) {
		err := do(ctx)
		if err == nil {
			return nil
		}
		report(err)
		if permanent(err) {
			return err
		}
		select {
		case <-ctx.Done():
			return err
		case <-time.After(pause):
		}
	}
}

// permanent reports whether err lasts until a person acts. The process then ends, and its
// termination message tells the operator the reason.
func permanent(err error) bool {
	return errors.Is(err, vault.ErrNotRecorded) || errors.Is(err, deployment.ErrWrongPepper)
}
