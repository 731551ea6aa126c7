package backup_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"regexp"
	"strings"
	"testing"

	"filippo.io/age"
	"github.com/google/go-cmp/cmp"

	"github.com/securenotes/securenotes/app/config"
	"github.com/securenotes/securenotes/app/internal/accounts"
	"github.com/securenotes/securenotes/app/internal/backup"
	"github.com/securenotes/securenotes/app/internal/backup/archive"
	"github.com/securenotes/securenotes/app/internal/deployment"
	"github.com/securenotes/securenotes/app/internal/envelope"
	"github.com/securenotes/securenotes/app/internal/notes"
	"github.com/securenotes/securenotes/app/internal/reencrypt"
)

// damagedSite is a deployment with damage in its database, a backup of it, and the users without
// damage.
type damagedSite struct {
	*site
	made *backup.Made
	// owner is the account with the damage, and place where the first of it is.
	owner, place string
	// row is the id of its row.
	row    string
	user   *user
	total  int64
	intact []*user
}

// newDamaged returns a deployment of four users. Either the first note of one does not open, or the
// owner key of one with a second factor does not unwrap: that one is backed up without escrow.
func newDamaged(t *testing.T, key bool) *damagedSite {
	t.Helper()
	d := &damagedSite{site: newSite(t, "source", newMigratedSQLite(t))}
	d.claim(t)
	d.fill(t, 4, 3)
	d.user = d.users[map[bool]int{false: 1, true: 2}[key]]
	d.owner = d.user.session.Owner
	run := d.backup(t)
	if key {
		d.damageKey(t, d.owner)
		d.row = d.one(t, "SELECT id FROM owner_keys WHERE owner = '"+d.owner+"'")
		d.place, d.total = fmt.Sprintf("owner_keys.wrapped of row %s of owner %s", d.row, d.owner), 1
		run.Settings.Escrow = nil
	} else {
		d.row = d.one(t, "SELECT min(id) FROM notes WHERE owner = '"+d.owner+"'")
		d.database.execute(t, "UPDATE notes SET revision = revision + 1 WHERE id = '"+d.row+"'")
		d.place, d.total = fmt.Sprintf("notes.content of row %s of owner %s", d.row, d.owner), 3
	}
	for _, u := range d.users {
		if u != d.user {
			d.intact = append(d.intact, u)
		}
	}
	var err error
	if d.made, err = run.Run(ctx); err != nil {
		t.Fatal(err)
	}
	return d
}

// one returns the only value that a query returns.
func (s *site) one(t testing.TB, query string) (value string) {
	t.Helper()
	rows := s.database.query(t, query)
	_, encoded, _ := strings.Cut(rows[0][0], "=")
	if _, err := fmt.Sscanf(encoded, "%x", &value); err != nil {
		t.Fatal(err)
	}
	return value
}

// damageKey replaces the wrapping of an owner's key by that of another owner.
func (s *site) damageKey(t testing.TB, owner string) {
	t.Helper()
	s.database.execute(t, "UPDATE owner_keys SET wrapped = (SELECT k.wrapped FROM owner_keys k WHERE k.owner <> owner_keys.owner ORDER BY k.owner LIMIT 1) WHERE owner = '"+owner+"'")
}

// verification returns an offline check of a backup.
func (s *site) verification(id string, identities ...age.Identity) *backup.Verification {
	return &backup.Verification{Source: s.to, ID: id, PublicKeys: s.publicKeys(), Identities: identities, Phase: quiet}
}

