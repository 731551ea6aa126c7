package main

import (
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/securenotes/securenotes/app/config"
)

// devOptions are the flags of serve --dev.
type devOptions struct{ listen, data string }

const devWarning = `
  ┌──────────────────────────────────────────────────────────────────────────┐
  │  DEVELOPMENT SERVER: NOT FOR SECRETS.                                    │
  │  The master key lies in a file beside the database: anyone who can read  │
  │  the directory can read every note. For real data, use the operator.     │
  └──────────────────────────────────────────────────────────────────────────┘
`

// devKeyFile is the file with the local master key.
const devKeyFile = "master.key"

// serveDev serves from one directory: SQLite, a local key file, a self-signed certificate.
func serveDev(ctx context.Context, o devOptions) error {
	c, err := devDirectory(o)
	if err != nil {
		return err
	}
	return serveDirectory(ctx, c, o.data)
}

// devDirectory creates the directory with a certificate, and returns the configuration of a service
// that keeps everything in it.
func devDirectory(o devOptions) (*config.Config, error) {
	if err := os.MkdirAll(o.data, 0o700); err != nil {
		return nil, fmt.Errorf("--data: %w", err)
	}
	if err := ensureDevCertificate(o.data, time.Now()); err != nil {
		return nil, err
	}
	in := func(name string) string { return filepath.Join(o.data, name) }
	c := &config.Config{
		APIVersion: config.APIVersion, Kind: config.Kind,
		Deployment: config.Deployment{ID: "dev", Namespace: "dev", Name: "dev"},
		Listen:     o.listen, MetricsListen: "127.0.0.1:0",
		TLS:      &config.TLS{CertFile: in(config.CertFile), KeyFile: in(config.KeyFile)},
		Database: config.Database{SQLite: &config.SQLite{Path: in(config.DatabaseFile)}},
		Keys:     config.Keys{Local: &config.Local{File: in(devKeyFile)}},
		Auth: config.Auth{
			Registration: config.RegistrationOpen, TokenTTL: config.Duration(24 * time.Hour),
			BcryptCost: config.MinBcryptCost, MinPasswordLength: config.MinPasswordLength,
		},
	}
	if err := c.Complete(); err != nil {
		return nil, fmt.Errorf("%w: %w", errConfiguration, err)
	}
	return c, ensureDevBackups(o.data, c)
}

// serveDirectory migrates the database, prints how to register and how to back up, and serves.
func serveDirectory(ctx context.Context, c *config.Config, directory string) error {
	trust, err := newTrust(ctx, c)
	if err != nil {
		return err
	}
	if _, err := migrate(ctx, c, trust); err != nil {
		return err
	}
	fmt.Fprint(os.Stderr, devWarning)
	fmt.Fprintf(os.Stderr, `
  curl --cacert %[2]s https://%[1]s/api/auth/register -H 'Content-Type: application/json' \
    -d '{"username":"alice","password":"correct horse battery"}'
  securenotes backup --config %[3]s

`, c.Listen, filepath.Join(directory, config.CAFile), filepath.Join(directory, devConfigFile))
	return serve(ctx, c, 0, newLog(c.Log, os.Stderr))
}

// localSecrets stores session keys, pepper, audit key and backup key in one file next to the local
// master key. Another file has the audit key's public half in Vault's format.
type localSecrets struct{ path string }

type localSecretsFile struct {
	SessionKeys *config.SessionKeys `json:"sessionKeys"`
	Pepper      *config.Pepper      `json:"pepper"`
	// RestoredPeppers are entries beside Pepper. The last one is in use.
	RestoredPeppers []restoredPepper   `json:"restoredPeppers,omitempty"`
	AuditKey        ed25519.PrivateKey `json:"auditKey"`
	// BackupKey is nil in the file of an earlier release.
	BackupKey *localBackupKey `json:"backupKey,omitempty"`
}

// SessionKeys implements secrets.
func (l localSecrets) SessionKeys(context.Context) (*config.SessionKeys, error) {
	file, err := l.load()
	return file.SessionKeys, err
}

// Pepper implements secrets.
func (l localSecrets) Pepper(context.Context) (*config.Pepper, error) {
	file, err := l.load()
	if n := len(file.RestoredPeppers); n > 0 {
		return file.RestoredPeppers[n-1].Pepper, err
	}
	return file.Pepper, err
}

// Sign implements secrets.
func (l localSecrets) Sign(_ context.Context, message []byte) (string, error) {
	file, err := l.load()
	if err != nil {
		return "", err
	}
	return "local:v1:" + base64.StdEncoding.EncodeToString(ed25519.Sign(file.AuditKey, message)), nil
}

func (l localSecrets) load() (localSecretsFile, error) {
	var file localSecretsFile
	raw, err := os.ReadFile(l.path)
	if errors.Is(err, fs.ErrNotExist) {
		return l.create()
	}
	if err != nil {
		return file, fmt.Errorf("local secrets: %w", err)
	}
	if json.Unmarshal(raw, &file) != nil || file.SessionKeys == nil || file.Pepper == nil || slices.ContainsFunc(file.RestoredPeppers, restoredPepper.missing) || len(file.AuditKey) != ed25519.PrivateKeySize {
		return file, fmt.Errorf("local secrets: %s is damaged, or of an earlier release: remove the directory to start with an empty one", l.path)
	}
	return file, nil
}

func (l localSecrets) create() (localSecretsFile, error) {
	keys, err := config.NewSessionKeys()
	if err != nil {
		return localSecretsFile{}, err
	}
	public, private, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		return localSecretsFile{}, fmt.Errorf("local secrets: %w", err)
	}
	backupKey, err := newLocalBackupKey(time.Now())
	if err != nil {
		return localSecretsFile{}, err
	}
	file := localSecretsFile{SessionKeys: keys, Pepper: config.NewPepper(), AuditKey: private, BackupKey: backupKey}
	published, err := json.Marshal(map[string]any{"data": map[string]any{"keys": map[string]any{"1": map[string][]byte{"public_key": public}}}})
	if err == nil {
		err = writeFile(filepath.Join(filepath.Dir(l.path), "audit-keys.json"), published)
	}
	if err != nil {
		return file, fmt.Errorf("local secrets: %w", err)
	}
	return file, l.save(file)
}

func (l localSecrets) save(file localSecretsFile) error {
	raw, err := json.Marshal(file)
	if err == nil {
		err = writeFile(l.path, raw)
	}
	if err != nil {
		return fmt.Errorf("local secrets: %w", err)
	}
	return nil
}

// writeFile replaces a file with mode 0600 atomically: after a crash, it has the old or the new
// content.
func writeFile(path string, raw []byte) error {
	f, err := os.CreateTemp(filepath.Dir(path), ".new-*")
	if err != nil {
		return err
	}
	defer os.Remove(f.Name())
	_, err = f.Write(raw)
	if err = errors.Join(err, f.Sync(), f.Close()); err != nil {
		return err
	}
	return os.Rename(f.Name(), path)
}
