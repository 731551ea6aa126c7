package backup_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/securenotes/securenotes/app/config"
	"github.com/securenotes/securenotes/app/internal/backup"
	"github.com/securenotes/securenotes/app/internal/backup/archive"
	"github.com/securenotes/securenotes/app/internal/envelope"
	"github.com/securenotes/securenotes/app/internal/vault"
)

// drillEntries has the identities of drills, in place of Vault.
type drillEntries map[string]*config.DrillIdentity

// DrillIdentity implements backup.IdentityReader.
func (d drillEntries) DrillIdentity(_ context.Context, entry string) (*config.DrillIdentity, error) {
	if identity := d[entry]; identity != nil {
		return identity, nil
	}
	return nil, vault.ErrNotFound
}

// decryptsOnly is a master key of the drill's role.
type decryptsOnly struct{ envelope.KeyProvider }

// Wrap implements envelope.KeyProvider.
func (decryptsOnly) Wrap(context.Context, []envelope.RawItem) ([]envelope.WrapResult, error) {
	return nil, vault.ErrDenied
}

// drilled is a deployment whose backups are tested.
type drilled struct {
	testing.TB
	source  *site
	entries drillEntries
	named   []config.DrillEntry
	made    *backup.Made
	drill   *backup.Drill
}

// newDrilled returns a deployment with a backup, and a drill that passes.
func newDrilled(t testing.TB, name string) *drilled {
	t.Helper()
	d := &drilled{TB: t, source: newSite(t, name, newMigratedSQLite(t)), entries: drillEntries{}}
	d.source.claim(t)
	d.source.fill(t, 3, 2)
	d.addIdentity()
	d.backUp()
	d.newDrill()
	return d
}

// addIdentity creates an identity that later backups are encrypted to.
func (d *drilled) addIdentity() {
	d.Helper()
	identity, recipient, err := config.NewDrillIdentity(false)
	if err != nil {
		d.Fatal(err)
	}
	entry := config.NewDrillEntry()
	d.entries[entry] = identity
	d.named = append([]config.DrillEntry{{Entry: entry, Recipient: recipient}}, d.named...)
}

// backUp makes a backup that is encrypted to the newest identity.
func (d *drilled) backUp() {
	d.Helper()
	run := d.source.backup(d)
	run.Settings.Recipients = append(run.Settings.Recipients, d.named[0].Recipient)
	made, err := run.Run(ctx)
	if err != nil {
		d.Fatal(err)
	}
	d.made = made
}

// newDrill sets up a drill with an empty database.
func (d *drilled) newDrill() {
	d.Helper()
	d.drill = &backup.Drill{
		Target: newSQLite(d).open(d), Source: d.source.to, Living: d.source.holder, Versions: d.source.holder, Identities: d.entries,
		Settings: config.Drill{Identities: d.named, Sequence: d.made.Manifest.Sequence}, SecureNotesUID: "uid-of-" + d.source.name,
		Provider: decryptsOnly{d.source.master}, MasterKey: d.source.name, Deployment: d.source.deployment, Phase: quiet, Log: slog.New(slog.DiscardHandler),
	}
}

// files returns the files of the destination.
func (d *drilled) files() map[string]string {
	d.Helper()
	files := map[string]string{}
	entries, err := os.ReadDir(d.source.directory)
	if err != nil {
		d.Fatal(err)
	}
	for _, entry := range entries {
		files[entry.Name()] = string(d.source.readFile(d, entry.Name()))
	}
	return files
}

// mustPass runs the drill, which passes.
func (d *drilled) mustPass() *config.DrillReport {
	d.Helper()
	found, err := d.drill.Run(ctx)
	if err != nil {
		d.Fatal(err)
	}
	report := found.Report()
	// Three users, of whom two have a second factor, and one note more.
	want := config.DrillReport{
		Result: config.DrillPassed, ID: d.made.Manifest.ID, Sequence: d.made.Manifest.Sequence, Entry: report.Entry,
		Accounts: 3, Notes: 7, OwnerKeys: 3, Values: report.Values,
	}
	if *report != want || report.Values < 5 {
		d.Errorf("the report is %+v, want %+v", report, want)
	}
	return report
}

