package backup_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/securenotes/securenotes/app/config"
	"github.com/securenotes/securenotes/app/internal/backup"
	"github.com/securenotes/securenotes/app/internal/backup/archive"
	"github.com/securenotes/securenotes/app/internal/backup/destination"
)

const (
	hour = time.Hour
	day  = 24 * time.Hour
)

// daily is a site with backups that are a day apart.
type daily struct {
	testing.TB
	*site
	// first is when the first backup ran, and made are all that ran.
	first time.Time
	made  []*archive.Manifest
}

// newDaily returns a site after the given number of backups.
func newDaily(t testing.TB, backups int) *daily {
	t.Helper()
	s := newSite(t, "source", newMigratedSQLite(t))
	s.claim(t)
	s.fill(t, 1, 1)
	d := &daily{TB: t, site: s, first: time.Now().Add(-30 * day).UTC().Truncate(time.Second)}
	for range backups {
		d.mustRun(nil, nil)
	}
	return d
}

// run returns the backup of the next day.
func (d *daily) run(keep *config.Keep) *backup.Backup {
	b := d.backup(d)
	now := d.first.Add(time.Duration(len(d.made)) * day)
	b.Now = func() time.Time { return now }
	b.Settings.Keep = keep
	return b
}

// mustRun makes the backup of the next day.
func (d *daily) mustRun(keep *config.Keep, change func(*backup.Backup)) *backup.Made {
	d.Helper()
	b := d.run(keep)
	if change != nil {
		change(b)
	}
	made, err := b.Run(ctx)
	if err != nil {
		d.Fatal(err)
	}
	d.made = append(d.made, made.Manifest)
	return made
}

// ids returns the ids of the backups with the given numbers.
func (d *daily) ids(numbers ...int) []string {
	ids := []string{}
	for _, n := range numbers {
		ids = append(ids, d.made[n].ID)
	}
	return ids
}

// files returns the names of all files of a backup in the destination.
func (d *daily) files(id string) []string {
	names := []string{}
	for _, entry := range mustList(d, d.to) {
		if strings.HasPrefix(entry.Name, id) {
			names = append(names, entry.Name)
		}
	}
	return names
}

// mustHaveBackups checks that the destination has exactly the backups with the given numbers, with
// all of their files, and nothing of the others.
func (d *daily) mustHaveBackups(numbers ...int) {
	d.Helper()
	for n, m := range d.made {
		want := []string{}
		if slices.Contains(numbers, n) {
			want = []string{archive.Name(m.ID, archive.KindEscrow, false), archive.ManifestName(m.ID), archive.Name(m.ID, archive.KindArchive, false)}
		}
		if got := d.files(m.ID); !slices.Equal(got, want) {
			d.Errorf("backup %d has the files %q, want %q", n, got, want)
		}
	}
}

// TestKeep checks which backups the sixth daily one deletes.
func TestKeep(t *testing.T) {
	for name, tc := range map[string]struct {
		keep *config.Keep
		kept []int
	}{
		"no keep":                       {nil, []int{0, 1, 2, 3, 4, 5}},
		"the newest":                    {&config.Keep{Count: 1}, []int{5}},
		"a count":                       {&config.Keep{Count: 3}, []int{3, 4, 5}},
		"a count that is not reached":   {&config.Keep{Count: 6}, []int{0, 1, 2, 3, 4, 5}},
		"an age":                        {&config.Keep{Age: config.Duration(2*day + hour)}, []int{3, 4, 5}},
		"an age to the second":          {&config.Keep{Age: config.Duration(2 * day)}, []int{4, 5}},
		"an age below the interval":     {&config.Keep{Age: config.Duration(hour)}, []int{5}},
		"an age that keeps more":        {&config.Keep{Count: 2, Age: config.Duration(3*day + hour)}, []int{2, 3, 4, 5}},
		"a count that keeps more":       {&config.Keep{Count: 4, Age: config.Duration(day + hour)}, []int{2, 3, 4, 5}},
		"an age that nothing is beyond": {&config.Keep{Age: config.Duration(5*day + hour)}, []int{0, 1, 2, 3, 4, 5}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			d := newDaily(t, 5)
			made := d.mustRun(tc.keep, nil)
			d.mustHaveBackups(tc.kept...)
			var gone []int
			for n := range d.made {
				if !slices.Contains(tc.kept, n) {
					gone = append(gone, n)
				}
			}
			if want := d.ids(gone...); !cmp.Equal(append([]string{}, made.Deleted...), want) {
				t.Errorf("deleted %q, want %q, the oldest first", made.Deleted, want)
			}
			want := &config.DestinationReport{
				ListedAt: d.first.Add(5 * day), Backups: int64(len(tc.kept)), OldestAt: d.first.Add(time.Duration(tc.kept[0]) * day),
				OldestKeyVersion: 1, Deleted: int64(len(gone)),
			}
			for _, n := range tc.kept {
				want.Bytes += d.made[n].Archive.Size + d.made[n].Escrow.Size
			}
			if diff := cmp.Diff(want, made.Destination); diff != "" {
				t.Error(diff)
			}
		})
	}
}

