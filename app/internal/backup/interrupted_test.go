package backup_test

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"testing"
	"time"

	"filippo.io/age"

	"github.com/securenotes/securenotes/app/config"
	"github.com/securenotes/securenotes/app/internal/backup"
	"github.com/securenotes/securenotes/app/internal/backup/archive"
	"github.com/securenotes/securenotes/app/internal/backup/destination"
	"github.com/securenotes/securenotes/app/internal/deployment"
	"github.com/securenotes/securenotes/app/internal/envelope"
	"github.com/securenotes/securenotes/app/internal/store"
	"github.com/securenotes/securenotes/app/internal/vault"
)

// step interrupts a backup at a step.
func (s *site) stepBackup(t testing.TB, taken *steps) *backup.Backup {
	t.Helper()
	run := s.backup(t)
	run.Store, run.Destination = steppedStore{s.db, taken}, steppedDestination{s.to, taken}
	run.Keys = envelope.NewKeyring(s.deployment.ID, steppedProvider{s.master, taken})
	s.interrupt = taken.take
	return run
}

// mustBeWhole checks that every backup that is visible is whole, and returns how many there are.
func (s *site) mustBeWhole(t testing.TB) int {
	t.Helper()
	s.interrupt = nil
	all, err := backup.List(ctx, s.to, s.publicKeys())
	if err != nil {
		t.Fatal(err)
	}
	whole := 0
	for _, found := range all {
		if errors.Is(found.Err, archive.ErrDamaged) {
			continue // a part of a manifest is no backup
		}
		verification := &backup.Verification{Source: s.to, ID: found.ID, PublicKeys: s.publicKeys(), Identities: []age.Identity{s.identity, s.escrow}, Phase: quiet}
		verified, err := verification.Run(ctx)
		if err != nil {
			t.Fatal(err)
		}
		if !verified.Opened || !verified.EscrowOpened {
			t.Errorf("backup %s was not read completely", found.ID)
		}
		whole++
	}
	return whole
}

// afterManifest reports whether the manifest had been written before the step that failed. The
// backup then reads it back, and the keys once more.
func (s *steps) afterManifest() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Contains(s.taken[:s.at], "after: create .manifest.json")
}

// every is how many steps apart the tests kill a run, by the kind of the database: what the runs do
// between two calls does not depend on it.
var every = map[string]int{"sqlite": 1, "postgresql": 6}

// TestBackupKilledAtEachStep kills a backup at each step, and runs it again on what the killed one
// left. What is visible is always whole.
func TestBackupKilledAtEachStep(t *testing.T) {
	for kind, create := range migrated() {
		t.Run(kind, func(t *testing.T) {
			t.Parallel()
			s := newSite(t, "source", create(t))
			s.claim(t)
			s.fill(t, 2, 2)
			killed := 0
			for at := 1; ; at += every[kind] {
				s.directory = t.TempDir()
				s.to = directory(t, s.directory)
				taken := &steps{at: at, err: errInterrupted}
				_, err := s.stepBackup(t, taken).Run(ctx)
				step, failed := taken.failed()
				if !failed {
					break
				}
				killed++
				// What is deleted after the new backup exists is not needed for it.
				if err == nil && step != "before: sweep" && step != "after: sweep" && !taken.afterManifest() {
					t.Errorf("interrupted %s: no error", step)
				}
				visible := s.mustBeWhole(t)
				// The last part of a manifest may be the end of it.
				if want := err == nil || taken.afterManifest(); (visible == 1) != want && step != "write part of .manifest.json" {
					t.Errorf("interrupted %s: %d backups are visible", step, visible)
				}
				if s.mustBackUp(t); s.mustBeWhole(t) != visible+1 {
					t.Errorf("after an interruption %s: not one backup more than %d", step, visible)
				}
			}
			if killed*every[kind] < 50 {
				t.Errorf("a backup was killed at only %d steps", killed)
			}
			s.interrupt = nil
			made := s.mustBackUp(t)
			target := s.another(t, create(t))
			target.mustRestore(t, target.restore(s, made.Manifest.ID))
			target.mustHave(t, s.users)
		})
	}
}