// TestVerificationOpensEveryValue checks that an offline check with the escrow opens every value,
// also of copies for another identity, and none without it.
func TestVerificationOpensEveryValue(t *testing.T) {
	s := newSite(t, "source", newMigratedSQLite(t))
	s.claim(t)
	s.fill(t, 4, 3)
	s.moveTo(t)
	var sealed int64
	for _, rows := range s.archived(t) {
		for _, row := range rows {
			for _, value := range row {
				if _, is := value.([]byte); is {
					sealed++
				}
			}
		}
	}
	id := s.mustBackUp(t).Manifest.ID
	once, copied := newIdentity(t), *s
	copied.directory = t.TempDir()
	copied.to = directory(t, copied.directory)
	s.rekey(t, id, once, copied.to, s.identity, s.escrow)
	for name, tc := range map[string]struct {
		run  *backup.Verification
		want int64
	}{
		"archive":            {s.verification(id, s.identity), 0},
		"archive and escrow": {s.verification(id, s.identity, s.escrow), sealed},
		"copies":             {copied.verification(id, once), sealed},
		"nothing":            {s.verification(id), 0},
	} {
		verified, err := tc.run.Run(ctx)
		if err != nil || verified.Values != tc.want || verified.EscrowOpened != (tc.want > 0) {
			t.Errorf("%s: %+v, %v; want %d values", name, verified, err, tc.want)
		}
	}
}

// TestVerificationNamesDamage checks that an offline check with the escrow names the values that do
// not open, and how many there are.
func TestVerificationNamesDamage(t *testing.T) {
	d := newDamaged(t, false)
	_, err := d.verification(d.made.Manifest.ID, d.identity, d.escrow).Run(ctx)
	if !errors.Is(err, backup.ErrDamagedRows) || !strings.Contains(err.Error(), "3 values are damaged: "+d.place) || !strings.Contains(err.Error(), "--accept-damaged") {
		t.Errorf("%v; want %s", err, d.place)
	}
	if verified, err := d.verification(d.made.Manifest.ID, d.identity).Run(ctx); err != nil || verified.Values != 0 {
		t.Errorf("without the escrow: %+v, %v", verified, err)
	}
	d.database.execute(t, "UPDATE notes SET revision = revision + 1")
	_, err = d.verification(d.mustBackUp(t).Manifest.ID, d.identity, d.escrow).Run(ctx)
	if text := fmt.Sprint(err); !errors.Is(err, backup.ErrDamagedRows) || strings.Count(text, " of row ") != 10 || !strings.Contains(text, "37 values are damaged") || !strings.Contains(text, "and 27 more") {
		t.Errorf("%v; want ten of 37 values", err)
	}
}

// restoreDamaged returns a restore of a backup with damage, and where to.
func (d *damagedSite) restoreDamaged(t *testing.T, create func(testing.TB) *database, escrow bool) (*site, func() *backup.Restore) {
	t.Helper()
	if escrow {
		target := newSite(t, "target", create(t))
		return target, func() *backup.Restore { return target.fromEscrow(d.site, d.made.Manifest.ID) }
	}
	target := d.another(t, create(t))
	return target, func() *backup.Restore { return target.restore(d.site, d.made.Manifest.ID) }
}

// TestDamageIsRefused checks that a restore refuses a backup with damage and names it: from the
// escrow before it writes anything, and otherwise while no process accepts the database.
func TestDamageIsRefused(t *testing.T) {
	for kind, create := range migrated() {
		for name, tc := range map[string]struct{ key, escrow bool }{
			"value": {}, "value, from the escrow": {escrow: true}, "owner key": {key: true},
		} {
			t.Run(name+", "+kind, func(t *testing.T) {
				t.Parallel()
				d := newDamaged(t, tc.key)
				target, restore := d.restoreDamaged(t, create, tc.escrow)
				target.claim(t)
				before, peppers := target.database.dump(t), target.entries()
				restored, err := restore().Run(ctx)
				refusal, refused := errors.AsType[*archive.Refusal](err)
				if !refused || !errors.Is(err, backup.ErrDamagedRows) || !strings.Contains(refusal.Cause, d.place) || !strings.Contains(refusal.Next, "--accept-damaged") {
					t.Errorf("restored %+v, %v; want a refusal that names %s", restored, err, d.place)
				}
				if diff := cmp.Diff(peppers, target.entries()); diff != "" {
					t.Errorf("the peppers have changed:\n%s", diff)
				}
				if diff := cmp.Diff(before, target.database.dump(t)); tc.escrow && diff != "" {
					t.Errorf("the target has changed:\n%s", diff)
				}
				if err := deployment.CheckID(ctx, target.db, target.deployment); !tc.escrow && !errors.Is(err, deployment.ErrRestoring) {
					t.Errorf("a process that starts gets %v", err)
				}
			})
		}
	}
}