// forge writes a backup like m with a new id, whose files have the right sizes and nothing in them.
// It returns the id.
func (d *daily) forge(m archive.Manifest, change func(*archive.Manifest), signer archive.Signer) string {
	d.Helper()
	m.ID = archive.NewID(m.StartedAt)
	m.Archive.Size, m.Escrow = 1, nil
	change(&m)
	raw, err := archive.Seal(ctx, signer, d.publicKeys().Key, m)
	if err != nil {
		d.Fatal(err)
	}
	d.writeFile(d, archive.ManifestName(m.ID), raw)
	d.writeFile(d, archive.Name(m.ID, archive.KindArchive, false), []byte("?"))
	return m.ID
}

// remove removes a file of a backup.
func (d *daily) remove(n int, kind archive.Kind) {
	d.Helper()
	if err := os.Remove(filepath.Join(d.directory, archive.Name(d.made[n].ID, kind, false))); err != nil {
		d.Fatal(err)
	}
}

// exists reports whether the manifest of a backup is there.
func (d *daily) exists(id string) bool { return slices.Contains(d.files(id), archive.ManifestName(id)) }

// TestRetentionUnderAttack checks that somebody who writes to the destination, and also somebody
// with a version of the key that a Compromise ended, cannot have a good backup deleted that keep
// still keeps. The fourth daily backup keeps two; without an attack, these are the third and the
// fourth.
func TestRetentionUnderAttack(t *testing.T) {
	t.Parallel()
	const newest, aMonth = math.MaxInt64, 30 * day
	later := func(m *archive.Manifest) {
		m.Sequence, m.StartedAt, m.CompletedAt = newest, m.StartedAt.Add(aMonth), m.CompletedAt.Add(aMonth)
	}
	for name, tc := range map[string]struct {
		// attack returns the ids of backups that it has put there, and that must not be deleted.
		attack func(d *daily) []string
		// kept are the numbers of the backups that exist afterwards.
		kept    []int
		invalid int64
	}{
		"nothing": {func(*daily) []string { return nil }, []int{2, 3}, 0},
		"newer ones by another key": {func(d *daily) []string {
			other := newHolder(t, "source")
			return []string{d.forge(*d.made[2], later, other), d.forge(*d.made[2], later, other)}
		}, []int{2, 3}, 2},
		"newer ones that are no manifests": {func(d *daily) []string {
			ids := []string{archive.NewID(time.Now()), archive.NewID(time.Now())}
			for _, id := range ids {
				d.writeFile(t, archive.ManifestName(id), []byte("{}"))
			}
			return ids
		}, []int{2, 3}, 2},
		"an old manifest with a newer name": {func(d *daily) []string {
			id := archive.NewID(time.Now())
			d.writeFile(t, archive.ManifestName(id), d.readFile(t, archive.ManifestName(d.made[0].ID)))
			d.writeFile(t, archive.Name(id, archive.KindArchive, false), d.readFile(t, archive.Name(d.made[0].ID, archive.KindArchive, false)))
			return []string{id}
		}, []int{2, 3}, 1},
		"valid ones of another SecureNotes": {func(d *daily) []string {
			return []string{
				d.forge(*d.made[2], func(m *archive.Manifest) { later(m); m.Sequence--; m.Deployment.SecureNotesUID = "another" }, d.version(1)),
				d.forge(*d.made[0], func(m *archive.Manifest) { m.Deployment.SecureNotesUID = "another" }, d.version(1)),
			}
		}, []int{2, 3}, 0},
		"valid ones of another deployment": {func(d *daily) []string {
			return []string{
				d.forge(*d.made[2], func(m *archive.Manifest) { later(m); m.Sequence--; m.Deployment.ID = "another" }, d.version(1)),
				d.forge(*d.made[0], func(m *archive.Manifest) { m.Deployment.ID = "another" }, d.version(1)),
			}
		}, []int{2, 3}, 0},
		"the newest archive is missing": {func(d *daily) []string { d.remove(2, archive.KindArchive); return nil }, []int{1, 3}, 0},
		"the newest escrow is missing":  {func(d *daily) []string { d.remove(2, archive.KindEscrow); return nil }, []int{1, 3}, 0},
		"the newest archive is truncated": {func(d *daily) []string {
			d.writeFile(t, archive.Name(d.made[2].ID, archive.KindArchive, false), []byte("?"))
			return nil
		}, []int{1, 3}, 0},
		"a copy for other recipients in the place of the newest archive": {func(d *daily) []string {
			d.remove(2, archive.KindArchive)
			d.writeFile(t, archive.Name(d.made[2].ID, archive.KindArchive, true), []byte("?"))
			return nil
		}, []int{1, 3}, 0},
		"the newest manifest is damaged": {func(d *daily) []string {
			raw := d.readFile(t, archive.ManifestName(d.made[2].ID))
			d.writeFile(t, archive.ManifestName(d.made[2].ID), bytes.Replace(raw, []byte(`"sig":"`), []byte(`"sig":"AA`), 1))
			return []string{d.made[2].ID}
		}, []int{1, 3}, 1},
		"a Compromise": {func(d *daily) []string { d.renewSigning(t); return nil }, []int{0, 1, 2, 3}, 0},
		"newer ones by a version that a Compromise ended": {func(d *daily) []string {
			d.renewSigning(t)
			ended := d.version(1)
			return []string{d.forge(*d.made[2], later, ended), d.forge(*d.made[2], later, ended), d.forge(*d.made[2], later, ended)}
		}, []int{0, 1, 2, 3}, 0},
	} {
		for _, keep := range []config.Keep{{Count: 2}, {Count: 2, Age: config.Duration(hour)}} {
			t.Run(fmt.Sprintf("%s, age %s", name, time.Duration(keep.Age)), func(t *testing.T) {
				d := newDaily(t, 3)
				mine := tc.attack(d)
				made := d.mustRun(&keep, nil)
				for n, m := range d.made {
					if n == 2 && !slices.Contains(tc.kept, n) {
						continue // it is damaged, so it does not matter
					}
					if want := slices.Contains(tc.kept, n); d.exists(m.ID) != want || slices.Contains(made.Deleted, m.ID) == want {
						t.Errorf("backup %d exists: %t, want %t; deleted: %q", n, d.exists(m.ID), want, made.Deleted)
					}
				}
				for _, id := range mine {
					if !d.exists(id) {
						t.Errorf("backup %s, which the run did not have to judge, was deleted", id)
					}
				}
				if made.Destination.Invalid != tc.invalid || made.Destination.DeletionError != "" {
					t.Errorf("got %+v, want %d invalid manifests and no error", made.Destination, tc.invalid)
				}
			})
		}
	}
}