// TestDrill checks that a drill restores the newest backup with any of its identities, and changes
// nothing.
func TestDrill(t *testing.T) {
	d := newDrilled(t, "source")
	before, peppers := d.files(), d.source.entries()
	live := d.source.database.dump(t)
	if report := d.mustPass(); report.Entry != d.named[0].Entry {
		t.Errorf("the entry is %s, want %s", report.Entry, d.named[0].Entry)
	}
	d.addIdentity()
	d.newDrill()
	if report := d.mustPass(); report.Entry != d.named[1].Entry {
		t.Errorf("with another identity, the entry is %s, want %s", report.Entry, d.named[1].Entry)
	}
	if diff := cmp.Diff(before, d.files()); diff != "" {
		t.Errorf("the destination has changed:\n%s", diff)
	}
	if diff := cmp.Diff(live, d.source.database.dump(t)); diff != "" {
		t.Errorf("the database has changed:\n%s", diff)
	}
	if !maps.Equal(peppers, d.source.entries()) {
		t.Error("the peppers have changed")
	}
	d.backUp()
	d.newDrill()
	if report := d.mustPass(); report.Entry != d.named[0].Entry {
		t.Errorf("after another backup, the entry is %s, want %s", report.Entry, d.named[0].Entry)
	}
}

// TestDrillOfRetiredVersions checks that a backup that needs retired versions is reported as such,
// and that it is not restored.
func TestDrillOfRetiredVersions(t *testing.T) {
	for name, escrow := range map[string]bool{"with an escrow": true, "without an escrow": false} {
		t.Run(name, func(t *testing.T) {
			d := newDrilled(t, "source")
			run := d.source.backup(t)
			run.Settings.Recipients = append(run.Settings.Recipients, d.named[0].Recipient)
			if !escrow {
				run.Settings.Escrow = nil
			}
			made, err := run.Run(ctx)
			if err != nil {
				t.Fatal(err)
			}
			d.made = made
			d.source.moveTo(t)
			d.newDrill()
			found, err := d.drill.Run(ctx)
			if err != nil {
				t.Fatal(err)
			}
			report := found.Report()
			if report.Result != config.DrillVersionsRetired || report.ID != made.Manifest.ID || report.Entry == "" || report.OwnerKeys != 0 || report.Values != 0 || report.Notes != 7 {
				t.Errorf("the report is %+v", report)
			}
			if text := found.String(); !strings.Contains(text, "versions of the master key: 1;") || strings.Contains(text, "has no escrow") == escrow {
				t.Errorf("it says %s", text)
			}
			d.backUp()
			d.newDrill()
			d.mustPass()
		})
	}
}

// TestDrillDuringARetirement checks that a retirement during a drill is no failure.
func TestDrillDuringARetirement(t *testing.T) {
	d := newDrilled(t, "source")
	d.source.retire(t, d.source.rotate(t))
	d.drill.Versions = staleOnce{d.source.holder, new(bool)}
	found, err := d.drill.Run(ctx)
	if err != nil || found.Report().Result != config.DrillVersionsRetired {
		t.Errorf("got %+v, %v; want %s", found, err, config.DrillVersionsRetired)
	}
}

// staleOnce says the first time that version 1 still decrypts.
type staleOnce struct {
	backup.VersionReader
	asked *bool
}

// MasterKeyVersions implements backup.VersionReader.
func (s staleOnce) MasterKeyVersions(ctx context.Context) (*vault.KeyVersions, error) {
	versions, err := s.VersionReader.MasterKeyVersions(ctx)
	if err == nil && !*s.asked {
		*s.asked, versions.MinDecryption = true, 1
	}
	return versions, err
}