// TestDeletionKilledAtEachStep kills a backup at each step from its last write on, while it deletes
// older ones. What is visible is always whole, and later runs delete the rest.
func TestDeletionKilledAtEachStep(t *testing.T) {
	t.Parallel()
	d := newDaily(t, 2)
	before := d.made
	stored := map[string][]byte{}
	for _, entry := range mustList(t, d.to) {
		stored[entry.Name] = d.readFile(t, entry.Name)
	}
	keep := &config.Keep{Count: 2}
	// interrupted starts again with the two backups, and interrupts the third.
	interrupted := func(at int) (*steps, error) {
		d.made, d.directory = before, t.TempDir()
		d.to = directory(t, d.directory)
		for name, raw := range stored {
			d.writeFile(t, name, raw)
		}
		taken := &steps{at: at, err: errInterrupted}
		run, stepped := d.run(keep), d.stepBackup(t, taken)
		stepped.Now, stepped.Settings.Keep = run.Now, keep
		made, err := stepped.Run(ctx)
		if made != nil {
			d.made = append(slices.Clone(before), made.Manifest)
		}
		d.interrupt = nil
		return taken, err
	}
	whole, err := interrupted(0)
	if err != nil {
		t.Fatal(err)
	}
	last := slices.Index(whole.taken, "after: create .manifest.json")
	deleted := 0
	for at := last; ; at++ {
		taken, err := interrupted(at)
		step, failed := taken.failed()
		if !failed {
			break
		}
		if err == nil && !taken.afterManifest() {
			t.Errorf("interrupted %s: no error", step)
		}
		if strings.Contains(step, "delete") {
			deleted++
		}
		// Of the three, only the first one may be deleted.
		if visible := d.mustBeWhole(t); !d.exists(before[1].ID) || visible < 2 || visible > 3 {
			t.Errorf("interrupted %s: %d backups are visible", step, visible)
		}
		d.mustRun(keep, nil)
		if visible := d.mustBeWhole(t); visible != 2 {
			t.Errorf("after an interruption %s: %d backups are visible, want 2", step, visible)
		}
		d.mustRun(keep, func(b *backup.Backup) { b.Now = func() time.Time { return time.Now().Add(3 * day) } })
		d.mustRun(keep, nil) // the last one is from the future
		for _, m := range before {
			if left := d.files(m.ID); len(left) != 0 {
				t.Errorf("after an interruption %s: left %q", step, left)
			}
		}
	}
	if deleted < 8 {
		t.Errorf("a run was killed at only %d steps of a deletion", deleted)
	}
}

// TestRestoreKilledAtEachStep kills a restore at each step, and runs it again on what the killed
// one left. In between, no process accepts the database, unless the restore had finished.
func TestRestoreKilledAtEachStep(t *testing.T) {
	for kind, create := range kinds() {
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
				restore := func() *backup.Restore {
					if fromEscrow {
						return target.fromEscrow(source, made.Manifest.ID)
					}
					return target.restore(source, made.Manifest.ID)
				}
				peppers := len(target.entries())
				for at := 1; ; at += every[kind] {
					taken := &steps{at: at, err: errInterrupted}
					run := restore()
					run.Target, run.Source = steppedStore{target.db, taken}, steppedDestination{source.to, taken}
					run.Provider = steppedProvider{target.master, taken}
					target.interrupt = taken.take
					restored, err := run.Run(ctx)
					target.interrupt = nil
					step, failed := taken.failed()
					if err == nil {
						if at < 30 {
							t.Errorf("finished at step %d, %s: %v", at, step, taken.taken)
						}
						if more := len(target.entries()) - peppers; fromEscrow && more < 1 || !fromEscrow && more != 0 {
							t.Errorf("%d new entries of peppers", more)
						}
						target.adopt(t, restored)
						target.mustHave(t, source.users)
						return
					}
					if !failed {
						t.Fatalf("without an interruption: %v", err)
					}
					if step == "after: finish" {
						continue // the next run finds that the database is restored
					}
					configured := target.deployment
					configured.ID = made.Manifest.Deployment.ID
					keys := envelope.NewKeyring(configured.ID, target.master)
					if err := deployment.Check(ctx, target.db, keys, configured); !errors.Is(err, deployment.ErrRestoring) && !errors.Is(err, store.ErrNoMeta) && !errors.Is(err, store.ErrSchema) {
						t.Errorf("interrupted %s: a process that starts gets %v", step, err)
					}
				}
			})
		}
	}
}

