package backup_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"filippo.io/age"
	"github.com/pquerna/otp/totp"
	"golang.org/x/crypto/bcrypt"

	"github.com/securenotes/securenotes/app/config"
	"github.com/securenotes/securenotes/app/internal/accounts"
	"github.com/securenotes/securenotes/app/internal/backup"
	"github.com/securenotes/securenotes/app/internal/backup/destination"
	"github.com/securenotes/securenotes/app/internal/deployment"
	"github.com/securenotes/securenotes/app/internal/envelope"
	"github.com/securenotes/securenotes/app/internal/notes"
	"github.com/securenotes/securenotes/app/internal/pepper"
	"github.com/securenotes/securenotes/app/internal/ratelimit"
	"github.com/securenotes/securenotes/app/internal/reencrypt"
	"github.com/securenotes/securenotes/app/internal/sessions"
	"github.com/securenotes/securenotes/app/internal/store"
)

var ctx = context.Background()

// site is a deployment: its database, its keys and where its backups are.
type site struct {
	*holder
	database   *database
	db         store.Store
	deployment config.Deployment
	directory  string
	to         destination.Destination
	identity   *age.X25519Identity
	escrow     *age.X25519Identity
	users      []*user
}

// user is an account and what must be readable after a restore.
type user struct {
	name, password string
	session        sessions.Identity
	// recovery are unused recovery codes.
	recovery []string
	notes    map[string]notes.Text
}

func newIdentity(t testing.TB) *age.X25519Identity {
	t.Helper()
	identity, err := age.GenerateX25519Identity()
	if err != nil {
		t.Fatal(err)
	}
	return identity
}

// newSite returns a deployment with an empty, unclaimed database.
func newSite(t testing.TB, name string, d *database) *site {
	t.Helper()
	s := &site{
		holder: newHolder(t, name), database: d, deployment: config.Deployment{ID: "id-of-" + name, Namespace: "ns", Name: name},
		directory: t.TempDir(), identity: newIdentity(t), escrow: newIdentity(t),
	}
	s.to = directory(t, s.directory)
	s.db = d.open(t)
	return s
}

func directory(t testing.TB, path string) destination.Destination {
	t.Helper()
	d, err := destination.New(config.Destination{Directory: &config.Directory{Path: path}})
	if err != nil {
		t.Fatal(err)
	}
	return d
}

// claim migrates and claims the database.
func (s *site) claim(t testing.TB) {
	t.Helper()
	if _, err := s.db.Migrate(ctx); err != nil {
		t.Fatal(err)
	}
	if err := deployment.Claim(ctx, s.db, s.keys(), s.deployment); err != nil {
		t.Fatal(err)
	}
	if err := deployment.CheckPepper(ctx, s.db, s.peppers[s.entry]); err != nil {
		t.Fatal(err)
	}
}

func (s *site) keys() *envelope.Keyring { return envelope.NewKeyring(s.deployment.ID, s.master) }

// services returns the service's domain, with an empty cache, as a new pod has it.
func (s *site) services(t testing.TB) (*accounts.Service, *notes.Service) {
	t.Helper()
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	p := s.peppers[s.entry]
	must(deployment.Check(ctx, s.db, s.keys(), s.deployment))
	must(deployment.CheckPepper(ctx, s.db, p))
	hasher, err := accounts.NewHasher(s.deployment.ID, bcrypt.MinCost, p)
	must(err)
	usernames, err := pepper.NewKey(s.deployment.ID, p, pepper.Usernames)
	must(err)
	requests, err := pepper.NewKey(s.deployment.ID, p, pepper.Requests)
	must(err)
	counters, _, err := ratelimit.OpenStore(config.RateLimits{Memory: &config.Memory{}}, s.deployment.ID, s.db.Limits())
	must(err)
	cache := envelope.NewCache(deployment.GuardedKeyring(s.deployment.ID, s.master, s.db), s.db)
	logins := ratelimit.NewLogins(counters, ratelimit.Rates{FailedLogins: 1000, Registrations: 1_000_000})
	return accounts.NewService(s.db, cache, hasher, usernames, logins, accounts.Options{
		RegistrationOpen: true, MinPassword: 8, TokenTTL: time.Hour, MaxAccounts: 1_000_000, Log: slog.New(slog.DiscardHandler), Now: time.Now,
	}), notes.NewService(s.db, cache, requests, notes.Usage{Notes: 1_000_000, Bytes: 1 << 40})
}

