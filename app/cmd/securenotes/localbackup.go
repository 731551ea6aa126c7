package main

import (
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"encoding/base64"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"filippo.io/age"

	"github.com/securenotes/securenotes/app/config"
	"github.com/securenotes/securenotes/app/internal/envelope"
	"github.com/securenotes/securenotes/app/internal/vault"
)

// localKey is the name of the local master key and of the local backup key.
const localKey = "local"

// localSecretsPath returns the path of the file of localSecrets.
func localSecretsPath(c *config.Local) string { return c.File + ".secrets" }

// localBackupKey signs backups in development.
type localBackupKey struct {
	Private ed25519.PrivateKey `json:"private"`
	Since   time.Time          `json:"since"`
}

func newLocalBackupKey(now time.Time) (*localBackupKey, error) {
	_, private, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		return nil, fmt.Errorf("local backup key: %w", err)
	}
	return &localBackupKey{Private: private, Since: now.UTC().Truncate(time.Second)}, nil
}

// backupKey returns the backup key. It adds one to the file of an earlier release.
func (l localSecrets) backupKey() (*localBackupKey, error) {
	file, err := l.load()
	if err != nil || file.BackupKey != nil && len(file.BackupKey.Private) == ed25519.PrivateKeySize {
		return file.BackupKey, err
	}
	if file.BackupKey, err = newLocalBackupKey(time.Now()); err != nil {
		return nil, err
	}
	return file.BackupKey, l.save(file)
}

// SignBackup implements backup.Signer.
func (l localSecrets) SignBackup(_ context.Context, message []byte) (string, error) {
	key, err := l.backupKey()
	if err != nil {
		return "", err
	}
	return "local:v1:" + base64.StdEncoding.EncodeToString(ed25519.Sign(key.Private, message)), nil
}

// BackupKeys implements backup.KeyReader.
func (l localSecrets) BackupKeys(context.Context) (*config.BackupKeys, error) {
	key, err := l.backupKey()
	if err != nil {
		return nil, err
	}
	return &config.BackupKeys{Key: localKey, Versions: []config.BackupKey{
		{Version: 1, PublicKey: key.Private.Public().(ed25519.PublicKey), Since: key.Since},
	}}, nil
}

// restoredPepper is a pepper that a restore from an escrow added.
type restoredPepper struct {
	Entry  string         `json:"entry"`
	Pepper *config.Pepper `json:"pepper"`
}

func (r restoredPepper) missing() bool { return r.Pepper == nil }

// CreatePepper implements backup.PepperCreator. The service then uses the new entry, and the others
// stay in the file.
func (l localSecrets) CreatePepper(_ context.Context, entry string, pepper *config.Pepper) error {
	file, err := l.load()
	if err != nil {
		return err
	}
	if slices.ContainsFunc(file.RestoredPeppers, func(r restoredPepper) bool { return r.Entry == entry }) {
		return fmt.Errorf("local secrets: %w: %s has the entry %s", vault.ErrExists, l.path, entry)
	}
	file.RestoredPeppers = append(file.RestoredPeppers, restoredPepper{entry, pepper})
	return l.save(file)
}

// DrillIdentity implements backup.IdentityReader. Only Vault has identities of the drill.
func (l localSecrets) DrillIdentity(context.Context, string) (*config.DrillIdentity, error) {
	return nil, fmt.Errorf("%w: keys.vault: is required for a drill", errConfiguration)
}

// localVersions has the versions of the local master key.
type localVersions struct{ provider *envelope.Local }

// MasterKeyVersions implements backup.VersionReader.
func (l localVersions) MasterKeyVersions(context.Context) (*vault.KeyVersions, error) {
	latest, minDecryption := l.provider.Versions()
	return &vault.KeyVersions{Latest: latest, MinDecryption: minDecryption}, nil
}

// Files of a development directory, for backups.
const (
	devConfigFile   = "config.yaml"
	devBackups      = "backups"
	devIdentityFile = "backup-identity.txt"
)

// ensureDevBackups creates what `securenotes backup` and `securenotes restore` need to try them
// with the development server: a directory for backups, an age identity, and the configuration file
// that both read.
func ensureDevBackups(directory string, c *config.Config) error {
	directory, err := filepath.Abs(directory)
	if err != nil {
		return fmt.Errorf("--data: %w", err)
	}
	recipient, err := ensureDevIdentity(filepath.Join(directory, devIdentityFile))
	if err != nil {
		return err
	}
	backups := filepath.Join(directory, devBackups)
	if err := os.MkdirAll(backups, 0o700); err != nil {
		return fmt.Errorf("--data: %w", err)
	}
	c.Backup = &config.Backup{
		SecureNotesUID: c.Deployment.ID, Recipients: []string{recipient}, Escrow: &config.Escrow{Recipients: []string{recipient}},
		Destination: config.Destination{Directory: &config.Directory{Path: backups}},
	}
	// The commands may run in another directory.
	file := *c
	file.Database = config.Database{SQLite: &config.SQLite{Path: filepath.Join(directory, config.DatabaseFile)}}
	file.Keys = config.Keys{Local: &config.Local{File: filepath.Join(directory, devKeyFile)}}
	file.TLS = &config.TLS{CertFile: filepath.Join(directory, config.CertFile), KeyFile: filepath.Join(directory, config.KeyFile)}
	raw, err := config.Marshal(&file)
	if err == nil {
		err = writeFile(filepath.Join(directory, devConfigFile), append(raw, '\n'))
	}
	if err != nil {
		return fmt.Errorf("--data: %w", err)
	}
	return nil
}

// ensureDevIdentity returns the recipient of the age identity in the file, which it creates if
// necessary in the form that age-keygen writes.
func ensureDevIdentity(path string) (recipient string, err error) {
	raw, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		identity, err := age.GenerateX25519Identity()
		if err != nil {
			return "", fmt.Errorf("backup identity: %w", err)
		}
		recipient = identity.Recipient().String()
		if err := writeFile(path, []byte("# public key: "+recipient+"\n"+identity.String()+"\n")); err != nil {
			return "", fmt.Errorf("backup identity: %w", err)
		}
		return recipient, nil
	}
	if err != nil {
		return "", fmt.Errorf("backup identity: %w", err)
	}
	identities, err := age.ParseIdentities(strings.NewReader(string(raw)))
	if err != nil {
		return "", fmt.Errorf("backup identity %s: %w", path, err)
	}
	identity, ok := identities[0].(*age.X25519Identity)
	if !ok {
		return "", fmt.Errorf("backup identity %s: its first identity has not the form AGE-SECRET-KEY-1…", path)
	}
	return identity.Recipient().String(), nil
}
