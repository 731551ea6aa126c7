package backup

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"

	"filippo.io/age"

	"github.com/securenotes/securenotes/app/config"
	"github.com/securenotes/securenotes/app/internal/backup/archive"
	"github.com/securenotes/securenotes/app/internal/backup/destination"
	"github.com/securenotes/securenotes/app/internal/envelope"
	"github.com/securenotes/securenotes/app/internal/vault"
)

// ErrDrillIdentity means that an identity of the drill is not in Vault any more, or is another one,
// and that the backup cannot be opened without it.
var ErrDrillIdentity = errors.New("an identity of the drill is missing")

// Drill restores the newest backup into a database of its own. It writes nothing to Vault and
// nothing to the destination.
type Drill struct {
	// Target is an empty database that nothing else uses.
	Target Target
	Source destination.Destination
	// Living has the public keys of the backup key, and Versions the versions of the master key.
	Living   KeyReader
	Versions VersionReader
	// Identities has the identities that Settings names.
	Identities IdentityReader
	Settings   config.Drill
	// SecureNotesUID is the UID of the object whose backups are tested.
	SecureNotesUID string

	// Provider has the master key, and MasterKey is its name.
	Provider   envelope.KeyProvider
	MasterKey  string
	Deployment config.Deployment
	Phase      Phase
	Log        *slog.Logger
}

// Drilled is what a drill has found in a backup that is intact.
type Drilled struct {
	Manifest *archive.Manifest
	// Retired are the versions of the master key that the backup needs and that no longer decrypt.
	// If there are any, the rows were read, but not restored.
	Retired []int
	// Entry is that of the identity that opened the archive.
	Entry string
	// Keys and Values are how many owner keys were unwrapped and values opened.
	Keys, Values int64
}

// drillIdentity remembers whether it has opened a file.
type drillIdentity struct {
	age.Identity
	entry string
	used  *string
}

// Unwrap implements age.Identity.
func (d drillIdentity) Unwrap(stanzas []*age.Stanza) ([]byte, error) {
	key, err := d.Identity.Unwrap(stanzas)
	if err == nil {
		*d.used = d.entry
	}
	return key, err
}

// Run restores the newest backup, and unwraps every owner key and opens a value of each table under
// it. A backup that needs retired versions of the master key is no error. Errors: a Refusal;
// ErrDrillIdentity; others, which can be retried with another empty database.
func (d *Drill) Run(ctx context.Context) (*Drilled, error) {
	m, err := d.newest(ctx)
	if err != nil {
		return nil, err
	}
	drilled := &Drilled{Manifest: m}
	identities, missing, err := d.readIdentities(ctx, &drilled.Entry)
	if err != nil {
		return nil, err
	}
	r := &Restore{
		Target: d.Target, TargetName: "the database of the drill", Source: d.Source, ID: m.ID, Living: d.Living, Identities: identities,
		Provider: d.Provider, MasterKey: d.MasterKey, Deployment: d.Deployment, Phase: d.Phase, Log: d.Log,
	}
	found, p, err := d.examine(ctx, r, missing)
	if err != nil {
		return nil, err
	}
	versions := found.versions()
	if drilled.Retired, err = d.retired(ctx, versions); err != nil {
		return nil, err
	}
	for _, version := range drilled.Retired {
		delete(found.keys, version) // the others must still unwrap
	}
	if err := r.checkVersions(ctx, p, found.census); err != nil {
		return d.unlessRetired(ctx, drilled, versions, err)
	}
	if len(drilled.Retired) > 0 {
		return drilled, nil
	}
	p.fence = slices.Max(versions)
	restored, err := r.write(ctx, p)
	if err != nil {
		return d.unlessRetired(ctx, drilled, versions, err)
	}
	drilled.Keys, drilled.Values = restored.Verified.Keys, restored.Verified.Values
	return drilled, nil
}

// unlessRetired returns err, unless more of the versions have been retired since the drill began,
// which then explains it.
func (d *Drill) unlessRetired(ctx context.Context, drilled *Drilled, versions []int, err error) (*Drilled, error) {
	retired, errVersions := d.retired(ctx, versions)
	if errVersions != nil || len(retired) <= len(drilled.Retired) {
		return nil, err
	}
	drilled.Retired = retired
	return drilled, nil
}

// newest returns the manifest of the newest valid backup of the object. It refuses one that is
// older than one that is known to be complete.
func (d *Drill) newest(ctx context.Context) (*archive.Manifest, error) {
	keys, err := d.Living.BackupKeys(ctx)
	if err != nil {
		return nil, fmt.Errorf("read the public keys of the backup key: %w", err)
	}
	all, err := List(ctx, d.Source, keys)
	if err != nil {
		return nil, err
	}
	const next = "make a backup; if it was not deleted on purpose, restore it from a copy of the destination"
	switch last := newest(all, archive.Deployment{SecureNotesUID: d.SecureNotesUID}); {
	case last == nil:
		return nil, refuse(ErrUnknown, d.Source.String(), "it has no valid backup of this SecureNotes", next)
	case last.Sequence < d.Settings.Sequence:
		return nil, refuse(ErrOlder, "backup "+last.ID,
			fmt.Sprintf("it is the newest in %s, with sequence %d, and a backup with sequence %d was complete", d.Source, last.Sequence, d.Settings.Sequence), next)
	default:
		return last, nil
	}
}