// TestEndedBackupsAreDeleted checks that the backups from before a Compromise, and those that the
// thief of the key signs, are deleted once keep is filled without them.
func TestEndedBackupsAreDeleted(t *testing.T) {
	d := newDaily(t, 2)
	d.renewSigning(t)
	forged := d.forge(*d.made[1], func(m *archive.Manifest) {
		m.Sequence, m.MasterKey.OldestVersion, m.Archive.Size = math.MaxInt64, 1, math.MaxInt64
	}, d.version(1))
	keep := &config.Keep{Count: 2}
	made := d.mustRun(keep, nil)
	if got := made.Destination; got.Backups != 3 || got.Invalid != 1 {
		t.Errorf("got %+v, want 3 backups, and the forged one as invalid", got)
	}
	d.mustRun(keep, nil)
	if d.mustHaveBackups(2, 3); d.exists(forged) {
		t.Error("the forged backup is still there")
	}
}

// TestImpossibleManifests checks that a manifest with a time or a size that no backup has counts as
// invalid: the operator drops a listing with such values. Its key version counts nevertheless. The
// holder of a version of the key that a Compromise ended can sign it.
func TestImpossibleManifests(t *testing.T) {
	for name, forge := range map[string]func(*archive.Manifest){
		"of 1970":             func(m *archive.Manifest) { m.StartedAt = time.Unix(0, 0).UTC() },
		"of no time":          func(m *archive.Manifest) { m.StartedAt = time.Time{} },
		"with a huge archive": func(m *archive.Manifest) { m.Archive.Size = 1<<46 + 1 },
		"with two huge files": func(m *archive.Manifest) { m.Archive.Size, m.Escrow = math.MaxInt64, &m.Archive },
		"with a huge escrow": func(m *archive.Manifest) {
			escrow := m.Archive
			m.Escrow, escrow.Size = &escrow, 1<<46
		},
		"with both, and a clock": func(m *archive.Manifest) { m.StartedAt, m.Archive.Size = time.Unix(1, 0).UTC(), math.MaxInt64 },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			d := newDaily(t, 0)
			d.moveTo(t)
			d.mustRun(nil, nil)
			d.mustRun(nil, nil)
			d.renewSigning(t)
			d.forge(*d.made[0], func(m *archive.Manifest) {
				forge(m)
				m.MasterKey.OldestVersion, m.MasterKey.Versions = 1, []archive.KeyVersion{{Version: 1}}
			}, d.version(1))
			want := &config.DestinationReport{ListedAt: d.first.Add(2 * day), Backups: 3, OldestAt: d.first, OldestKeyVersion: 1, Invalid: 1}
			got := d.mustRun(nil, nil).Destination
			for _, m := range d.made {
				want.Bytes += m.Archive.Size + m.Escrow.Size
			}
			if diff := cmp.Diff(want, got); diff != "" {
				t.Error(diff)
			}
		})
	}
}