// TestDrillFails checks that a drill fails if the newest backup cannot be restored, says what to
// do, and changes neither the destination nor the peppers.
func TestDrillFails(t *testing.T) {
	name := func(d *drilled, kind archive.Kind) string { return archive.Name(d.made.Manifest.ID, kind, false) }
	edit := func(d *drilled, file string, change func([]byte) []byte) {
		d.source.writeFile(d, file, change(d.source.readFile(d, file)))
	}
	remove := func(d *drilled, file string) {
		if err := os.Remove(filepath.Join(d.source.directory, file)); err != nil {
			d.Fatal(err)
		}
	}
	for title, tc := range map[string]struct {
		prepare func(*drilled)
		want    error
		says    string
	}{
		"archive damaged": {func(d *drilled) {
			edit(d, name(d, archive.KindArchive), func(raw []byte) []byte { raw[len(raw)/2] ^= 1; return raw })
		}, archive.ErrDamaged, "use another"},
		"archive missing": {func(d *drilled) { remove(d, name(d, archive.KindArchive)) }, archive.ErrMissing, "use another"},
		"no backup":       {func(d *drilled) { remove(d, archive.ManifestName(d.made.Manifest.ID)) }, backup.ErrUnknown, "make a backup"},
		"the newest is gone": {func(d *drilled) {
			d.backUp()
			remove(d, archive.ManifestName(d.made.Manifest.ID))
			d.newDrill()
		}, backup.ErrOlder, "was complete: make a backup"},
		"the newest is not signed": {func(d *drilled) {
			d.backUp()
			d.newDrill()
			d.drill.Settings.Sequence--
			edit(d, archive.ManifestName(d.made.Manifest.ID), func(raw []byte) []byte { return bytes.Replace(raw, []byte(`"sig"`), []byte(`"gis"`), 1) })
		}, backup.ErrOlder, "may be of a newer backup"},
		"only of another object":                      {func(d *drilled) { d.drill.SecureNotesUID, d.drill.Settings.Sequence = "another", 0 }, backup.ErrUnknown, "no valid backup of this SecureNotes"},
		"signed by a version that a Compromise ended": {func(d *drilled) { d.source.renewSigning(d) }, backup.ErrUnknown, "no valid backup"},
		"not encrypted to the drill":                  {func(d *drilled) { d.made = d.source.mustBackUp(d); d.newDrill() }, archive.ErrWrongIdentity, "make another backup"},
		"no identity in Vault":                        {func(d *drilled) { clear(d.entries) }, backup.ErrDrillIdentity, "not in Vault"},
		"another identity in Vault": {func(d *drilled) {
			other, _, err := config.NewDrillIdentity(false)
			if err != nil {
				d.Fatal(err)
			}
			d.entries[d.named[0].Entry] = other
		}, backup.ErrDrillIdentity, "another identity than was recorded"},
		"the older identity is not in Vault": {func(d *drilled) {
			delete(d.entries, d.named[0].Entry)
			d.addIdentity()
			d.newDrill()
		}, backup.ErrDrillIdentity, "not in Vault"},
		"an identity that cannot be parsed": {func(d *drilled) { d.entries[d.named[0].Entry].Identity = "AGE-SECRET" }, backup.ErrDrillIdentity, "another identity"},
		"another master key":                {func(d *drilled) { d.drill.Provider = newHolder(d, "source").master }, backup.ErrVersionsRefused, "does not unwrap"},
		"another deployment":                {func(d *drilled) { d.drill.Deployment.ID = "another" }, backup.ErrOtherDeployment, "deployment"},
		"a value that does not open": {func(d *drilled) {
			d.source.database.execute(d, "UPDATE notes SET content = zeroblob(40)")
			run := d.source.backup(d)
			run.Settings.Recipients, run.Settings.Escrow = append(run.Settings.Recipients, d.named[0].Recipient), nil
			made, err := run.Run(ctx)
			if err != nil {
				d.Fatal(err)
			}
			d.made = made
			d.newDrill()
		}, backup.ErrDamagedRows, "damaged"},
		"a version is retired, and another does not unwrap": {func(d *drilled) {
			to := d.source.rotate(d)
			d.source.fill(d, 1, 1) // its key is under the new version
			d.backUp()
			d.newDrill()
			d.drill.Versions, d.drill.Provider = fixedVersions{to}, newHolder(d, "source").master
		}, backup.ErrVersionsRefused, "of the versions 2"},
		"a pepper that the manifest does not name": {func(d *drilled) {
			r := &refused{TB: d, source: d.source, made: d.made, run: &backup.Restore{ID: d.made.Manifest.ID}}
			r.editSigned(d.source.peppers[d.source.entry].CurrentID, "pep-another")
		}, archive.ErrDamaged, "which the manifest does not name"},
		"Vault away": {func(d *drilled) {
			d.source.interrupt = func(operation string) error {
				if operation == "read the versions" {
					return vault.ErrUnavailable
				}
				return nil
			}
		}, vault.ErrUnavailable, "versions of the master key"},
	} {
		t.Run(title, func(t *testing.T) {
			t.Parallel()
			d := newDrilled(t, "source")
			tc.prepare(d)
			before, peppers := d.files(), d.source.entries()
			found, err := d.drill.Run(ctx)
			if !errors.Is(err, tc.want) || !strings.Contains(fmt.Sprint(err), tc.says) {
				t.Errorf("found %+v, error %v; want %v, with %q", found, err, tc.want, tc.says)
			}
			for _, identity := range d.entries {
				if strings.Contains(fmt.Sprint(err), identity.Identity) && len(identity.Identity) > 12 {
					t.Errorf("the error has an identity: %v", err)
				}
			}
			if diff := cmp.Diff(before, d.files()); diff != "" {
				t.Errorf("the destination has changed:\n%s", diff)
			}
			if !maps.Equal(peppers, d.source.entries()) {
				t.Error("the peppers have changed")
			}
		})
	}
}