// fill adds users with notes. Every other one has a second factor.
func (s *site) fill(t testing.TB, users, notesEach int) {
	t.Helper()
	people, texts := s.services(t)
	for i := len(s.users); users > 0; i, users = i+1, users-1 {
		u := &user{name: fmt.Sprintf("user-%d", i), password: fmt.Sprintf("the password of %d", i), notes: map[string]notes.Text{}}
		if err := people.Register(ctx, "192.0.2.1", u.name, u.password); err != nil {
			t.Fatal(err)
		}
		login, err := people.Login(ctx, "192.0.2.1", accounts.Credentials{Username: u.name, Password: u.password})
		if err != nil {
			t.Fatal(err)
		}
		u.session = login.Identity
		if i%2 == 0 {
			u.confirm(t, people)
		}
		for j := range notesEach {
			text := notes.Text{Content: fmt.Sprintf("note %d of %s", j, u.name), Title: "a title", Tags: []string{"a", "b"}}
			note, err := texts.Create(ctx, u.session, text)
			if err != nil {
				t.Fatal(err)
			}
			u.notes[note.ID] = text
		}
		s.users = append(s.users, u)
	}
	if _, _, err := texts.CreateIdempotent(ctx, s.users[0].session, "a key of the client", notes.Text{Content: "created once"}); err != nil {
		t.Fatal(err)
	}
	all, err := texts.List(ctx, s.users[0].session, "", 1)
	if err != nil {
		t.Fatal(err)
	}
	s.users[0].notes[all[0].ID] = notes.Text{Content: "created once"}
}

