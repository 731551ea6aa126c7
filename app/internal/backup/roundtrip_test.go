package backup_test

import (
	"maps"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/securenotes/securenotes/app/config"
	"github.com/securenotes/securenotes/app/internal/accounts"
	"github.com/securenotes/securenotes/app/internal/backup"
	"github.com/securenotes/securenotes/app/internal/store"
)

// TestRoundTrip restores backups from each kind of database into each kind: with the master key
// that they need, and from the escrow under another master key, whose versions start at 1 while
// those of the backup were at 5.
func TestRoundTrip(t *testing.T) {
	for _, from := range slices.Sorted(maps.Keys(kinds())) {
		for _, to := range slices.Sorted(maps.Keys(kinds())) {
			t.Run(from+" to "+to, func(t *testing.T) {
				t.Parallel()
				source := newSite(t, "source", kinds()[from](t))
				source.claim(t)
				source.fill(t, 4, 3)
				for range 4 {
					source.moveTo(t)
				}
				made := source.mustBackUp(t)
				if got := made.Manifest.MasterKey.OldestVersion; got != 5 {
					t.Errorf("the oldest version is %d, want 5", got)
				}
				if latest, err := store.LatestSchema(); err != nil || made.Manifest.Schema != latest {
					t.Errorf("the schema is %d, want %d, %v", made.Manifest.Schema, latest, err)
				}
				before := source.archived(t)

				t.Run("same keys", func(t *testing.T) {
					target := source.another(t, kinds()[to](t))
					restored := target.mustRestore(t, target.restore(source, made.Manifest.ID))
					if diff := cmp.Diff(before, target.archived(t)); diff != "" {
						t.Error(diff)
					}
					if restored.Fence != 5 || restored.FromEscrow {
						t.Errorf("restored: %+v", restored)
					}
					target.mustHave(t, source.users)
				})
				t.Run("from the escrow", func(t *testing.T) {
					target := newSite(t, "target", kinds()[to](t))
					restored := target.mustRestore(t, target.fromEscrow(source, made.Manifest.ID))
					target.adopt(t, restored)
					if restored.Fence != 1 || !restored.FromEscrow {
						t.Errorf("restored: %+v", restored)
					}
					if oldest, err := target.db.OldestVersion(ctx); err != nil || oldest != 1 {
						t.Errorf("the oldest version is %d, %v; want 1", oldest, err)
					}
					if stale, err := target.db.CountStaleKeys(ctx, store.StaleByCreation, 2); err != nil || stale != made.Manifest.Rows["owner_keys"] {
						t.Errorf("%d keys were created under version 1, %v; want %d", stale, err, made.Manifest.Rows["owner_keys"])
					}
					target.mustHave(t, source.users)
					target.moveTo(t)
					target.mustBackUp(t)
				})
			})
		}
	}
}

// archived returns the rows of the database that a backup contains.
func (s *site) archived(t testing.TB) map[string][][]any {
	t.Helper()
	snapshot, err := s.db.Snapshot(ctx)
	if err != nil {
		t.Fatal(err)
	}
	defer snapshot.Close()
	tables, err := snapshot.Tables(ctx)
	if err != nil {
		t.Fatal(err)
	}
	all := map[string][][]any{}
	for _, table := range tables {
		if err := snapshot.Rows(ctx, table, func(values []any) error {
			row := slices.Clone(values)
			for i, value := range row {
				if raw, ok := value.([]byte); ok {
					row[i] = slices.Clone(raw)
				}
			}
			all[table.Name] = append(all[table.Name], row)
			return nil
		}); err != nil {
			t.Fatal(err)
		}
		if len(all[table.Name]) == 0 {
			t.Errorf("table %s has no row: the test needs some of each", table.Name)
		}
	}
	return all
}

func (s *site) mustRestore(t testing.TB, r *backup.Restore) *backup.Restored {
	t.Helper()
	restored, err := r.Run(ctx)
	if err != nil {
		t.Fatal(err)
	}
	meta, err := s.db.Meta(ctx)
	if err != nil || meta.Epoch == "" || meta.DeploymentID != restored.Manifest.Deployment.ID || meta.PepperDigest != restored.PepperDigest {
		t.Errorf("the database records %+v, %v", meta, err)
	}
	if fence, err := s.db.Fence(ctx); err != nil || fence != restored.Fence {
		t.Errorf("the fence is at %d, %v; want %d", fence, err, restored.Fence)
	}
	return restored
}

// TestEmptyRoundTrip backs up a deployment without users, and restores it.
func TestEmptyRoundTrip(t *testing.T) {
	source := newSite(t, "source", newMigratedSQLite(t))
	source.claim(t)
	made := source.mustBackUp(t)
	target := source.another(t, newSQLite(t))
	target.mustRestore(t, target.restore(source, made.Manifest.ID))
	target.fill(t, 1, 1)
	other := newSite(t, "target", newSQLite(t))
	other.adopt(t, other.mustRestore(t, other.fromEscrow(source, made.Manifest.ID)))
	other.fill(t, 1, 1)
}

// TestEscrowHasEveryPepper restores recovery codes from the escrow whose pepper no password needs
// any longer: a login has replaced the password's hash, and not the codes'.
func TestEscrowHasEveryPepper(t *testing.T) {
	source := newSite(t, "source", newMigratedSQLite(t))
	source.claim(t)
	source.fill(t, 1, 1)
	both := config.NewPepper()
	maps.Copy(both.Peppers, source.peppers[source.entry].Peppers)
	source.peppers[source.entry] = both
	digest, err := both.Digest()
	if err != nil {
		t.Fatal(err)
	}
	source.database.execute(t, "UPDATE meta SET pepper_digest = '"+digest+"'")
	people, _ := source.services(t)
	u := source.users[0]
	if _, err := people.Login(ctx, "192.0.2.1", accounts.Credentials{Username: u.name, Password: u.password, Code: u.recovery[0]}); err != nil {
		t.Fatal(err)
	}
	u.recovery = u.recovery[1:]
	made := source.mustBackUp(t)
	if diff := cmp.Diff([]string{both.CurrentID}, made.Manifest.Peppers); diff != "" {
		t.Errorf("the passwords need other peppers:\n%s", diff)
	}
	target := newSite(t, "target", newMigratedSQLite(t))
	restored := target.mustRestore(t, target.fromEscrow(source, made.Manifest.ID))
	if restored.PepperDigest != digest {
		t.Errorf("the restored pepper has digest %s, want %s as before", restored.PepperDigest, digest)
	}
	target.adopt(t, restored)
	target.mustHave(t, source.users)
}