// TestClockOfTheNode checks that neither a backup nor a file is deleted too soon if the clock of
// the node, or that of the operator, is ahead.
func TestClockOfTheNode(t *testing.T) {
	for name, tc := range map[string]struct{ started, now time.Duration }{
		"the node's is ahead":       {5 * day, 36 * day},
		"the operator's is ahead":   {36 * day, 5 * day},
		"the Job was tried a while": {5 * day, 5*day + 23*hour},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			d := newDaily(t, 5)
			unfinished := archive.Name(archive.NewID(d.first), archive.KindArchive, false)
			d.writeFile(t, unfinished, []byte("?"))
			if at := d.first.Add(4 * day); os.Chtimes(filepath.Join(d.directory, unfinished), at, at) != nil {
				t.Fatal("the time of the file was not set")
			}
			made := d.mustRun(&config.Keep{Age: config.Duration(5*day + hour)}, func(b *backup.Backup) {
				b.Settings.StartedAt = d.first.Add(tc.started)
				b.Now = func() time.Time { return d.first.Add(tc.now) }
			})
			if d.mustHaveBackups(0, 1, 2, 3, 4, 5); len(made.Deleted) > 0 {
				t.Errorf("deleted %q", made.Deleted)
			}
			if names := mustList(t, d.to); !slices.ContainsFunc(names, func(e destination.Entry) bool { return e.Name == unfinished }) {
				t.Error("a file that another run still writes was removed")
			}
		})
	}
}

// unreadable cannot read one file, as a volume with a bad sector.
type unreadable struct {
	destination.Destination
	name string
}

