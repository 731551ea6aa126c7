//go:build integration

package chaos_test

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"filippo.io/age"
	"github.com/jackc/pgx/v5"

	"github.com/securenotes/securenotes/app/config"
	"github.com/securenotes/securenotes/hack/chaos"
	"github.com/securenotes/securenotes/hack/testenv"
)

// safe is where the backups of a world go, and the files that a restore needs.
type safe struct {
	directory, identity, publicKeys string
	recipient                       string
}

// newSafe creates an age identity and a directory for backups.
func newSafe(t testing.TB) *safe {
	t.Helper()
	identity, err := age.GenerateX25519Identity()
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	s := &safe{directory: t.TempDir(), identity: filepath.Join(dir, "identity"), publicKeys: filepath.Join(dir, "keys.json"), recipient: identity.Recipient().String()}
	if err := os.WriteFile(s.identity, []byte(identity.String()+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	return s
}

// configure lets a configuration back up to the safe.
func (s *safe) configure(c *config.Config) {
	linked := *c.Keys.Vault
	linked.BackupKey = config.BackupKeyName("test", "ns", "name")
	c.Keys.Vault = &linked
	c.Backup = &config.Backup{
		SecureNotesUID: "test", Recipients: []string{s.recipient}, Escrow: &config.Escrow{Recipients: []string{s.recipient}},
		Destination: config.Destination{Directory: &config.Directory{Path: s.directory}},
	}
}

// runKilled runs a command until it succeeds. It kills the first attempts, at times that only the
// seed decides.
func (w *world) runKilled(attempts int, c *config.Config, args ...string) string {
	w.Helper()
	file := testenv.WriteConfig(w, c)
	for attempt := 0; ; attempt++ {
		j := w.startJob(way{file: file}, args...)
		if attempt < attempts {
			select {
			case err := <-j.done:
				j.done <- err
			case <-time.After(time.Duration(w.random.Int64N(int64(500 * time.Millisecond)))):
				j.kill()
			}
		}
		code := w.exit(j)
		w.say("%s: exit code %d", args[0], code)
		if code == 0 {
			return j.out.String()
		}
		if attempt > attempts+3 {
			w.Fatalf("%v does not succeed:\n%s", args, j.out.String())
		}
	}
}

var backupID = regexp.MustCompile(`Backup ([0-9]{8}T[0-9]{6}Z-[a-z2-7]{16}) is in`)

// backUp makes a backup while users write, kills the first attempts, and returns when it was and
// its id.
func (w *world) backUp(attempts int, c *config.Config) (*chaos.Moment, string) {
	w.Helper()
	moment := w.load.BeginMoment()
	out := w.runKilled(attempts, c, "backup")
	moment.End()
	found := backupID.FindStringSubmatch(out)
	if found == nil {
		w.Fatalf("backup printed:\n%s", out)
	}
	return moment, found[1]
}

// TestBackupUnderFire makes a backup while users write, and one while a rotation runs as well. It
// kills attempts of each backup and restore. Each restored database must have the state of every
// note at one instant of its backup: one with the same Vault, and one from the escrow with a Vault
// that has never seen the first.
func TestBackupUnderFire(t *testing.T) {
	t.Parallel()
	w := newWorld(t, program(t), seed(t), shape{users: 3, newcomers: 2, jobDelay: time.Millisecond})
	w.random = w.dice(1 << 40)
	w.key.AllowBackups(t)
	s := newSafe(t)
	c := *w.way().config
	s.configure(&c)
	file := testenv.WriteConfig(t, &c)

	first, firstID := w.backUp(5, &c)
	w.jobs.link.Delay(50 * time.Millisecond) // so that the rotation takes longer than the backup
	to := w.key.Rotate(t)
	rotation := w.startJob(w.jobs, reencryptArgs("Reencrypt", to)...)
	second, secondID := w.backUp(0, &c)
	if rotation.ended() {
		t.Error("the rotation ended before the backup")
	}
	if code := w.exit(rotation); code != 0 {
		t.Fatalf("the rotation ended with %d:\n%s", code, rotation.out.String())
	}
	keys, err := w.program.Command(t.Context(), "backup", "public-keys", "--config", file).Output()
	if err == nil {
		err = os.WriteFile(s.publicKeys, keys, 0o600)
	}
	if err != nil || !json.Valid(keys) {
		t.Fatalf("public-keys: %v: %s", err, keys)
	}
	w.load.End()
	checking, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	if err := w.load.Check(checking); err != nil {
		t.Fatal(err)
	}
	for _, r := range w.replicas {
		r.service.Kill(t)
	}

	restored := c
	w.useDatabase(&restored, "second")
	w.mustRefuseRetired(&restored, to, "--older", "--identity", s.identity, firstID)
	w.runKilled(4, &restored, "restore", "--identity", s.identity, secondID)
	w.mustBe(second, &restored)

	// The first Vault is gone; only the public keys are left of it.
	w.vault.Seal(t)
	vault := testenv.StartVault(t)
	key := vault.CreateTransitKey(t)
	key.StoreSecrets(t)
	key.AllowBackups(t)
	elsewhere := c
	elsewhere.Keys.Vault = &key.Config
	s.configure(&elsewhere)
	elsewhere.Deployment.ID = "another"
	w.useDatabase(&elsewhere, "first")
	out := w.runKilled(4, &elsewhere, "restore", "--older", "--identity", s.identity, "--escrow-identity", s.identity, "--public-keys", s.publicKeys, firstID)
	next := regexp.MustCompile(`Set keys.vault.pepper to (\S+) and keys.vault.pepperDigest to ([0-9a-f]+)`).FindStringSubmatch(out)
	if next == nil || !strings.Contains(out, "Set deployment.id to test") {
		t.Fatalf("restore printed:\n%s", out)
	}
	elsewhere.Deployment.ID, elsewhere.Keys.Vault.Pepper, elsewhere.Keys.Vault.PepperDigest = "test", next[1], next[2]
	w.mustBe(first, &elsewhere)
	w.report()
}

// mustRefuseRetired retires the versions of the master key before one, checks that a restore names
// those that it needs and writes neither to the database nor to Vault, and allows them again.
func (w *world) mustRefuseRetired(c *config.Config, to int, args ...string) {
	w.Helper()
	list := func() string {
		secret, err := w.vault.Client(w).Logical().List(w.key.Config.KVMount + "/metadata/" + w.key.Config.KVPath)
		if err != nil {
			w.Fatal(err)
		}
		return fmt.Sprint(secret.Data["keys"])
	}
	entries := list()
	w.key.Retire(w, to)
	j := w.startJob(way{file: testenv.WriteConfig(w, c)}, append([]string{"restore"}, args...)...)
	code := w.exit(j)
	out := j.out.String()
	if code != config.ExitConfiguration || !strings.Contains(out, "of the versions 1:") || !strings.Contains(out, "min_decryption_version=1") {
		w.Errorf("a restore that needs a retired version ended with %d:\n%s", code, out)
	}
	if left := list(); left != entries {
		w.Errorf("Vault has the entries %s, want %s", left, entries)
	}
	uri, err := os.ReadFile(c.Database.Postgres.URIFile)
	if err != nil {
		w.Fatal(err)
	}
	conn, err := pgx.Connect(w.Context(), string(uri))
	if err != nil {
		w.Fatal(err)
	}
	defer conn.Close(w.Context())
	var tables int
	if err := conn.QueryRow(w.Context(), "SELECT count(*) FROM information_schema.tables WHERE table_schema = 'public'").Scan(&tables); err != nil || tables != 0 {
		w.Errorf("the refused restore has created %d tables, %v", tables, err)
	}
	w.key.Retire(w, 1)
}

// useDatabase lets the configuration use a new database of the world's server.
func (w *world) useDatabase(c *config.Config, name string) {
	w.Helper()
	database := *c.Database.Postgres
	database.URIFile = filepath.Join(w.TempDir(), "uri")
	if err := os.WriteFile(database.URIFile, []byte(w.postgres.CreateDatabase(w, name)), 0o600); err != nil {
		w.Fatal(err)
	}
	c.Database.Postgres = &database
	c.Listen, c.MetricsListen = testenv.FreeAddress(w), testenv.FreeAddress(w)
}

// mustBe serves a restored database, and checks that it has the state of the moment.
func (w *world) mustBe(m *chaos.Moment, c *config.Config) {
	w.Helper()
	service := w.program.StartService(w, c)
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	defer cancel()
	if err := m.Check(ctx, clientOf(w, service)); err != nil {
		w.Fatal(err)
	}
	service.Kill(w)
}