// confirm gives the user a second factor.
func (u *user) confirm(t testing.TB, people *accounts.Service) {
	t.Helper()
	proposed, err := people.ProposeSecondFactor(ctx, u.session, "192.0.2.1", u.password)
	if err != nil {
		t.Fatal(err)
	}
	code, err := totp.GenerateCode(proposed.Secret, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	if u.recovery, err = people.ConfirmSecondFactor(ctx, u.session, "192.0.2.1", code); err != nil {
		t.Fatal(err)
	}
}

// backup returns a run that backs the site up.
func (s *site) backup(t testing.TB) *backup.Backup {
	t.Helper()
	return &backup.Backup{
		Store: s.db, Destination: s.to, Signer: s.holder, MasterKey: s.name, Versions: s.holder, Keys: s.keys(), Peppers: s.holder,
		Deployment: s.deployment, Program: "v0.0.0-test", Phase: quiet, Now: time.Now, Log: slog.New(slog.DiscardHandler),
		Settings: config.Backup{
			SecureNotesUID: "uid-of-" + s.name, Recipients: []string{s.identity.Recipient().String()},
			Escrow: &config.Escrow{Recipients: []string{s.escrow.Recipient().String()}},
		},
	}
}

func (s *site) mustBackUp(t testing.TB) *backup.Made {
	t.Helper()
	made, err := s.backup(t).Run(ctx)
	if err != nil {
		t.Fatal(err)
	}
	return made
}

// restore returns a run that restores a backup of the source into this site.
func (s *site) restore(from *site, id string) *backup.Restore {
	return &backup.Restore{
		Target: s.db, TargetName: "the database of " + s.name, Source: from.to, ID: id, Living: s.holder, Identities: []age.Identity{from.identity},
		Provider: s.master, MasterKey: s.name, Peppers: s.holder, NewPeppers: s.holder,
		Deployment: s.deployment, Phase: quiet, Log: slog.New(slog.DiscardHandler),
	}
}

// fromEscrow is restore with the escrow and the public keys that were kept.
func (s *site) fromEscrow(from *site, id string) *backup.Restore {
	r := s.restore(from, id)
	r.FromEscrow, r.PublicKeys = true, from.publicKeys()
	r.Identities = append(r.Identities, from.escrow)
	return r
}

// quiet shows no progress.
func quiet(ctx context.Context, _ string, work func(context.Context, backup.Report) error) error {
	return work(ctx, func(int64, int64) {})
}

// another returns the same deployment with another database and without users, as after the loss of
// the first.
func (s *site) another(t testing.TB, d *database) *site {
	t.Helper()
	other := *s
	other.database, other.db, other.users = d, d.open(t), nil
	return &other
}

// adopt configures the site as a restore from an escrow says.
func (s *site) adopt(t testing.TB, restored *backup.Restored) {
	t.Helper()
	s.deployment.ID = restored.Manifest.Deployment.ID
	if !restored.FromEscrow {
		return
	}
	s.entry = restored.PepperEntry
	if digest, err := s.peppers[s.entry].Digest(); err != nil || digest != restored.PepperDigest {
		t.Fatalf("the new pepper has digest %s, %v; want %s", digest, err, restored.PepperDigest)
	}
}

// mustHave checks that the site has the users of another, as they were: every password and note,
// and no session.
func (s *site) mustHave(t testing.TB, users []*user) {
	t.Helper()
	people, texts := s.services(t)
	for _, u := range users {
		if _, err := texts.List(ctx, u.session, "", 1); !errors.Is(err, sessions.ErrInvalid) {
			t.Errorf("the old session of %s: %v, want sessions.ErrInvalid", u.name, err)
		}
		if _, err := people.Login(ctx, "192.0.2.1", accounts.Credentials{Username: u.name, Password: "a wrong password"}); !errors.Is(err, accounts.ErrInvalidCredentials) {
			t.Errorf("a wrong password of %s: %v", u.name, err)
		}
		credentials := accounts.Credentials{Username: u.name, Password: u.password}
		if len(u.recovery) > 0 {
			if _, err := people.Login(ctx, "192.0.2.1", credentials); !errors.Is(err, accounts.ErrCodeRequired) {
				t.Errorf("%s without the second factor: %v", u.name, err)
			}
			credentials.Code = u.recovery[0]
			u.recovery = u.recovery[1:]
		}
		login, err := people.Login(ctx, "192.0.2.1", credentials)
		if err != nil {
			t.Errorf("login of %s: %v", u.name, err)
			continue
		}
		got := map[string]notes.Text{}
		if err := texts.Export(ctx, login.Identity, time.Minute, func(page []notes.Note) error {
			for _, note := range page {
				got[note.ID] = note.Text
			}
			return nil
		}); err != nil {
			t.Errorf("the notes of %s: %v", u.name, err)
		}
		if len(got) != len(u.notes) {
			t.Errorf("%s has %d notes, want %d", u.name, len(got), len(u.notes))
		}
		for id, want := range u.notes {
			if g := got[id]; g.Content != want.Content || g.Title != want.Title || !slices.Equal(g.Tags, want.Tags) {
				t.Errorf("note %s of %s is %+v, want %+v", id, u.name, g, want)
			}
		}
		if _, err := texts.Create(ctx, login.Identity, notes.Text{Content: "after the restore"}); err != nil {
			t.Errorf("a new note of %s: %v", u.name, err)
		}
	}
}

// moveTo rotates the master key and moves everything to the new version, which it returns.
func (s *site) moveTo(t testing.TB) int {
	t.Helper()
	to := s.rotate(t)
	if err := s.reencryptJob(t, to).Run(ctx); err != nil {
		t.Fatal(err)
	}
	s.retire(t, to)
	return to
}

// reencryptJob returns the Job of a rotation to a version.
func (s *site) reencryptJob(t testing.TB, to int) *reencrypt.Job {
	t.Helper()
	owners, err := reencrypt.Shard(0, 1)
	if err != nil {
		t.Fatal(err)
	}
	return &reencrypt.Job{
		Range: owners,
		Store: s.db, Keys: deployment.GuardedKeyring(s.deployment.ID, s.master, s.db), Strategy: reencrypt.Reencrypt, To: to, Urgent: true,
		Progress: func(int64, int64) {}, Log: slog.New(slog.DiscardHandler),
	}
}

// readFile returns a file of the site's backups.
func (s *site) readFile(t testing.TB, name string) []byte {
	t.Helper()
	raw, err := os.ReadFile(filepath.Join(s.directory, name))
	if err != nil {
		t.Fatal(err)
	}
	return raw
}

// writeFile replaces a file of the site's backups.
func (s *site) writeFile(t testing.TB, name string, raw []byte) {
	t.Helper()
	if err := os.WriteFile(filepath.Join(s.directory, name), raw, 0o600); err != nil {
		t.Fatal(err)
	}
}