// Open implements destination.Destination.
func (u unreadable) Open(ctx context.Context, name string) (io.ReadCloser, int64, error) {
	if name == u.name {
		return nil, 0, fmt.Errorf("read %s: input/output error: %w", name, destination.ErrUnavailable)
	}
	return u.Destination.Open(ctx, name)
}

// TestEarlierBackupsCannotBeRead checks that a backup is complete if not all manifests of earlier
// ones can be read, that it then deletes and counts none, and that the log says why.
func TestEarlierBackupsCannotBeRead(t *testing.T) {
	for name, tc := range map[string]struct {
		spoil func(d *daily, b *backup.Backup)
		want  string
	}{
		"one is unreadable": {func(d *daily, b *backup.Backup) {
			b.Destination = unreadable{b.Destination, archive.ManifestName(d.made[0].ID)}
		}, "input/output error"},
		"there are too many": {func(d *daily, _ *backup.Backup) {
			for i := range 10_000 {
				d.writeFile(d, archive.ManifestName(archive.NewID(time.Unix(int64(i), 0))), []byte("{}"))
			}
		}, "there are more than 10000 backups; delete the oldest and those that are not yours, or use another directory or prefix"},
		"no list": {func(_ *daily, b *backup.Backup) {
			b.Destination = listing{b.Destination, func() error { return destination.ErrUnavailable }}
		}, "unavailable"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			d := newDaily(t, 2)
			var log bytes.Buffer
			made := d.mustRun(&config.Keep{Count: 1}, func(b *backup.Backup) {
				b.Log = slog.New(slog.NewTextHandler(&log, nil))
				tc.spoil(d, b)
			})
			if made.Destination != nil || made.Deleted != nil {
				t.Errorf("got %+v, deleted %q", made.Destination, made.Deleted)
			}
			if m := made.Manifest; m.Sequence != m.StartedAt.Unix() || m.Sequence <= d.made[1].Sequence {
				t.Errorf("sequence %d after %d", m.Sequence, d.made[1].Sequence)
			}
			for _, want := range []string{"may not be the highest", "no backup is deleted and none is counted"} {
				if lines := strings.Split(log.String(), "\n"); !slices.ContainsFunc(lines, func(line string) bool { return strings.Contains(line, want) && strings.Contains(line, tc.want) }) {
					t.Errorf("the log has no line with %q and %q: %s", want, tc.want, log.String())
				}
			}
			for _, m := range d.made {
				d.readFile(t, archive.ManifestName(m.ID))
			}
		})
	}
}

// TestReplayedBackupIsDeletedAgain checks that a backup that was deleted and is put back counts for
// nothing.
func TestReplayedBackupIsDeletedAgain(t *testing.T) {
	d := newDaily(t, 1)
	replayed := map[string][]byte{}
	for _, name := range d.files(d.made[0].ID) {
		replayed[name] = d.readFile(t, name)
	}
	keep := &config.Keep{Count: 2}
	d.mustRun(keep, nil)
	d.mustRun(keep, nil)
	d.mustHaveBackups(1, 2)
	for name, raw := range replayed {
		d.writeFile(t, name, raw)
	}
	d.mustRun(keep, nil)
	d.mustHaveBackups(2, 3)
}

// TestNewBackupDisappears checks that the newest good backup stays if the one that the run has
// published is damaged before old ones are deleted.
func TestNewBackupDisappears(t *testing.T) {
	for name, keep := range map[string]*config.Keep{"a count": {Count: 1}, "an age": {Age: config.Duration(hour)}} {
		t.Run(name, func(t *testing.T) {
			d := newDaily(t, 3)
			made := d.mustRun(keep, func(b *backup.Backup) {
				b.Destination = listing{d.to, func() error {
					for _, entry := range mustList(t, d.to) {
						if id, isManifest, _ := archive.SplitName(entry.Name); !isManifest && !slices.Contains(d.ids(0, 1, 2), id) && len(d.files(id)) == 3 {
							if err := os.Remove(filepath.Join(d.directory, archive.Name(id, archive.KindArchive, false))); err != nil {
								t.Error(err)
							}
						}
					}
					return nil
				}}
			})
			if want := d.ids(0, 1); !slices.Equal(made.Deleted, want) {
				t.Errorf("deleted %q, want %q", made.Deleted, want)
			}
			if len(d.files(d.made[2].ID)) != 3 || !d.exists(made.Manifest.ID) {
				t.Errorf("left %q and %q", d.files(d.made[2].ID), d.files(made.Manifest.ID))
			}
		})
	}
}

