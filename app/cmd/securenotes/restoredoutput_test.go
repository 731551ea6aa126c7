package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/securenotes/securenotes/app/config"
	"github.com/securenotes/securenotes/app/internal/backup"
	"github.com/securenotes/securenotes/app/internal/backup/archive"
	"github.com/securenotes/securenotes/app/internal/envelope"
	"github.com/securenotes/securenotes/app/internal/reencrypt"
)

// TestPrintRestored checks what a restore says is to be done next.
func TestPrintRestored(t *testing.T) {
	const here, there = "11111111-1111-4111-8111-111111111111", "22222222-2222-4222-8222-222222222222"
	withVault := config.Keys{Vault: &config.Vault{KVMount: "secret", KVPath: "securenotes/c/my-team/notes"}}
	for name, tc := range map[string]struct {
		of         string
		fromEscrow bool
		keys       config.Keys
		says       []string
		not        []string
	}{
		"from the escrow": {
			of: there, fromEscrow: true, keys: withVault,
			says: []string{"vault kv patch -mount='secret' 'securenotes/c/my-team/notes/marker'", "deployment.id to " + there, "keys.vault.pepperDigest to d", "outside Vault"},
		},
		"from the escrow, of the same deployment": {
			of: here, fromEscrow: true, keys: withVault, says: []string{"vault kv patch", "deployment.id to " + here},
		},
		"from the escrow, in development": {
			of: there, fromEscrow: true, keys: config.Keys{Local: &config.Local{File: "/data/master.key"}},
			says: []string{"deployment.id to " + there, "in /data/master.key.secrets beside the earlier pepper"}, not: []string{"vault kv"},
		},
		"without escrow": {
			of: here, keys: withVault, says: []string{"old versions of it, which cannot be retired before"}, not: []string{"vault kv", "deployment.id", "outside Vault"},
		},
	} {
		t.Run(name, func(t *testing.T) {
			restored := &backup.Restored{
				Manifest:   &archive.Manifest{ID: "ID", Deployment: archive.Deployment{ID: tc.of}},
				FromEscrow: tc.fromEscrow, PepperEntry: "pepper-x", PepperDigest: "d",
			}
			var out bytes.Buffer
			if err := printRestored(&out, &config.Config{Deployment: config.Deployment{ID: here}, Keys: tc.keys}, restored); err != nil {
				t.Fatal(err)
			}
			for _, want := range tc.says {
				if !strings.Contains(out.String(), want) {
					t.Errorf("it does not say %q:\n%s", want, out.String())
				}
			}
			for _, not := range tc.not {
				if strings.Contains(out.String(), not) {
					t.Errorf("it says %q:\n%s", not, out.String())
				}
			}
		})
	}
}

// TestMarkerCommand runs the command that a restore prints, with another program in the place of
// Vault's. With what it gives, the operator can read the marker.
func TestMarkerCommand(t *testing.T) {
	const id = "22222222-2222-4222-8222-222222222222"
	dir := t.TempDir()
	script := "#!/bin/sh\nfor argument; do echo \"$argument\"; done > " + dir + "/arguments\ncat > " + dir + "/fields\n"
	if err := os.WriteFile(filepath.Join(dir, "vault"), []byte(script), 0o700); err != nil {
		t.Fatal(err)
	}
	v := &config.Vault{KVMount: "it's", KVPath: "securenotes/c/my-team/notes", Namespace: "a b"}
	command, err := markerCommand(v, &backup.Restored{
		Manifest: &archive.Manifest{Deployment: archive.Deployment{ID: id}}, PepperEntry: "pepper-abcdefghijklmnop", PepperDigest: strings.Repeat("a", 64),
	})
	if err != nil {
		t.Fatal(err)
	}
	run := exec.CommandContext(t.Context(), "sh", "-c", command)
	run.Env = []string{"PATH=" + dir + ":" + os.Getenv("PATH")}
	if out, err := run.CombinedOutput(); err != nil {
		t.Fatalf("%s: %v: %s", command, err, out)
	}
	arguments, err := os.ReadFile(filepath.Join(dir, "arguments"))
	if want := "kv\npatch\n-namespace=a b\n-mount=it's\nsecurenotes/c/my-team/notes/marker\n-\n"; err != nil || string(arguments) != want {
		t.Errorf("the arguments are %q, %v; want %q", arguments, err, want)
	}
	raw, err := os.ReadFile(filepath.Join(dir, "fields"))
	if err != nil {
		t.Fatal(err)
	}
	fields := map[string]any{}
	if err := json.Unmarshal(raw, &fields); err != nil {
		t.Fatal(err)
	}
	fields["uid"] = id
	if raw, err = json.Marshal(fields); err != nil {
		t.Fatal(err)
	}
	marker, err := config.ParseMarker(raw)
	if want := (config.Marker{UID: id, DeploymentID: id, Pepper: "pepper-abcdefghijklmnop", PepperDigest: strings.Repeat("a", 64), Claimed: true}); err != nil ||
		marker.DeploymentID != want.DeploymentID || marker.Pepper != want.Pepper || marker.PepperDigest != want.PepperDigest || !marker.Claimed {
		t.Errorf("the marker is %+v, %v; want %+v", marker, err, want)
	}
}

