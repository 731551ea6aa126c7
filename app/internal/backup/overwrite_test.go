package backup_test

import (
	"errors"
	"fmt"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/securenotes/securenotes/app/internal/deployment"
	"github.com/securenotes/securenotes/app/internal/envelope"
	"github.com/securenotes/securenotes/app/internal/store"
)

// TestOverwriteKilledAtEachStep has a restore replace the accounts of a database, and kills it at
// each step. Before its transaction that deletes them, the database is as it was. After it, no
// process accepts the database until a repeated run has finished.
func TestOverwriteKilledAtEachStep(t *testing.T) {
	for kind, create := range migrated() {
		for _, fromEscrow := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s, from the escrow %t", kind, fromEscrow), func(t *testing.T) {
				t.Parallel()
				source := newSite(t, "source", newMigratedSQLite(t))
				source.claim(t)
				source.fill(t, 2, 2)
				made := source.mustBackUp(t)
				target := source.another(t, create(t))
				if fromEscrow {
					target = newSite(t, "target", create(t))
				}
				target.claim(t)
				target.fill(t, 3, 1)
				before := target.database.dump(t)
				started := false
				for at := 1; ; at += every[kind] {
					taken := &steps{at: at, err: errInterrupted}
					run := target.restore(source, made.Manifest.ID)
					if fromEscrow {
						run = target.fromEscrow(source, made.Manifest.ID)
					}
					run.Existing = store.DeleteExisting
					run.Target, run.Source = steppedStore{target.db, taken}, steppedDestination{source.to, taken}
					restored, err := run.Run(ctx)
					if err == nil {
						target.adopt(t, restored)
						target.mustHave(t, source.users)
						return
					}
					step, failed := taken.failed()
					if !failed {
						t.Fatalf("without an interruption: %v", err)
					}
					started = started || slices.Contains(taken.taken, "after: start")
					if !started {
						if diff := cmp.Diff(before, target.database.dump(t)); diff != "" {
							t.Fatalf("interrupted %s: the database has changed:\n%s", step, diff)
						}
						continue
					}
					if step == "after: finish" {
						continue
					}
					configured := target.deployment
					configured.ID = made.Manifest.Deployment.ID
					if err := deployment.Check(ctx, target.db, envelope.NewKeyring(configured.ID, target.master), configured); !errors.Is(err, deployment.ErrRestoring) {
						t.Errorf("interrupted %s: a process that starts gets %v", step, err)
					}
				}
			})
		}
	}
}

// TestRestoreReport checks what the operator gets to know of a restore, from the escrow and
// without.
func TestRestoreReport(t *testing.T) {
	t.Parallel()
	source := newSite(t, "source", newMigratedSQLite(t))
	source.claim(t)
	source.fill(t, 2, 3)
	made := source.mustBackUp(t)
	notes := int64(0)
	for _, u := range source.users {
		notes += int64(len(u.notes))
	}
	for fromEscrow, target := range map[bool]*site{false: source.another(t, newMigratedSQLite(t)), true: newSite(t, "target", newMigratedSQLite(t))} {
		run := target.restore(source, made.Manifest.ID)
		if fromEscrow {
			run = target.fromEscrow(source, made.Manifest.ID)
		}
		restored, err := run.Run(ctx)
		if err != nil {
			t.Fatal(err)
		}
		report := restored.Report()
		if report.ID != made.Manifest.ID || report.DeploymentID != source.deployment.ID || report.Accounts != 2 || report.Notes != notes ||
			report.Rows < notes+2 || report.Fence < 1 || report.Damaged != 0 || report.FromEscrow != fromEscrow {
			t.Errorf("from the escrow %t: %+v", fromEscrow, report)
		}
		if _, created := target.peppers[report.PepperEntry]; created != fromEscrow || (report.PepperDigest != "") != fromEscrow {
			t.Errorf("from the escrow %t: the pepper is %q with digest %q", fromEscrow, report.PepperEntry, report.PepperDigest)
		}
	}
}