// TestTwoRunsAtTheSameTime checks that a run does not delete its own backup because of a later one.
func TestTwoRunsAtTheSameTime(t *testing.T) {
	d := newDaily(t, 1)
	lists := 0
	keep := &config.Keep{Count: 1}
	var other *backup.Made
	made := d.mustRun(keep, func(b *backup.Backup) {
		b.Destination = listing{d.to, func() error {
			if lists++; lists == 2 {
				run := d.run(nil)
				run.Now = func() time.Time { return d.first.Add(5 * day) }
				var err error
				other, err = run.Run(ctx)
				return err
			}
			return nil
		}}
	})
	if other == nil || other.Manifest.Sequence <= made.Manifest.Sequence || !slices.Equal(made.Deleted, d.ids(0)) {
		t.Fatalf("other %+v, made %+v", other, made)
	}
	if !d.exists(other.Manifest.ID) {
		t.Error("the other backup is not there")
	}
	d.mustHaveBackups(1)
}

// listing calls a function before each list, and fails if that fails.
type listing struct {
	destination.Destination
	before func() error
}

// List implements destination.Destination.
func (l listing) List(ctx context.Context) ([]destination.Entry, error) {
	if err := l.before(); err != nil {
		return nil, err
	}
	return l.Destination.List(ctx)
}

// undeletable refuses to delete some files.
type undeletable struct {
	destination.Destination
	refuses func(name string) error
}

// Delete implements destination.Destination.
func (u undeletable) Delete(ctx context.Context, name string) error {
	if err := u.refuses(name); err != nil {
		return err
	}
	return u.Destination.Delete(ctx, name)
}

// TestDeletionFails checks that a backup is complete if old ones cannot be deleted, and that the
// report says why in few bytes.
func TestDeletionFails(t *testing.T) {
	failing := func(class error) error { return fmt.Errorf("\x1b[31m%w\n%s", class, strings.Repeat("é", 1000)) }
	denied := failing(destination.ErrDenied)
	for name, tc := range map[string]struct {
		refuses func(name string) error
		class   error
		deleted int64
		left    int
	}{
		"everything":         {func(string) error { return denied }, destination.ErrDenied, 0, 3},
		"for another reason": {func(string) error { return failing(destination.ErrUnavailable) }, destination.ErrUnavailable, 0, 3},
		"an archive": {func(name string) error {
			if _, isManifest, _ := archive.SplitName(name); isManifest {
				return nil
			}
			return denied
		}, destination.ErrDenied, 1, 2},
	} {
		t.Run(name, func(t *testing.T) {
			d := newDaily(t, 3)
			var log bytes.Buffer
			made := d.mustRun(&config.Keep{Count: 2}, func(b *backup.Backup) {
				b.Destination = undeletable{Destination: d.to, refuses: tc.refuses}
				b.Log = slog.New(slog.NewTextHandler(&log, nil))
			})
			got := made.Destination
			if got.Deleted != tc.deleted || got.Backups != 4-tc.deleted || len(d.files(d.made[0].ID)) != tc.left {
				t.Errorf("got %+v and %q, want %d deleted and %d files left", got, d.files(d.made[0].ID), tc.deleted, tc.left)
			}
			if text := got.DeletionError; !strings.Contains(text, tc.class.Error()) || len(text) > 512 || len(text) < 500 || strings.ContainsAny(text, "\x1b\n") {
				t.Errorf("the report says %q", text)
			}
			if want := errors.Is(tc.class, destination.ErrDenied); got.DeletionRefused != want {
				t.Errorf("the deletion was refused: %t, want %t", got.DeletionRefused, want)
			}
			if !strings.Contains(log.String(), tc.class.Error()) {
				t.Errorf("the log is %s", log.String())
			}
			// The next run with the right to delete continues, and the one after two days removes
			// the rest.
			d.mustRun(&config.Keep{Count: 2}, nil)
			if d.exists(d.made[1].ID) || d.exists(d.made[0].ID) {
				t.Error("the next run did not continue")
			}
			d.mustRun(nil, func(b *backup.Backup) { b.Now = func() time.Time { return time.Now().Add(3 * day) } })
			if left := d.files(d.made[0].ID); len(left) != 0 {
				t.Errorf("a later run leaves %q", left)
			}
		})
	}
}

