package main

import (
	"bytes"
	"context"
	"errors"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/securenotes/securenotes/app/config"
	"github.com/securenotes/securenotes/app/internal/vault"
)

const aliceCredentials = `{"username":"alice","password":"correct horse battery"}`

// runPrinting runs a command line and returns what it prints.
func runPrinting(t *testing.T, args ...string) (string, error) {
	t.Helper()
	root := command()
	var out bytes.Buffer
	root.SetOut(&out)
	root.SetArgs(args)
	err := root.ExecuteContext(context.Background())
	return out.String(), err
}

// mustRun is runPrinting for a command that succeeds.
func mustRun(t *testing.T, args ...string) string {
	t.Helper()
	out, err := runPrinting(t, args...)
	if err != nil {
		t.Fatalf("%s: %v", strings.Join(args, " "), err)
	}
	return out
}

var printedID = regexp.MustCompile(`[0-9]{8}T[0-9]{6}Z-[a-z2-7]{16}`)

// get sends a request, and returns status and body.
func get(t *testing.T, client *http.Client, url, token string) (int, string) {
	t.Helper()
	request, err := http.NewRequest(http.MethodGet, url, nil)
	if err != nil {
		t.Fatal(err)
	}
	request.Header.Set("Authorization", "Bearer "+token)
	response, err := client.Do(request)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	var body bytes.Buffer
	_, err = body.ReadFrom(response.Body)
	if err != nil {
		t.Fatal(err)
	}
	return response.StatusCode, body.String()
}

// TestBackupInDevelopment backs up the development server while it runs, loses the database or
// everything but the identity and the backups, and restores: as a developer tries it.
func TestBackupInDevelopment(t *testing.T) {
	for name, tc := range map[string]struct {
		lose []string
		args []string
	}{
		"database lost":                {lose: []string{"notes.db", "notes.db-wal", "notes.db-shm"}},
		"database and keys lost":       {lose: []string{"notes.db", "notes.db-wal", "notes.db-shm", "master.key", "master.key.secrets", "audit-keys.json"}, args: []string{"--escrow-identity"}},
		"master key lost, not peppers": {lose: []string{"notes.db", "notes.db-wal", "notes.db-shm", "master.key"}, args: []string{"--escrow-identity"}},
	} {
		t.Run(name, func(t *testing.T) {
			dir := filepath.Join(t.TempDir(), "data")
			client, url, stop := devServer(t, dir)
			post(t, client, url+"/api/auth/register", "", aliceCredentials)
			token := post(t, client, url+"/api/auth/login", "", aliceCredentials)["token"].(string)
			id := post(t, client, url+"/api/notes", token, `{"content":"the content","title":"a title"}`)["id"].(string)

			configuration, identity := filepath.Join(dir, devConfigFile), filepath.Join(dir, devIdentityFile)
			printed := mustRun(t, "backup", "--config", configuration)
			backup := printedID.FindString(printed)
			keys := filepath.Join(t.TempDir(), "keys.json")
			if err := os.WriteFile(keys, []byte(mustRun(t, "backup", "public-keys", "--config", configuration)), 0o600); err != nil {
				t.Fatal(err)
			}
			post(t, client, url+"/api/notes", token, `{"content":"after the backup"}`)
			stop()

			for _, file := range tc.lose {
				if err := os.Remove(filepath.Join(dir, file)); err != nil && !errors.Is(err, os.ErrNotExist) {
					t.Fatal(err)
				}
			}
			args := []string{"restore", "--config", configuration, "--identity", identity, "--public-keys", keys}
			for _, flag := range tc.args {
				args = append(args, flag, identity)
			}
			printed = mustRun(t, append(args, backup)...)
			if !strings.Contains(printed, backup) {
				t.Errorf("restore prints %s", printed)
			}

			client, url, stop = devServer(t, dir)
			defer stop()
			if status, body := get(t, client, url+"/api/notes/"+id, token); status != http.StatusUnauthorized {
				t.Errorf("an old session: %d %s, want 401", status, body)
			}
			token = post(t, client, url+"/api/auth/login", "", aliceCredentials)["token"].(string)
			if status, body := get(t, client, url+"/api/notes/"+id, token); status != http.StatusOK || !strings.Contains(body, "the content") || !strings.Contains(body, "a title") {
				t.Errorf("the note: %d %s", status, body)
			}
			if _, body := get(t, client, url+"/api/notes", token); strings.Count(body, `"id"`) != 1 {
				t.Errorf("the notes: %s, want the one from before the backup", body)
			}
			if printed := mustRun(t, append(args, backup)...); !strings.Contains(printed, "by an earlier run") {
				t.Errorf("the same restore again prints %s", printed)
			}
			post(t, client, url+"/api/notes", token, `{"content":"after the restore"}`)
			if again, err := runPrinting(t, append(args, backup)...); err == nil || !strings.Contains(err.Error(), "has users") {
				t.Errorf("restore into a database with users: %s %v", again, err)
			}
		})
	}
}

// TestLocalPepperIsNotReplaced checks that a restore from an escrow adds its pepper beside that of
// the development server, under its own name, and that the service uses the last one.
func TestLocalPepperIsNotReplaced(t *testing.T) {
	local := localSecrets{filepath.Join(t.TempDir(), "secrets")}
	ctx := context.Background()
	first, err := local.Pepper(ctx)
	if err != nil {
		t.Fatal(err)
	}
	for _, entry := range []string{"pepper-a", "pepper-b"} {
		pepper := config.NewPepper()
		if err := local.CreatePepper(ctx, entry, pepper); err != nil {
			t.Fatal(err)
		}
		if err := local.CreatePepper(ctx, entry, config.NewPepper()); !errors.Is(err, vault.ErrExists) {
			t.Errorf("%s again: %v, want %v", entry, err, vault.ErrExists)
		}
		if got, err := local.Pepper(ctx); err != nil || got.CurrentID != pepper.CurrentID {
			t.Errorf("after %s: %v, %v; want %s", entry, got, err, pepper.CurrentID)
		}
	}
	file, err := local.load()
	if err != nil || file.Pepper.CurrentID != first.CurrentID || len(file.RestoredPeppers) != 2 {
		t.Errorf("the file has %+v, %v", file, err)
	}
}
