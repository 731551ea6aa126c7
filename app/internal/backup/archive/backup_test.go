package archive_test

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"testing"
	"time"

	"filippo.io/age"

	"github.com/securenotes/securenotes/app/config"
	"github.com/securenotes/securenotes/app/internal/backup/archive"
)

const (
	backupKey    = "sn-backup-cluster.notes.example"
	deploymentID = "3f6c1c8e-9f1f-4a7e-9d5a-0c5b1f6f1a11"
)

var started = time.Date(2026, 11, 30, 13, 42, 0, 0, time.UTC)

// signer signs as Vault's Transit does.
type signer struct {
	key     ed25519.PrivateKey
	version int
}

func newSigner(seed byte, version int) signer {
	return signer{ed25519.NewKeyFromSeed(bytes.Repeat([]byte{seed}, ed25519.SeedSize)), version}
}

func (s signer) SignBackup(_ context.Context, message []byte) (string, error) {
	return fmt.Sprintf("vault:v%d:%s", s.version, base64.StdEncoding.EncodeToString(ed25519.Sign(s.key, message))), nil
}

func (s signer) public() []byte { return s.key.Public().(ed25519.PublicKey) }

// trusted are public keys of two versions. A Compromise ended the first.
func trusted() *config.BackupKeys {
	ended := started.Add(-time.Hour)
	return &config.BackupKeys{Key: backupKey, Versions: []config.BackupKey{
		{Version: 1, PublicKey: newSigner(1, 1).public(), Since: started.Add(-48 * time.Hour), Until: &ended},
		{Version: 2, PublicKey: newSigner(2, 2).public(), Since: ended},
	}}
}

func current() signer { return newSigner(2, 2) }

func newIdentity(t testing.TB) *age.X25519Identity {
	t.Helper()
	identity, err := age.GenerateX25519Identity()
	if err != nil {
		t.Fatal(err)
	}
	return identity
}

// files are the files of backups, by name.
type files map[string][]byte

func (f files) Open(_ context.Context, name string) (io.ReadCloser, int64, error) {
	raw, ok := f[name]
	if !ok {
		return nil, 0, fmt.Errorf("open %s: %w", name, fs.ErrNotExist)
	}
	return io.NopCloser(bytes.NewReader(raw)), int64(len(raw)), nil
}

// backup is one whole backup of a small database.
type backup struct {
	id       string
	identity *age.X25519Identity
	escrow   *age.X25519Identity
	manifest archive.Manifest
	files    files
}

var tables = []archive.Table{
	{Name: "users", Columns: []archive.Column{{Name: "id", Type: archive.Text}, {Name: "username", Type: archive.Text}, {Name: "second_factor", Type: archive.Text}, {Name: "created_at", Type: archive.Integer}}},
	{Name: "owner_keys", Columns: []archive.Column{{Name: "owner", Type: archive.Text}, {Name: "id", Type: archive.Text}, {Name: "wrapped", Type: archive.Text}}},
	{Name: "notes", Columns: []archive.Column{{Name: "owner", Type: archive.Text}, {Name: "id", Type: archive.Text}, {Name: "revision", Type: archive.Integer}, {Name: "content", Type: archive.Bytes}, {Name: "title", Type: archive.Bytes}}},
	{Name: "recovery_codes", Columns: []archive.Column{{Name: "owner", Type: archive.Text}, {Name: "digest", Type: archive.Text}}},
}

// row is a row of the table with the given index.
type row struct {
	table  int
	values []any
}

func sampleRows() []row {
	return []row{
		{0, []any{"user-1", "alice", nil, int64(1)}},
		{0, []any{"user-2", "bob", "factor", int64(2)}},
		{1, []any{"user-1", "key-1", "vault:v3:AAAA"}},
		{1, []any{"user-2", "key-2", "vault:v3:BBBB"}},
		{1, []any{"user-2", "key-3", "vault:v3:CCCC"}},
		{2, []any{"user-1", "note-1", int64(1), []byte("sealed one"), nil}},
		{2, []any{"user-2", "note-2", int64(7), []byte("sealed two"), []byte("title")}},
	}
}

func ownerKey(n byte) []byte { return bytes.Repeat([]byte{n}, 32) }

func sampleEscrowRows() []row {
	return []row{
		{0, []any{archive.CanaryOwner, "canary-key", ownerKey(9)}},
		{0, []any{"user-1", "key-1", ownerKey(1)}},
		{0, []any{"user-2", "key-2", ownerKey(2)}},
		{0, []any{"user-2", "key-3", ownerKey(3)}},
		{1, []any{"pepper-a", []byte("pepper a")}},
		{1, []any{"pepper-b", []byte("pepper b")}},
	}
}

func archiveContents(id string) archive.Contents {
	return archive.Contents{Kind: archive.KindArchive, ID: id, DeploymentID: deploymentID, Schema: 9, Fence: 3,
		Canary: &archive.Canary{ID: "canary-key", Wrapped: "vault:v3:DDDD", Sealed: []byte("sealed canary")}, Tables: tables}
}