// TestDestinationCannotBeListed checks that nothing is deleted then, and that the backup is
// complete.
func TestDestinationCannotBeListed(t *testing.T) {
	d := newDaily(t, 3)
	lists := 0
	made := d.mustRun(&config.Keep{Count: 1}, func(b *backup.Backup) {
		b.Destination = listing{d.to, func() error {
			if lists++; lists > 1 {
				return destination.ErrUnavailable
			}
			return nil
		}}
	})
	if lists != 2 || made.Destination != nil || made.Deleted != nil {
		t.Errorf("after %d lists: %+v, deleted %q", lists, made.Destination, made.Deleted)
	}
	d.mustHaveBackups(0, 1, 2, 3)
}

// TestDeletionsAreBounded checks that a run deletes 100 backups, the oldest ones, and that the next
// one continues.
func TestDeletionsAreBounded(t *testing.T) {
	d := newDaily(t, 1)
	signer := d.version(1)
	var ids []string
	for n := range 110 {
		ids = append(ids, d.forge(*d.made[0], func(m *archive.Manifest) { m.Sequence -= int64(1000 - n) }, signer))
	}
	keep := &config.Keep{Count: 1}
	if made := d.mustRun(keep, nil); !slices.Equal(made.Deleted, ids[:100]) || made.Destination.Backups != 12 || made.Destination.WithoutEscrow != 10 || made.Destination.DeletionError != "" {
		t.Errorf("deleted %d, and %+v", len(made.Deleted), made.Destination)
	}
	if made := d.mustRun(keep, nil); len(made.Deleted) != 12 || made.Destination.Backups != 1 || made.Destination.WithoutEscrow != 0 {
		t.Errorf("then deleted %d, and %+v", len(made.Deleted), made.Destination)
	}
}

// TestReport checks what the Job says of a backup.
func TestReport(t *testing.T) {
	d := newDaily(t, 0)
	start := time.Date(2026, 11, 30, 13, 42, 0, 5, time.UTC)
	calls := 0
	made := d.mustRun(&config.Keep{Count: 1}, func(b *backup.Backup) {
		b.Now = func() time.Time { calls++; return start.Add(time.Duration(calls) * time.Minute) }
	})
	got, m := made.Report(), made.Manifest
	want := &config.BackupReport{
		ID: m.ID, Sequence: m.Sequence, ArchiveSHA256: m.Archive.SHA256, ManifestSHA256: made.SHA256, Bytes: m.Archive.Size + m.Escrow.Size, Escrow: true,
		Notes: 2, Accounts: 1, OldestKeyVersion: 1, NewestKeyVersion: 1,
		SnapshotAt: got.SnapshotAt, VerifiedAt: got.VerifiedAt, UploadedAt: got.UploadedAt, Destination: made.Destination,
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	times := []time.Time{m.StartedAt, got.SnapshotAt, got.VerifiedAt, got.UploadedAt, got.Destination.ListedAt}
	for i, at := range times {
		if at.Nanosecond() != 0 || i > 0 && !at.After(times[i-1]) {
			t.Errorf("the times are %v", times)
		}
	}
	if at := m.CompletedAt; !at.After(got.VerifiedAt) || !at.Before(got.UploadedAt) {
		t.Errorf("completed at %s, verified at %s, uploaded at %s", at, got.VerifiedAt, got.UploadedAt)
	}
}
