//go:build integration

package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"filippo.io/age"

	"github.com/securenotes/securenotes/app/config"
	"github.com/securenotes/securenotes/hack/notesclient"
	"github.com/securenotes/securenotes/hack/testenv"
)

// TestDrillCommand drills a backup with the rights of the drill's role in a real Vault.
func TestDrillCommand(t *testing.T) {
	dir := t.TempDir()
	server := testenv.StartVault(t)
	key := server.CreateTransitKey(t)
	key.AllowBackups(t)
	root := server.Client(t)
	put := func(entry string, data map[string]any) {
		t.Helper()
		if _, err := root.Logical().Write("secret/data/"+key.Config.KVPath+"/"+entry, map[string]any{"data": data}); err != nil {
			t.Fatal(err)
		}
	}
	pepper := config.NewPepper()
	put(config.PepperLeaf, map[string]any{"currentID": pepper.CurrentID, "peppers": pepper.Peppers})
	keys, err := config.NewSessionKeys()
	if err != nil {
		t.Fatal(err)
	}
	put(config.SessionKeysLeaf, map[string]any{"signingKeyID": keys.SigningKeyID, "encryptionKeyID": keys.EncryptionKeyID, "jwks": keys.JWKS})
	entry := config.NewDrillEntry()
	identity, recipient, err := config.NewDrillIdentity(false)
	if err != nil {
		t.Fatal(err)
	}
	put(entry, map[string]any{"identity": identity.Identity})

	certificate := testenv.NewCertificate(t, dir)
	c := localConfig(t, dir, config.Database{SQLite: &config.SQLite{Path: filepath.Join(dir, "notes.db")}})
	c.Keys = config.Keys{Vault: &key.Config}
	c.Listen, c.MetricsListen = testenv.FreeAddress(t), testenv.FreeAddress(t)
	c.TLS = &config.TLS{CertFile: certificate.CertFile, KeyFile: certificate.KeyFile}
	if _, err := prepare(t, c, false); err != nil {
		t.Fatal(err)
	}
	stop, ended := serveUntilReady(t, c)
	client := notesclient.New("https://"+c.Listen, notesclient.Options{RootCAs: certificate.Pool, Timeout: 10 * time.Second, ConnectionPerRequest: true})
	if err := client.Register(t.Context(), "alice", "correct horse battery"); err != nil {
		t.Fatal(err)
	}
	login, err := client.Login(t.Context(), "alice", "correct horse battery")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := client.WithToken(login.Token).CreateNote(t.Context(), notesclient.Content{Content: "x"}); err != nil {
		t.Fatal(err)
	}
	stop()
	if err := <-ended; err != nil {
		t.Fatal(err)
	}

	backups, drills := filepath.Join(dir, "backups"), filepath.Join(dir, "drills")
	for _, directory := range []string{backups, drills} {
		if err := os.Mkdir(directory, 0o700); err != nil {
			t.Fatal(err)
		}
	}
	person, err := age.GenerateX25519Identity()
	if err != nil {
		t.Fatal(err)
	}
	c.Backup = &config.Backup{
		SecureNotesUID: "uid", Recipients: []string{person.Recipient().String(), recipient}, Destination: config.Destination{Directory: &config.Directory{Path: backups}},
		Drill: &config.Drill{Identities: []config.DrillEntry{{Entry: entry, Recipient: recipient}}, Sequence: 1, Directory: drills},
	}
	c.Auth.BcryptCost = config.MinBcryptCost
	raw, err := config.Marshal(c)
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(dir, "drill.yaml")
	if err := os.WriteFile(file, raw, 0o600); err != nil {
		t.Fatal(err)
	}
	id := printedID.FindString(mustRun(t, "backup", "--config", file))

	// The rules of the role securenotes-drill.
	rules := fmt.Sprintf("path \"transit/decrypt/%s\" { capabilities = [\"update\"] }\n", key.Config.TransitKey)
	for _, name := range []string{key.Config.BackupKey, key.Config.TransitKey} {
		rules += fmt.Sprintf("path \"transit/keys/%s\" { capabilities = [\"read\"] }\n", name)
	}
	rules += fmt.Sprintf("path \"secret/data/%s/drill-*\" { capabilities = [\"read\"] }\n", key.Config.KVPath)
	if err := root.Sys().PutPolicy("api", rules); err != nil {
		t.Fatal(err)
	}
	// A drill needs no database.
	if err := os.Rename(filepath.Join(dir, "notes.db"), filepath.Join(dir, "moved.db")); err != nil {
		t.Fatal(err)
	}
	mustSay := func(want string) {
		t.Helper()
		if printed := mustRun(t, "backup", "drill", "--config", file); !strings.Contains(printed, id) || !strings.Contains(printed, want) {
			t.Errorf("it prints %q, want %s and %q", printed, id, want)
		}
		if left, err := os.ReadDir(drills); err != nil || len(left) > 0 {
			t.Errorf("the drill left %v, %v", left, err)
		}
	}
	mustFail := func(reason string, exit int) {
		t.Helper()
		_, err := runPrinting(t, "backup", "drill", "--config", file)
		if termination, code := outcome(err); termination.Reason != reason || code != exit {
			t.Errorf("%v: reason %s, exit code %d; want %s, %d", err, termination.Reason, code, reason, exit)
		}
		if left, err := os.ReadDir(drills); err != nil || len(left) > 0 {
			t.Errorf("the failed drill left %v, %v", left, err)
		}
	}
	mustSay("1 owner keys and ")
	key.Retire(t, key.Rotate(t))
	mustSay("retired versions of the master key: 1; it has no escrow file")
	if _, err := root.Logical().Delete("secret/metadata/" + key.Config.KVPath + "/" + entry); err != nil {
		t.Fatal(err)
	}
	mustFail(config.ReasonDrillIdentityMissing, config.ExitConfiguration)
	if err := root.Sys().PutPolicy("api", "# nothing"); err != nil {
		t.Fatal(err)
	}
	mustFail(config.ReasonVaultDenied, config.ExitRetryable)
}