func escrowContents(id string) archive.Contents {
	return archive.Contents{Kind: archive.KindEscrow, ID: id, DeploymentID: deploymentID, Schema: 9, CurrentPepper: "pepper-b", Tables: archive.EscrowTables()}
}

// write writes a file with the given rows.
func write(t testing.TB, recipient age.Recipient, c archive.Contents, rows []row) ([]byte, archive.Written) {
	t.Helper()
	var out bytes.Buffer
	w, err := archive.NewWriter(&out, []age.Recipient{recipient}, c)
	if err != nil {
		t.Fatal(err)
	}
	for _, r := range rows {
		if err := w.Row(r.table, r.values); err != nil {
			t.Fatal(err)
		}
	}
	written, err := w.Close()
	if err != nil {
		t.Fatal(err)
	}
	return out.Bytes(), written
}

// sampleManifest describes the archive and the escrow file.
func sampleManifest(id string, written archive.Written, escrow *archive.File) archive.Manifest {
	created := started.Add(-24 * time.Hour)
	return archive.Manifest{
		ID: id, Sequence: 4, StartedAt: started, CompletedAt: started.Add(3 * time.Second), Program: "v0.9.0", Schema: 9,
		Deployment: archive.Deployment{ID: deploymentID, Namespace: "notes", Name: "example", SecureNotesUID: deploymentID},
		MasterKey:  archive.MasterKey{Name: "sn-cluster.notes.example", OldestVersion: 3, Versions: []archive.KeyVersion{{Version: 3, CreatedAt: &created}}},
		Peppers:    []string{"pepper-a"}, Rows: written.Rows, Archive: written.File, Escrow: escrow,
	}
}

func sealed(t testing.TB, s archive.Signer, m archive.Manifest) []byte {
	t.Helper()
	raw, err := archive.Seal(t.Context(), s, backupKey, m)
	if err != nil {
		t.Fatal(err)
	}
	return raw
}

// newBackup writes a backup with an escrow file.
func newBackup(t testing.TB) *backup {
	t.Helper()
	b := &backup{id: archive.NewID(started), identity: newIdentity(t), escrow: newIdentity(t), files: files{}}
	main, written := write(t, b.identity.Recipient(), archiveContents(b.id), sampleRows())
	keys, writtenKeys := write(t, b.escrow.Recipient(), escrowContents(b.id), sampleEscrowRows())
	b.manifest = sampleManifest(b.id, written, &writtenKeys.File)
	b.files[archive.Name(b.id, archive.KindArchive, false)] = main
	b.files[archive.Name(b.id, archive.KindEscrow, false)] = keys
	b.sign(t)
	return b
}

// sign signs the manifest again.
func (b *backup) sign(t testing.TB) {
	t.Helper()
	b.files[archive.ManifestName(b.id)] = sealed(t, current(), b.manifest)
}

func (b *backup) identities() []age.Identity { return []age.Identity{b.identity, b.escrow} }

// verified returns the manifest, whose signature is verified.
func (b *backup) verified(t testing.TB) (*archive.Manifest, error) {
	t.Helper()
	name := archive.ManifestName(b.id)
	e, err := archive.ParseEnvelope(name, b.files[name])
	if err != nil {
		return nil, err
	}
	return e.Verify(trusted(), "")
}

// verify makes all checks.
func (b *backup) verify(t testing.TB, identities ...age.Identity) (*archive.Report, []row, error) {
	t.Helper()
	m, err := b.verified(t)
	if err != nil {
		return nil, nil, err
	}
	var rows []row
	report, err := archive.Verify(t.Context(), archive.Check{Manifest: m, Files: b.files, Identities: identities, Row: func(table archive.Table, values []any, _ []byte) error {
		for i := range tables {
			if tables[i].Name == table.Name {
				rows = append(rows, row{i, cloneValues(values)})
			}
		}
		return nil
	}})
	return report, rows, err
}

func cloneValues(values []any) []any {
	cloned := make([]any, len(values))
	for i, value := range values {
		if raw, ok := value.([]byte); ok {
			value = append([]byte{}, raw...)
		}
		cloned[i] = value
	}
	return cloned
}

// readAll reads all rows of a file.
func readAll(raw []byte, identity age.Identity, want archive.File, kind archive.Kind, id string) ([]row, error) {
	r, err := archive.Open(bytes.NewReader(raw), []age.Identity{identity}, want, kind, id, false)
	if err != nil {
		return nil, err
	}
	defer r.Close()
	var rows []row
	for {
		table, values, err := r.Next()
		if errors.Is(err, io.EOF) {
			return rows, nil
		}
		if err != nil {
			return rows, err
		}
		rows = append(rows, row{table, cloneValues(values)})
	}
}

// answers is a signer that returns a fixed text.
type answers string

func (a answers) SignBackup(context.Context, []byte) (string, error) { return string(a), nil }

var errDenied = errors.New("permission denied")

// denied is a signer that may not sign.
type denied struct{}

func (denied) SignBackup(context.Context, []byte) (string, error) { return "", errDenied }

func base64Text(raw []byte) string { return base64.StdEncoding.EncodeToString(raw) }