// readIdentities returns the identities that Vault has as they were recorded, and the entries of
// the others. An identity stores the name of its entry in used when it opens a file.
func (d *Drill) readIdentities(ctx context.Context, used *string) (identities []age.Identity, missing []string, err error) {
	for _, wanted := range d.Settings.Identities {
		value, err := d.Identities.DrillIdentity(ctx, wanted.Entry)
		if err != nil && !errors.Is(err, vault.ErrNotFound) {
			return nil, nil, fmt.Errorf("read the identity of the drill: %w", err)
		}
		if err == nil {
			identity, recipient, err := value.Parse()
			if err == nil && recipient == wanted.Recipient {
				identities = append(identities, drillIdentity{identity, wanted.Entry, used})
				continue
			}
		}
		missing = append(missing, wanted.Entry)
	}
	if len(identities) == 0 {
		return nil, nil, missingIdentities(missing)
	}
	return identities, missing, nil
}

func missingIdentities(entries []string) error {
	return fmt.Errorf("%w: the entry %s is not in Vault, or has another identity than was recorded", ErrDrillIdentity, strings.Join(entries, ", "))
}

// examine reads all of the backup, and plans its restore.
func (d *Drill) examine(ctx context.Context, r *Restore, missing []string) (*examination, *plan, error) {
	// As a restore does, also because there may be a newer backup that is not valid.
	m, err := r.choose(ctx)
	if err != nil {
		return nil, nil, err
	}
	if err := r.checkOrigin(m); err != nil {
		return nil, nil, err
	}
	if err := r.checkTarget(ctx, m); err != nil {
		return nil, nil, err
	}
	found, err := r.examine(ctx, m, ignoreRows)
	switch {
	case errors.Is(err, archive.ErrWrongIdentity) && len(missing) > 0:
		return nil, nil, missingIdentities(missing)
	case errors.Is(err, archive.ErrWrongIdentity):
		return nil, nil, refuse(archive.ErrWrongIdentity, "backup "+m.ID, "it is not encrypted to the identity of the drill", "make another backup")
	case err != nil:
		return nil, nil, err
	}
	for _, id := range found.pepperIDs() {
		if !slices.Contains(m.Peppers, id) {
			return nil, nil, refuse(archive.ErrDamaged, "backup "+m.ID, fmt.Sprintf("%d passwords need the pepper %s, which the manifest does not name", found.peppers[id], id), "use another backup")
		}
	}
	p, err := r.newPlan(m, found)
	if err != nil {
		return nil, nil, err
	}
	if err := found.addKey(p.meta.Canary); err != nil {
		return nil, nil, fmt.Errorf("canary: %w", err)
	}
	return found, p, nil
}

// retired returns those of the versions that no longer decrypt.
func (d *Drill) retired(ctx context.Context, versions []int) ([]int, error) {
	key, err := d.Versions.MasterKeyVersions(ctx)
	if err != nil {
		return nil, fmt.Errorf("read the versions of the master key: %w", err)
	}
	return slices.DeleteFunc(slices.Clone(versions), func(version int) bool { return version >= key.MinDecryption }), nil
}

// Report returns what the Job says of the drill.
func (d *Drilled) Report() *config.DrillReport {
	result := config.DrillPassed
	if len(d.Retired) > 0 {
		result = config.DrillVersionsRetired
	}
	return &config.DrillReport{
		Result: result, ID: d.Manifest.ID, Sequence: d.Manifest.Sequence, Entry: d.Entry,
		Accounts: d.Manifest.Rows[tableUsers], Notes: d.Manifest.Rows[tableNotes], OwnerKeys: d.Keys, Values: d.Values,
	}
}

// String returns what was found, for people.
func (d *Drilled) String() string {
	if len(d.Retired) == 0 {
		return fmt.Sprintf("Backup %s was restored for a test: %d rows; %d owner keys and %d values were decrypted.", d.Manifest.ID, totalRows(d.Manifest), d.Keys, d.Values)
	}
	versions := strings.Trim(fmt.Sprint(d.Retired), "[]")
	how := "it has no escrow file, so it cannot be restored while they do not decrypt"
	if d.Manifest.Escrow != nil {
		how = "its escrow file restores it without them"
	}
	return fmt.Sprintf("Backup %s is intact, but it needs retired versions of the master key: %s; %s.", d.Manifest.ID, versions, how)
}