// fixedVersions are the versions of a master key whose oldest one that decrypts is given.
type fixedVersions struct{ oldest int }

// MasterKeyVersions implements backup.VersionReader.
func (f fixedVersions) MasterKeyVersions(context.Context) (*vault.KeyVersions, error) {
	return &vault.KeyVersions{Latest: f.oldest, MinDecryption: f.oldest, Created: map[int]time.Time{}}, nil
}

// TestDrillsInOneDestination checks that the drills of two objects test only their own backups.
func TestDrillsInOneDestination(t *testing.T) {
	first, second := newDrilled(t, "source"), newDrilled(t, "other")
	for file, raw := range second.files() {
		first.source.writeFile(t, file, []byte(raw))
	}
	second.source.to, second.source.directory = first.source.to, first.source.directory
	second.newDrill()
	first.mustPass()
	second.mustPass()
	// Now the newest backup in the destination is of the first.
	first.backUp()
	first.newDrill()
	second.newDrill()
	first.mustPass()
	second.mustPass()
}

// TestDrillKilledAtEachStep interrupts a drill at each step. It changes nothing, and the next drill
// passes.
func TestDrillKilledAtEachStep(t *testing.T) {
	d := newDrilled(t, "source")
	before, peppers := d.files(), d.source.entries()
	for at := 1; ; at += 7 {
		d.newDrill()
		taken := &steps{at: at, err: errInterrupted}
		d.drill.Target, d.drill.Source = steppedStore{newSQLite(t).open(t), taken}, steppedDestination{d.source.to, taken}
		d.drill.Provider = steppedProvider{d.drill.Provider, taken}
		_, err := d.drill.Run(ctx)
		if _, failed := taken.failed(); !failed {
			if err != nil || at < 50 {
				t.Errorf("without an interruption, at step %d: %v", at, err)
			}
			break
		}
		if err == nil {
			t.Errorf("interrupted at step %d: no error", at)
		}
		if diff := cmp.Diff(before, d.files()); diff != "" {
			t.Fatalf("the destination has changed:\n%s", diff)
		}
	}
	if !maps.Equal(peppers, d.source.entries()) {
		t.Error("the peppers have changed")
	}
	d.newDrill()
	d.mustPass()
}