// TestDamageIsAccepted restores a backup with damage. Everything else is as it was, a repeated run
// names the same, and the documented statements let a rotation complete.
func TestDamageIsAccepted(t *testing.T) {
	for kind, create := range migrated() {
		for name, tc := range map[string]struct{ key, escrow bool }{
			"value": {}, "value, from the escrow": {escrow: true}, "owner key": {key: true},
		} {
			t.Run(name+", "+kind, func(t *testing.T) {
				t.Parallel()
				d := newDamaged(t, tc.key)
				target, restore := d.restoreDamaged(t, create, tc.escrow)
				if _, err := restore().Run(ctx); !errors.Is(err, backup.ErrDamagedRows) {
					t.Errorf("without the option: %v", err)
				}
				for _, before := range []bool{false, true} {
					run := restore()
					run.AcceptDamaged = true
					restored := target.mustRestore(t, run)
					if got := restored.Damaged; got.Total != d.total || !strings.Contains(got.String(), d.place) || restored.Before != before {
						t.Errorf("restored %+v with %s; want %d values, with %s", restored, &got, d.total, d.place)
					}
					if before {
						target.adopt(t, restored)
					}
				}
				target.mustHave(t, d.intact)
				target.mustHaveIntact(t, d, tc.key)
				target.mustRotateAfterCleaning(t, d, tc.key)
			})
		}
	}
}

// mustHaveIntact checks that the account with damage can log in, and read its other notes.
func (s *site) mustHaveIntact(t *testing.T, d *damagedSite, key bool) {
	t.Helper()
	people, texts := s.services(t)
	u := d.user
	credentials := accounts.Credentials{Username: u.name, Password: u.password}
	if len(u.recovery) > 0 {
		credentials.Code = u.recovery[0]
	}
	login, err := people.Login(ctx, "192.0.2.1", credentials)
	if err != nil {
		t.Fatal(err)
	}
	readable := 0
	for id, want := range u.notes {
		note, err := texts.Get(ctx, login.Identity, id)
		if err == nil && note.Content == want.Content {
			readable++
		}
	}
	if want := map[bool]int{true: 0, false: len(u.notes) - 1}[key]; readable != want {
		t.Errorf("%d notes of %d are readable, want %d", readable, len(u.notes), want)
	}
}

// mustRotateAfterCleaning rotates the master key: that fails because of the damage, and completes
// after the statements of docs/backup.md.
func (s *site) mustRotateAfterCleaning(t *testing.T, d *damagedSite, key bool) {
	t.Helper()
	to := s.rotate(t)
	rotate := func() error {
		if err := s.reencryptJob(t, to).Run(ctx); err != nil {
			return err
		}
		verification := &reencrypt.Verification{
			Store: s.db, Keys: s.keys(), Strategy: reencrypt.Reencrypt, To: to, All: true, Urgent: true, Progress: func(int64, int64) {},
		}
		_, err := verification.Run(ctx)
		return err
	}
	if err := rotate(); !errors.Is(err, envelope.ErrRefused) && !errors.Is(err, envelope.ErrNotAuthentic) || !strings.Contains(err.Error(), d.owner) {
		t.Errorf("a rotation beside the damage: %v", err)
	}
	s.database.execute(t, d.documented(t, key))
	if err := rotate(); err != nil {
		t.Errorf("a rotation after the damage was deleted: %v", err)
	}
	people, texts := s.services(t)
	login, err := people.Login(ctx, "192.0.2.1", accounts.Credentials{Username: d.user.name, Password: d.user.password})
	if err == nil {
		_, err = texts.Create(ctx, login.Identity, notes.Text{Content: "after the rotation"})
	}
	if err != nil {
		t.Errorf("a new note of the account that had the damage: %v", err)
	}
}

