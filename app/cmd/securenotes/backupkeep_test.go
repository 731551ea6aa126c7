package main

import (
	"bytes"
	"encoding/json"
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/securenotes/securenotes/app/config"
	"github.com/securenotes/securenotes/app/internal/backup"
	"github.com/securenotes/securenotes/app/internal/backup/archive"
)

// TestBackupKeep checks what `securenotes backup` prints about the backups that it deletes, and
// that it creates the directory for backups.
func TestBackupKeep(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "data")
	client, url, stop := devServer(t, dir)
	post(t, client, url+"/api/auth/register", "", aliceCredentials)
	stop()
	configuration, backups := filepath.Join(dir, devConfigFile), filepath.Join(dir, devBackups)
	if err := os.Remove(backups); err != nil {
		t.Fatal(err)
	}
	first := mustRun(t, "backup", "--config", configuration)
	if !strings.Contains(first, "Backups of this SecureNotes in the destination: 1, ") || strings.Contains(first, "deleted") {
		t.Errorf("the first backup prints %s", first)
	}
	c, err := config.Load(configuration)
	if err != nil {
		t.Fatal(err)
	}
	c.Backup.Keep = &config.Keep{Count: 1}
	raw, err := config.Marshal(c)
	if err == nil {
		err = os.WriteFile(configuration, raw, 0o600)
	}
	if err != nil {
		t.Fatal(err)
	}
	second := mustRun(t, "backup", "--config", configuration)
	for _, want := range []string{
		"Backup " + printedID.FindString(first) + " was deleted: backup.keep (count 1) no longer keeps it.",
		"Backups of this SecureNotes in the destination: 1, ", "The least version of the master key that they need is 1.",
	} {
		if !strings.Contains(second, want) {
			t.Errorf("the second backup prints %s, want %q", second, want)
		}
	}
	if list := mustRun(t, "backup", "list", "--config", configuration); strings.Contains(list, printedID.FindString(first)) || !strings.Contains(list, printedID.FindString(second)) {
		t.Errorf("the list is %s", list)
	}
}

// TestPrintDestination checks what is printed when something was not deleted or not listed.
func TestPrintDestination(t *testing.T) {
	keep := &config.Keep{Count: 7, Age: config.Duration(36 * time.Hour)}
	for name, tc := range map[string]struct {
		made *backup.Made
		want string
	}{
		"not listed": {&backup.Made{}, "could not be listed afterwards"},
		"not deleted": {
			&backup.Made{Destination: &config.DestinationReport{Backups: 8, DeletionError: "access denied"}},
			"A backup that backup.keep (count 7, age 36h0m0s) no longer keeps was not deleted: access denied\n",
		},
		"not valid": {&backup.Made{Destination: &config.DestinationReport{Invalid: 3}}, "or are not of this SecureNotes: 3."},
	} {
		var out bytes.Buffer
		if printDestination(&out, tc.made, keep); !strings.Contains(out.String(), tc.want) {
			t.Errorf("%s: it prints %s, want %q", name, out.String(), tc.want)
		}
	}
}

// TestLongestTermination checks that Kubernetes, which keeps 4,096 bytes, does not cut what a
// backup reports, and that it is read back as it was.
func TestLongestTermination(t *testing.T) {
	digest, at := strings.Repeat("f", 64), time.Date(9999, 12, 31, 23, 59, 59, 0, time.UTC)
	file := archive.File{SHA256: digest, Size: math.MaxInt64}
	made := &backup.Made{
		Manifest: &archive.Manifest{
			ID: archive.NewID(at), Sequence: math.MaxInt64, Archive: file, Escrow: &file,
			Rows:      map[string]int64{"notes": math.MaxInt64, "users": math.MaxInt64},
			MasterKey: archive.MasterKey{OldestVersion: math.MaxInt, Versions: []archive.KeyVersion{{Version: math.MaxInt}}},
		},
		SHA256: digest, SnapshotAt: at, VerifiedAt: at, UploadedAt: at,
		Destination: &config.DestinationReport{
			ListedAt: at, Backups: math.MaxInt64, Bytes: math.MaxInt64, OldestAt: at, OldestKeyVersion: math.MaxInt64, WithoutEscrow: math.MaxInt64, Invalid: math.MaxInt64,
			Deleted: math.MaxInt64, DeletionError: strings.Repeat("\"", 512), DeletionRefused: true,
		},
	}
	raw, err := encodeTermination(madeTermination(made))
	if err != nil || len(raw) >= 4096 {
		t.Errorf("%d bytes, %v: %s", len(raw), err, raw)
	}
	var got config.Termination
	if err := json.Unmarshal(raw, &got); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(madeTermination(made), got); diff != "" {
		t.Error(diff)
	}
	html := encodedLength(t, strings.Repeat("<&>", 100))
	if plain := encodedLength(t, strings.Repeat("abc", 100)); html != plain {
		t.Errorf("%d bytes for what HTML escapes, want %d", html, plain)
	}
}

func encodedLength(t *testing.T, message string) int {
	t.Helper()
	raw, err := encodeTermination(config.Termination{Message: message})
	if err != nil {
		t.Fatal(err)
	}
	return len(raw)
}