// TestWrongIdentityNamesItsFlag checks that the error names the flag whose identity does not open
// the file.
func TestWrongIdentityNamesItsFlag(t *testing.T) {
	id := archive.NewID(time.Now())
	for name, want := range map[string]string{
		archive.Name(id, archive.KindArchive, false): "give --identity with",
		archive.Name(id, archive.KindArchive, true):  "give --identity with",
		archive.Name(id, archive.KindEscrow, false):  "give --escrow-identity with",
		archive.Name(id, archive.KindEscrow, true):   "give --escrow-identity with",
	} {
		err := nameIdentityFlag(&archive.Refusal{Reason: archive.ErrWrongIdentity, Object: name, Next: "give --identity"})
		if !errors.Is(err, archive.ErrWrongIdentity) || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %q", name, err, want)
		}
	}
	other := &archive.Refusal{Reason: archive.ErrDamaged, Object: "x", Next: "y"}
	if got := nameIdentityFlag(other); got.Error() != other.Error() {
		t.Errorf("another error becomes %v", got)
	}
}

// TestDatabaseName checks that the name of a database has no credentials.
func TestDatabaseName(t *testing.T) {
	file := filepath.Join(t.TempDir(), "uri")
	for uri, want := range map[string]string{
		"postgres://user:password@db.example:5432/notes?sslmode=verify-full\n": "db.example:5432/notes",
		"host=db.example password=password":                                    "the database that " + file + " names",
		"postgres://user:pass/word@db.example/notes":                           "the database that " + file + " names",
		"postgres://user:password@a:1,b:2/notes":                               "a:1,b:2/notes",
	} {
		if err := os.WriteFile(file, []byte(uri), 0o600); err != nil {
			t.Fatal(err)
		}
		if got := databaseName(config.Database{Postgres: &config.Postgres{URIFile: file}}); got != want {
			t.Errorf("%q: %q, want %q", uri, got, want)
		}
	}
	if got := databaseName(config.Database{SQLite: &config.SQLite{Path: "/data/notes.db"}}); got != "/data/notes.db" {
		t.Errorf("%q", got)
	}
}

// TestRestoredMessageNamesDamage checks that the output names what stays unreadable.
func TestRestoredMessageNamesDamage(t *testing.T) {
	restored := &backup.Restored{Manifest: &archive.Manifest{ID: "ID"}}
	if message := restoredMessage(restored); strings.Contains(message, "damaged") {
		t.Errorf("without damage: %s", message)
	}
	place := reencrypt.Damage{Table: "notes", Column: "content", Row: "r", Owner: "o", Err: envelope.ErrNotAuthentic}
	restored.Damaged = backup.Damaged{Total: 12, First: []reencrypt.Damage{place, place}}
	if message := restoredMessage(restored); !strings.Contains(message, "12 values are damaged: notes.content of row r of owner o: ") || !strings.Contains(message, "and 10 more. These stay unreadable") {
		t.Errorf("with damage: %s", message)
	}
}