// documented returns the statements of docs/backup.md that delete the damage.
func (d *damagedSite) documented(t *testing.T, key bool) string {
	t.Helper()
	page, err := os.ReadFile("../../../docs/backup.md")
	if err != nil {
		t.Fatal(err)
	}
	_, section, _ := strings.Cut(string(page), "## A backup has damaged values")
	blocks := regexp.MustCompile("(?s)```sql\n(.*?)```").FindAllStringSubmatch(section, -1)
	if len(blocks) != 2 {
		t.Fatalf("docs/backup.md has %d blocks of statements, want 2", len(blocks))
	}
	statements := blocks[map[bool]int{false: 0, true: 1}[key]][1]
	return strings.NewReplacer("OWNER", d.owner, "ROW", d.row).Replace(statements)
}

// TestDamagedKeyUnderAnOldVersion restores a damaged owner key that a rotation has left alone under
// the version before: it cannot be told from a version that was retired, so both ways are named.
func TestDamagedKeyUnderAnOldVersion(t *testing.T) {
	d := newDamaged(t, true)
	if err := d.reencryptJob(t, d.rotate(t)).Run(ctx); !errors.Is(err, envelope.ErrRefused) {
		t.Fatal(err)
	}
	run := d.backup(t)
	run.Settings.Escrow = nil
	made, err := run.Run(ctx)
	if err != nil {
		t.Fatal(err)
	}
	d.made = made
	target, restore := d.restoreDamaged(t, newMigratedSQLite, false)
	if _, err := restore().Run(ctx); !errors.Is(err, backup.ErrVersionsRefused) || !strings.Contains(err.Error(), "--accept-damaged") {
		t.Errorf("%v; want %v, with --accept-damaged", err, backup.ErrVersionsRefused)
	}
	accepting := restore()
	accepting.AcceptDamaged = true
	if restored := target.mustRestore(t, accepting); restored.Damaged.Total != 1 || !strings.Contains(restored.Damaged.String(), d.place) {
		t.Errorf("damaged: %s; want %s", &restored.Damaged, d.place)
	}
	target.mustHave(t, d.intact)

	d.retire(t, d.rotate(t))
	other, restore := d.restoreDamaged(t, newMigratedSQLite, false)
	before := other.database.dump(t)
	accepting = restore()
	accepting.AcceptDamaged = true
	if _, err := accepting.Run(ctx); !errors.Is(err, backup.ErrVersionsRefused) || strings.Contains(err.Error(), "--accept-damaged") {
		t.Errorf("with every version retired: %v; want %v", err, backup.ErrVersionsRefused)
	}
	if diff := cmp.Diff(before, other.database.dump(t)); diff != "" {
		t.Errorf("the target has changed:\n%s", diff)
	}
}

// TestEscrowNamesDamagedKey checks that a backup with escrow which meets an owner key that does not
// unwrap names the account, the key and what to do.
func TestEscrowNamesDamagedKey(t *testing.T) {
	d := newDamaged(t, true)
	_, err := d.backup(t).Run(ctx)
	refusal, refused := errors.AsType[*archive.Refusal](err)
	if !refused || !errors.Is(err, backup.ErrDamagedRows) || !strings.Contains(refusal.Cause, "owner key "+d.row+" of the account "+d.owner) || !strings.Contains(refusal.Next, "without escrow") {
		t.Errorf("%v; want a refusal that names %s", err, d.place)
	}
	// A version that was retired meanwhile is no damage.
	s := newSite(t, "other", newMigratedSQLite(t))
	s.claim(t)
	s.fill(t, 2, 1)
	run := s.backup(t)
	run.Peppers = retiring{s.holder, func() { s.retire(t, s.rotate(t)) }}
	if _, err := run.Run(ctx); !errors.Is(err, backup.ErrVersionsGone) {
		t.Errorf("with a version that was retired: %v; want %v", err, backup.ErrVersionsGone)
	}
}

