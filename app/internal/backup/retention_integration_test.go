//go:build integration

package backup_test

import (
	"strings"
	"testing"

	"github.com/securenotes/securenotes/app/config"
	"github.com/securenotes/securenotes/app/internal/backup/destination"
	"github.com/securenotes/securenotes/hack/testenv"
)

// TestRetentionInABucket checks that a backup with an access key that cannot delete is complete and
// says what is missing, and that one with the right deletes.
func TestRetentionInABucket(t *testing.T) {
	store := testenv.StartObjectStore(t)
	store.CreateBucket(t, "backups")
	d := newDaily(t, 0)
	rights := []string{"s3:PutObject", "s3:GetObject", "s3:ListBucket"}
	open := func(rights []string) {
		var err error
		d.to, err = destination.New(config.Destination{ObjectStore: &config.ObjectStore{
			URL: "https://" + store.Address + "/backups/of/notes", CAFile: store.CAFile, CredentialsDirectory: store.Credentials(t, "backups", rights...),
		}})
		if err != nil {
			t.Fatal(err)
		}
	}
	open(rights)
	keep := &config.Keep{Count: 1}
	for range 3 {
		made := d.mustRun(keep, nil)
		if want := len(d.made); made.Destination.Backups != int64(want) || made.Deleted != nil {
			t.Errorf("backup %d: got %+v, want no deletion", want, made.Destination)
		}
		if text := made.Destination.DeletionError; len(d.made) > 1 &&
			(!made.Destination.DeletionRefused || !strings.Contains(text, "s3:DeleteObject") || !strings.Contains(text, d.made[0].ID) || strings.Contains(text, "test-only")) {
			t.Errorf("the report says %q", text)
		}
	}
	d.mustHaveBackups(0, 1, 2)
	open(append(rights, "s3:DeleteObject"))
	if made := d.mustRun(keep, nil); made.Destination.Deleted != 3 || made.Destination.DeletionError != "" {
		t.Errorf("with the right to delete: %+v", made.Destination)
	}
	d.mustHaveBackups(3)
}