// TestReplacedBetweenThePasses replaces the archive after it was verified. The restore does not
// finish, no process accepts the database, and the restore of what was there before succeeds.
func TestReplacedBetweenThePasses(t *testing.T) {
	for kind, create := range kinds() {
		for name, replaced := range map[string]archive.Kind{"archive": archive.KindArchive, "escrow": archive.KindEscrow} {
			t.Run(kind+", "+name, func(t *testing.T) {
				t.Parallel()
				source := newSite(t, "source", newMigratedSQLite(t))
				source.claim(t)
				source.fill(t, 2, 2)
				made := source.mustBackUp(t)
				file := archive.Name(made.Manifest.ID, replaced, false)
				original := source.readFile(t, file)
				target := newSite(t, "target", create(t))
				run := target.fromEscrow(source, made.Manifest.ID)
				target.interrupt = func(operation string) error {
					if operation == "create the pepper" {
						raw := source.readFile(t, file)
						raw[len(raw)-1] ^= 1
						source.writeFile(t, file, raw)
					}
					return nil
				}
				if restored, err := run.Run(ctx); !errors.Is(err, backup.ErrChanged) {
					t.Errorf("restored %+v, %v; want %v", restored, err, backup.ErrChanged)
				}
				target.interrupt = nil
				configured := target.deployment
				configured.ID = made.Manifest.Deployment.ID
				if err := deployment.CheckID(ctx, target.db, configured); !errors.Is(err, deployment.ErrRestoring) {
					t.Errorf("a process that starts gets %v", err)
				}
				source.writeFile(t, file, original)
				target.adopt(t, target.mustRestore(t, target.fromEscrow(source, made.Manifest.ID)))
				target.mustHave(t, source.users)
			})
		}
	}
}

// TestBackupFails checks that a backup returns the class of a failure of its destination, its keys
// or its database, and that nothing becomes visible.
func TestBackupFails(t *testing.T) {
	s := newSite(t, "source", newMigratedSQLite(t))
	s.claim(t)
	s.fill(t, 2, 2)
	for _, failure := range []error{destination.ErrUnavailable, destination.ErrFull, destination.ErrDenied, vault.ErrUnavailable, vault.ErrDenied, store.ErrWaiters} {
		for at := 3; ; at += 7 { // the sweep before it may fail
			s.directory = t.TempDir()
			s.to = directory(t, s.directory)
			taken := &steps{at: at, err: fmt.Errorf("the test says: %w", failure)}
			_, err := s.stepBackup(t, taken).Run(ctx)
			step, failed := taken.failed()
			if !failed {
				break
			}
			if !errors.Is(err, failure) && (err != nil || !taken.afterManifest()) {
				t.Errorf("%v at %s: the error is %v", failure, step, err)
			}
			if visible := s.mustBeWhole(t); visible != 0 && !taken.afterManifest() && step != "write part of .manifest.json" {
				t.Errorf("%v at %s: %d backups are visible", failure, step, visible)
			}
		}
	}
}

func mustList(t testing.TB, d destination.Destination) []destination.Entry {
	t.Helper()
	all, err := d.List(ctx)
	if err != nil {
		t.Fatal(err)
	}
	return all
}

// TestVersionRetiredDuringBackup checks that a backup is not published if the master key can no
// longer unwrap its keys.
func TestVersionRetiredDuringBackup(t *testing.T) {
	s := newSite(t, "source", newMigratedSQLite(t))
	s.claim(t)
	s.fill(t, 2, 2)
	s.interrupt = func(operation string) error {
		if operation == "read the versions" {
			s.retire(t, s.rotate(t))
		}
		return nil
	}
	if made, err := s.backup(t).Run(ctx); !errors.Is(err, backup.ErrVersionsGone) {
		t.Errorf("made %+v, %v; want %v", made, err, backup.ErrVersionsGone)
	}
	if whole := s.mustBeWhole(t); whole != 0 {
		t.Errorf("%d backups are visible", whole)
	}
}

// publishing calls a function before a manifest is written.
type publishing struct {
	destination.Destination
	before func()
}

// Create implements destination.Destination.
func (p publishing) Create(ctx context.Context, name string, content io.Reader) error {
	if strings.HasSuffix(name, ".manifest.json") {
		p.before()
	}
	return p.Destination.Create(ctx, name, content)
}