// retiring calls a function before it reads the pepper, which a backup does before it exports keys.
type retiring struct {
	*holder
	retire func()
}

// Pepper implements backup.PepperReader.
func (r retiring) Pepper(c context.Context) (*config.Pepper, error) {
	r.retire()
	return r.holder.Pepper(c)
}

// TestRepeatedRestoreIsVerified checks that a repeated run does not report a database as restored
// whose owner keys do not unwrap.
func TestRepeatedRestoreIsVerified(t *testing.T) {
	for _, escrow := range []bool{false, true} {
		source := newSite(t, "source", newMigratedSQLite(t))
		source.claim(t)
		source.fill(t, 2, 1)
		id := source.mustBackUp(t).Manifest.ID
		target := source.another(t, newMigratedSQLite(t))
		restore := target.restore
		if escrow {
			target = newSite(t, "target", newMigratedSQLite(t))
			restore = target.fromEscrow
		}
		target.mustRestore(t, restore(source, id))
		again := target.mustRestore(t, restore(source, id))
		if !again.Before || again.Verified.Keys != 2 || again.Verified.Values == 0 {
			t.Errorf("from the escrow %t: the repeated run %+v has verified nothing", escrow, again)
		}
		target.damageKey(t, source.users[0].session.Owner)
		if again, err := restore(source, id).Run(ctx); err == nil {
			t.Errorf("from the escrow %t: %+v; want an error", escrow, again)
		}
	}
}

// TestRepeatedRestoreOfCopies repeats a restore whose identities open the archive, and only the
// copy of the escrow file: the rows that were read before the copies were chosen do not count.
func TestRepeatedRestoreOfCopies(t *testing.T) {
	source := newSite(t, "source", newMigratedSQLite(t))
	source.claim(t)
	source.fill(t, 2, 1)
	id, once := source.mustBackUp(t).Manifest.ID, newIdentity(t)
	source.rekey(t, id, once, source.to, source.identity, source.escrow)
	target := newSite(t, "target", newMigratedSQLite(t))
	for _, before := range []bool{false, true} {
		run := target.fromEscrow(source, id)
		run.Identities = []age.Identity{source.identity, once}
		if restored := target.mustRestore(t, run); restored.Before != before {
			t.Errorf("restored %+v; want Before %t", restored, before)
		}
	}
}

// TestDamagedSeedIsReplaced restores a second factor whose seed does not open. Its user logs in
// with a recovery code and removes it, after which a rotation completes.
func TestDamagedSeedIsReplaced(t *testing.T) {
	source := newSite(t, "source", newMigratedSQLite(t))
	source.claim(t)
	source.fill(t, 1, 1)
	source.database.execute(t, "UPDATE second_factors SET revision = revision + 1")
	target := newSite(t, "target", newMigratedSQLite(t))
	run := target.fromEscrow(source, source.mustBackUp(t).Manifest.ID)
	run.AcceptDamaged = true
	restored := target.mustRestore(t, run)
	if got := restored.Damaged.String(); !strings.HasPrefix(got, "1 value is damaged: second_factors.seed of row ") {
		t.Errorf("restored with %s", got)
	}
	target.adopt(t, restored)
	people, _ := target.services(t)
	u := source.users[0]
	login, err := people.Login(ctx, "192.0.2.1", accounts.Credentials{Username: u.name, Password: u.password, Code: u.recovery[0]})
	if err == nil {
		err = people.RemoveSecondFactor(ctx, login.Identity, "192.0.2.1", accounts.Reauthentication{Password: u.password, Code: u.recovery[1]})
	}
	if err != nil {
		t.Fatal(err)
	}
	target.moveTo(t)
}