// TestKeyEndedWhilePublished checks that a backup fails, and can be repeated, if a Compromise or a
// retirement ends a version that it needs in the instant in which its manifest is written.
func TestKeyEndedWhilePublished(t *testing.T) {
	for name, end := range map[string]func(*site){
		"compromise": func(s *site) { s.renewSigning(t) },
		"retirement": func(s *site) { s.moveTo(t) },
	} {
		s := newSite(t, "source", newMigratedSQLite(t))
		s.claim(t)
		s.fill(t, 2, 1)
		run := s.backup(t)
		run.Destination = publishing{s.to, func() { end(s) }}
		if made, err := run.Run(ctx); !errors.Is(err, backup.ErrVersionsGone) || errors.Is(err, archive.ErrEndedVersion) {
			t.Errorf("%s: made %+v, %v; want %v", name, made, err, backup.ErrVersionsGone)
		}
		s.mustBackUp(t)
	}
}

// TestEscrowNeedsEveryPepper checks that no backup is published whose escrow would not restore.
func TestEscrowNeedsEveryPepper(t *testing.T) {
	s := newSite(t, "source", newMigratedSQLite(t))
	s.claim(t)
	s.fill(t, 2, 2)
	s.peppers[s.entry] = config.NewPepper()
	if made, err := s.backup(t).Run(ctx); !errors.Is(err, deployment.ErrWrongPepper) {
		t.Errorf("made %+v, %v; want %v", made, err, deployment.ErrWrongPepper)
	}
	s.database.execute(t, "UPDATE meta SET pepper_digest = NULL")
	if made, err := s.backup(t).Run(ctx); !errors.Is(err, backup.ErrPepperMissing) {
		t.Errorf("made %+v, %v; want %v", made, err, backup.ErrPepperMissing)
	}
	s.peppers[s.entry] = config.NewPepper()
	for i := range 128 {
		s.peppers[s.entry].Peppers[fmt.Sprint(i)] = base64.StdEncoding.EncodeToString(make([]byte, 32))
	}
	if made, err := s.backup(t).Run(ctx); err == nil || !strings.Contains(err.Error(), "129 peppers") {
		t.Errorf("made %+v, %v; want a refusal of 129 peppers", made, err)
	}
	if whole := s.mustBeWhole(t); whole != 0 {
		t.Errorf("%d backups are visible", whole)
	}
}

// TestBackupOfAnotherDatabase checks that a database is backed up only by its own deployment.
func TestBackupOfAnotherDatabase(t *testing.T) {
	for name, tc := range map[string]struct {
		statement string
		want      error
	}{
		"another deployment's": {"UPDATE meta SET deployment_id = 'another'", deployment.ErrOtherDeployment},
		"being restored":       {"UPDATE meta SET deployment_id = 'restoring:run'", deployment.ErrRestoring},
		"nobody's":             {"DELETE FROM meta", store.ErrNoMeta},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newSite(t, "source", newMigratedSQLite(t))
			s.claim(t)
			s.database.execute(t, tc.statement)
			if made, err := s.backup(t).Run(ctx); !errors.Is(err, tc.want) {
				t.Errorf("made %+v, %v; want %v", made, err, tc.want)
			}
			if found := mustList(t, s.to); len(found) != 0 {
				t.Errorf("written: %v", found)
			}
		})
	}
}

// stuck is a destination that neither takes nor gives a byte.
type stuck struct{ destination.Destination }

// Create implements destination.Destination.
func (stuck) Create(ctx context.Context, _ string, _ io.Reader) error {
	<-ctx.Done()
	return ctx.Err()
}

// TestBackupEndsWithItsContext checks that a backup whose destination takes nothing ends when the
// process is asked to.
func TestBackupEndsWithItsContext(t *testing.T) {
	s := newSite(t, "source", newMigratedSQLite(t))
	s.claim(t)
	s.fill(t, 2, 2)
	run := s.backup(t)
	run.Destination = stuck{s.to}
	ending, end := context.WithCancel(ctx)
	run.Phase = func(ctx context.Context, _ string, work func(context.Context, backup.Report) error) error {
		end()
		return work(ctx, func(int64, int64) {})
	}
	if made, err := run.Run(ending); !errors.Is(err, context.Canceled) {
		t.Errorf("made %+v, %v; want %v", made, err, context.Canceled)
	}
	if found := mustList(t, s.to); len(found) != 0 {
		t.Errorf("written: %v", found)
	}
}
