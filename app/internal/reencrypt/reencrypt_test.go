package reencrypt_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/securenotes/securenotes/app/config"
	"github.com/securenotes/securenotes/app/internal/accounts"
	"github.com/securenotes/securenotes/app/internal/deployment"
	"github.com/securenotes/securenotes/app/internal/envelope"
	"github.com/securenotes/securenotes/app/internal/envelope/envelopetest"
	"github.com/securenotes/securenotes/app/internal/notes"
	"github.com/securenotes/securenotes/app/internal/pepper"
	"github.com/securenotes/securenotes/app/internal/reencrypt"
	"github.com/securenotes/securenotes/app/internal/sessions"
	"github.com/securenotes/securenotes/app/internal/store"
	"github.com/securenotes/securenotes/app/internal/storetest"
)

var ctx = context.Background()

// world is one deployment: a database, a master key that the test rotates, and users with notes.
type world struct {
	open     storetest.Open
	db       store.Store
	keyFile  string
	provider *envelopetest.Local
	keys     *envelope.Keyring
	users    []*user
}

// user is a signed-in user with the expected content of each note.
type user struct {
	id    sessions.Identity
	notes map[string]string
	// bare users have no second factor.
	bare bool
}

func newWorld(t *testing.T, open storetest.Open, users, notesEach int) *world {
	t.Helper()
	keyFile := filepath.Join(t.TempDir(), "master.key")
	provider, err := envelopetest.OpenLocal(keyFile)
	if err != nil {
		t.Fatal(err)
	}
	db := open(t)
	w := &world{open: open, db: db, keyFile: keyFile, provider: provider, keys: deployment.GuardedKeyring("d1", provider, db)}
	if err := deployment.Claim(ctx, db, envelope.NewKeyring("d1", provider), config.Deployment{ID: "d1", Namespace: "ns", Name: "n"}); err != nil {
		t.Fatal(err)
	}
	for range users {
		u := w.addUser(t)
		for i := range notesEach {
			w.addNote(t, w.api(), u, fmt.Sprintf("note %d of %s", i, u.id.Owner))
		}
	}
	return w
}

// api returns an API process with a key cache of its own.
func (w *world) api() *notes.Service {
	return notes.NewService(w.db, envelope.NewCache(w.keys, w.db), &pepper.Key{}, notes.Usage{Notes: 1_000_000, Bytes: 1 << 40})
}

func (w *world) addUser(t testing.TB) *user {
	t.Helper()
	u, key := w.addBareUser(t)
	u.bare = false
	w.proposeSecondFactor(t, u, key)
	return u
}

// addBareUser adds a user with a key, but nothing that is sealed with it.
func (w *world) addBareUser(t testing.TB) (*user, envelope.StoredKey) {
	t.Helper()
	u := &user{bare: true, id: sessions.Identity{Owner: uuid.NewString(), Session: uuid.NewString()}, notes: map[string]string{}}
	key, err := w.keys.Generate(ctx, u.id.Owner)
	if err != nil {
		t.Fatal(err)
	}
	account := accounts.User{ID: u.id.Owner, Username: u.id.Owner, PasswordHash: "h", PepperID: "p", CreatedAt: time.Now()}
	if err := w.db.CreateUser(ctx, account, key); err != nil {
		t.Fatal(err)
	}
	w.addSession(t, account, u.id.Session, time.Now())
	w.users = append(w.users, u)
	return u, key
}

func (w *world) addSession(t testing.TB, account accounts.User, id string, began time.Time) {
	t.Helper()
	session := sessions.Session{
		Identity: sessions.Identity{Owner: account.ID, Session: id}, CreatedAt: began, ExpiresAt: time.Now().Add(time.Hour),
	}
	if err := w.db.CreateSession(ctx, session, account, accounts.Proof{}); err != nil {
		t.Fatal(err)
	}
}

// stolen signs every user in at the given time. mustBeEnded checks that none of these sessions is
// left.
func (w *world) stolen(t *testing.T, began time.Time) (mustBeEnded func()) {
	t.Helper()
	var list []sessions.Identity
	for _, u := range w.users {
		account, err := w.db.UserByName(ctx, u.id.Owner)
		if err != nil {
			t.Fatal(err)
		}
		list = append(list, sessions.Identity{Owner: u.id.Owner, Session: uuid.NewString()})
		w.addSession(t, account, list[len(list)-1].Session, began)
	}
	return func() {
		t.Helper()
		for _, id := range list {
			if _, err := w.api().List(ctx, id, "", 1); !errors.Is(err, sessions.ErrInvalid) {
				t.Errorf("a session from before the compromise: %v, want sessions.ErrInvalid", err)
			}
		}
	}
}

// attempts returns the Job, which can be run repeatedly, and a check for afterwards: after a
// Compromise, the sessions of an hour ago must be ended.
func (w *world) attempts(t *testing.T, strategy reencrypt.Strategy, to int, compromise bool) (work func() error, mustHold func()) {
	t.Helper()
	var ending time.Time
	mustHold = func() {}
	if compromise {
		ending = time.Now().Add(-time.Hour)
		mustHold = w.stolen(t, ending)
	}
	return func() error {
		job := w.job(strategy, to)
		job.EndSessions = ending
		return job.Run(ctx)
	}, mustHold
}

// seedPlace returns the place of the seed of a second factor.
func seedPlace(factor string) envelope.Place {
	return envelope.Place{Kind: "second_factors", Row: factor, Field: "seed", Revision: 1}
}

// proposeSecondFactor gives the user a sealed value in a table other than notes.
func (w *world) proposeSecondFactor(t testing.TB, u *user, stored envelope.StoredKey) {
	t.Helper()
	key, err := w.keys.Unwrap(ctx, stored)
	if err != nil {
		t.Fatal(err)
	}
	factor := accounts.SecondFactor{ID: uuid.NewString(), KeyID: key.ID(), CreatedAt: time.Now()}
	factor.Seed = key.Seal(seedPlace(factor.ID), []byte("seed of "+u.id.Owner))
	if stored, err := w.db.ProposeSecondFactor(ctx, u.id, time.Now(), factor); err != nil || !stored {
		t.Fatalf("second factor: %v, %v", stored, err)
	}
}

func (w *world) addNote(t testing.TB, api *notes.Service, u *user, content string) {
	t.Helper()
	n, err := api.Create(ctx, u.id, notes.Text{Content: content, Title: "title", Tags: []string{"a", "b"}})
	if err != nil {
		t.Error(err)
		return
	}
	u.notes[n.ID] = content
}

func (w *world) job(strategy reencrypt.Strategy, to int) *reencrypt.Job {
	whole, err := reencrypt.Shard(0, 1)
	if err != nil {
		panic(err)
	}
	return &reencrypt.Job{
		Store: w.db, Keys: w.keys, Strategy: strategy, To: to, Range: whole,
		Progress: func(int64, int64) {}, Log: slog.New(slog.DiscardHandler),
		// Nothing distinguishes the Job's sessions from users' in these tests.
		Urgent: true,
	}
}

func (w *world) verification(strategy reencrypt.Strategy, to int) *reencrypt.Verification {
	return &reencrypt.Verification{
		Store: w.db, Keys: w.keys, Strategy: strategy, To: to, Urgent: true, All: true, Progress: func(int64, int64) {},
	}
}

func (w *world) rotate(t testing.TB) int {
	t.Helper()
	to, err := w.provider.Rotate()
	if err != nil {
		t.Fatal(err)
	}
	return to
}

// mustHold checks, with an empty cache and only the newest master key version, that every note
// opens and that nothing is left over.
func (w *world) mustHold(t *testing.T, strategy reencrypt.Strategy, to int) {
	t.Helper()
	report, err := w.verification(strategy, to).Run(ctx)
	if err != nil {
		t.Fatalf("verify: %v", err)
	}
	if report.Keys != int64(len(w.users)) {
		t.Errorf("%d owner keys for %d users: some are left over", report.Keys, len(w.users))
	}
	if err := w.provider.Retire(to); err != nil {
		t.Fatal(err)
	}
	api := w.api()
	for _, u := range w.users {
		for id, want := range u.notes {
			n, err := api.Get(ctx, u.id, id)
			if err != nil || n.Content != want || n.Title != "title" || len(n.Tags) != 2 {
				t.Errorf("note %s: %+v, %v; want %q", id, n, err, want)
			}
		}
		if !u.bare {
			w.mustHaveSecondFactor(t, u)
		}
		list, err := api.List(ctx, u.id, "", 1000)
		if err != nil || len(list) != len(u.notes) {
			t.Errorf("%d notes listed, %v; want %d", len(list), err, len(u.notes))
		}
	}
}

func (w *world) mustHaveSecondFactor(t *testing.T, u *user) {
	t.Helper()
	factor, stored, err := w.db.SecondFactor(ctx, u.id.Owner)
	if err != nil {
		t.Fatal(err)
	}
	key, err := w.keys.Unwrap(ctx, stored)
	if err != nil {
		t.Fatal(err)
	}
	if seed, err := key.Open(seedPlace(factor.ID), factor.Seed); err != nil || string(seed) != "seed of "+u.id.Owner {
		t.Errorf("second factor: %q, %v", seed, err)
	}
}

func eachStrategy(t *testing.T, test func(t *testing.T, open storetest.Open, strategy reencrypt.Strategy)) {
	for _, strategy := range []reencrypt.Strategy{reencrypt.Reencrypt, reencrypt.Rewrap} {
		t.Run(string(strategy), func(t *testing.T) {
			storetest.Each(t, func(t *testing.T, open storetest.Open) { test(t, open, strategy) })
		})
	}
}

func TestRotation(t *testing.T) {
	eachStrategy(t, func(t *testing.T, open storetest.Open, strategy reencrypt.Strategy) {
		w := newWorld(t, open, 3, 130) // more than one batch for each user
		warm := w.api()
		for _, u := range w.users {
			w.addNote(t, warm, u, "warms the cache")
		}
		to := w.rotate(t)
		if _, err := w.verification(strategy, to).Run(ctx); !errors.Is(err, reencrypt.ErrStaleRows) {
			t.Fatalf("verified before the work: %v", err)
		}
		job := w.job(strategy, to)
		var done, total int64
		job.Progress = func(d, t int64) { done, total = d, t }
		if err := job.Run(ctx); err != nil {
			t.Fatal(err)
		}
		// Each user has 131 notes and a second factor.
		if done != 3*132 || total != done {
			t.Errorf("progress ended at %d of %d, want %d", done, total, 3*132)
		}
		// An API process with a cache from before the rotation continues without a restart.
		for _, u := range w.users {
			w.addNote(t, warm, u, "written by a stale process")
		}
		w.mustHold(t, strategy, to)
		if err := w.job(strategy, to).Run(ctx); err != nil {
			t.Errorf("a second run: %v", err)
		}
	})
}

// failingProvider fails the n-th call.
type failingProvider struct {
	envelope.KeyProvider
	failAt int32
	calls  atomic.Int32
}

var errInjected = errors.New("injected")

func (p *failingProvider) fail() error {
	if p.calls.Add(1) == p.failAt {
		return errInjected
	}
	return nil
}

func (p *failingProvider) Wrap(ctx context.Context, items []envelope.RawItem) ([]envelope.WrapResult, error) {
	if err := p.fail(); err != nil {
		return nil, err
	}
	return p.KeyProvider.Wrap(ctx, items)
}

func (p *failingProvider) Unwrap(ctx context.Context, items []envelope.WrappedItem) ([]envelope.UnwrapResult, error) {
	if err := p.fail(); err != nil {
		return nil, err
	}
	return p.KeyProvider.Unwrap(ctx, items)
}

func (p *failingProvider) Rewrap(ctx context.Context, items []envelope.WrappedItem) ([]envelope.WrapResult, error) {
	if err := p.fail(); err != nil {
		return nil, err
	}
	return p.KeyProvider.Rewrap(ctx, items)
}

// TestRotationSurvivesAFailureAtEveryKeyCall stops the Job at each call of the key provider in
// turn, which lies between every two writes for an owner, and runs it again.
func TestRotationSurvivesAFailureAtEveryKeyCall(t *testing.T) {
	eachStrategy(t, func(t *testing.T, open storetest.Open, strategy reencrypt.Strategy) {
		w := newWorld(t, open, 3, 3)
		failed := 0
		for failAt := int32(1); ; failAt++ {
			to := w.rotate(t)
			job := w.job(strategy, to)
			job.Keys = deployment.GuardedKeyring("d1", &failingProvider{KeyProvider: w.provider, failAt: failAt}, w.db)
			err := job.Run(ctx)
			if err == nil {
				break // past the last call
			}
			if !errors.Is(err, errInjected) {
				t.Fatalf("call %d: %v", failAt, err)
			}
			failed++
			if err := w.job(strategy, to).Run(ctx); err != nil {
				t.Fatalf("after a failure at call %d: %v", failAt, err)
			}
			w.mustHold(t, strategy, to)
		}
		if failed < 3 {
			t.Errorf("only %d failures were injected", failed)
		}
	})
}

// TestRotationWhileUsersWrite runs two Jobs of the same shard at the same time, while writers with
// their own caches create, change and delete notes.
func TestRotationWhileUsersWrite(t *testing.T) {
	eachStrategy(t, func(t *testing.T, open storetest.Open, strategy reencrypt.Strategy) {
		w := newWorld(t, open, 4, 20)
		stop := make(chan struct{})
		var writers sync.WaitGroup
		for _, u := range w.users {
			api := w.api()
			writers.Go(func() {
				for i := 0; ; i++ {
					select {
					case <-stop:
						return
					default:
					}
					w.addNote(t, api, u, fmt.Sprintf("note %d during the rotation", i))
					for id := range u.notes {
						change(t, api, u, id, i)
						break
					}
				}
			})
		}
		to := 0
		for range 3 {
			to = w.rotate(t)
			var jobs sync.WaitGroup
			for range 2 {
				jobs.Go(func() {
					if err := w.job(strategy, to).Run(ctx); err != nil {
						t.Errorf("to %d: %v", to, err)
					}
				})
			}
			jobs.Wait()
		}
		close(stop)
		writers.Wait()
		w.mustHold(t, strategy, to)
	})
}

// change updates the note, or deletes it every third time.
func change(t testing.TB, api *notes.Service, u *user, id string, i int) {
	if i%3 == 0 {
		if err := api.Delete(ctx, u.id, id, 0); err != nil {
			t.Errorf("delete: %v", err)
		}
		delete(u.notes, id)
		return
	}
	content := fmt.Sprintf("changed %d", i)
	if _, err := api.Update(ctx, u.id, id, 0, notes.Text{Content: content, Title: "title", Tags: []string{"x", "y"}}); err != nil {
		t.Errorf("update: %v", err)
		return
	}
	u.notes[id] = content
}

func TestOlderRotationStops(t *testing.T) {
	eachStrategy(t, func(t *testing.T, open storetest.Open, strategy reencrypt.Strategy) {
		w := newWorld(t, open, 1, 1)
		older, newer := w.rotate(t), w.rotate(t)
		if err := w.job(strategy, newer).Run(ctx); err != nil {
			t.Fatal(err)
		}
		if err := w.job(strategy, older).Run(ctx); !errors.Is(err, store.ErrSuperseded) {
			t.Errorf("the older rotation: %v, want ErrSuperseded", err)
		}
		w.mustHold(t, strategy, newer)
	})
}

// TestSessionsEnd checks that sessions from before a compromise end, and no later one, however
// often the Job runs.
func TestSessionsEnd(t *testing.T) {
	storetest.Each(t, func(t *testing.T, open storetest.Open) {
		w := newWorld(t, open, 3, 1)
		began := time.Now().Add(-time.Hour)
		mustBeEnded := w.stolen(t, began)
		to := w.rotate(t)
		for range 2 {
			job := w.job(reencrypt.Reencrypt, to)
			job.EndSessions = began
			if err := job.Run(ctx); err != nil {
				t.Fatal(err)
			}
		}
		mustBeEnded()
		w.mustHold(t, reencrypt.Reencrypt, to) // with the later sessions
	})
}

func TestShardsCoverEveryOwnerOnce(t *testing.T) {
	storetest.Each(t, func(t *testing.T, open storetest.Open) {
		w := newWorld(t, open, 12, 1)
		to := w.rotate(t)
		const shards = 5
		var sum int64
		for i := range shards {
			job := w.job(reencrypt.Reencrypt, to)
			owners, err := reencrypt.Shard(i, shards)
			if err != nil {
				t.Fatal(err)
			}
			var done int64
			job.Range = owners
			job.Progress = func(d, _ int64) { done = d }
			if err := job.Run(ctx); err != nil {
				t.Fatal(err)
			}
			sum += done
		}
		if sum != 2*12 {
			t.Errorf("%d rows were done, want a note and a second factor of each of 12 users", sum)
		}
		w.mustHold(t, reencrypt.Reencrypt, to)
	})
}

func TestRewrappedKeysAreStaleForReencrypt(t *testing.T) {
	storetest.Each(t, func(t *testing.T, open storetest.Open) {
		w := newWorld(t, open, 1, 1)
		to := w.rotate(t)
		if err := w.job(reencrypt.Rewrap, to).Run(ctx); err != nil {
			t.Fatal(err)
		}
		if _, err := w.verification(reencrypt.Reencrypt, to).Run(ctx); !errors.Is(err, reencrypt.ErrStaleRows) {
			t.Errorf("Rewrap keeps the keys, but the verification of Reencrypt returned %v", err)
		}
	})
}

// damage changes a value in one of the owner's rows and returns its table and key.
func (w *world) damage(t *testing.T, to int, owner string) (table store.SealedTable, keyID string) {
	t.Helper()
	return w.change(t, to, owner, func(rows []store.SealedRow) []store.SealedRow {
		rows[0].Values[0][20] ^= 1
		return rows[:1]
	})
}

// change writes the rows of the owner in the first table that damage returns.
func (w *world) change(t *testing.T, to int, owner string, damage func([]store.SealedRow) []store.SealedRow) (table store.SealedTable, keyID string) {
	t.Helper()
	tables, _, err := w.db.SealedColumns(ctx)
	if err != nil {
		t.Fatal(err)
	}
	keys, err := w.db.OwnersKeys(ctx, []string{owner}, nil)
	if err != nil || len(keys) != 1 {
		t.Fatalf("%d keys, %v", len(keys), err)
	}
	key := keys[0].ID
	rows, _, err := w.db.SealedRows(ctx, tables[0], owner, key, "", 1000)
	if err != nil || len(rows) == 0 {
		t.Fatalf("%d rows, %v", len(rows), err)
	}
	changed := damage(rows)
	if written, err := w.db.ReplaceSealed(ctx, to, tables[0], owner, key, key, changed); err != nil || written != int64(len(changed)) {
		t.Fatalf("%d rows written, %v", written, err)
	}
	return tables[0], key
}

// TestVerificationFindsDamage checks that opening values finds damage that the counts cannot see.
func TestVerificationFindsDamage(t *testing.T) {
	storetest.Each(t, func(t *testing.T, open storetest.Open) {
		w := newWorld(t, open, 2, 1)
		to := w.rotate(t)
		if err := w.job(reencrypt.Reencrypt, to).Run(ctx); err != nil {
			t.Fatal(err)
		}
		w.damage(t, to, w.users[0].id.Owner)
		if _, err := w.verification(reencrypt.Reencrypt, to).Run(ctx); !errors.Is(err, envelope.ErrNotAuthentic) {
			t.Errorf("error %v, want ErrNotAuthentic", err)
		}
	})
}

func TestAnotherDeploymentOrKeyIsRefused(t *testing.T) {
	storetest.Each(t, func(t *testing.T, open storetest.Open) {
		w := newWorld(t, open, 0, 0)
		if err := deployment.Check(ctx, w.db, w.keys, config.Deployment{ID: "d2"}); !errors.Is(err, deployment.ErrOtherDeployment) {
			t.Errorf("another deployment: %v", err)
		}
		other, err := envelope.OpenLocal(filepath.Join(t.TempDir(), "other.key"))
		if err != nil {
			t.Fatal(err)
		}
		err = deployment.Check(ctx, w.db, envelope.NewKeyring("d1", other), config.Deployment{ID: "d1"})
		if !errors.Is(err, deployment.ErrWrongKey) {
			t.Errorf("another master key: %v", err)
		}
		guarded := func(provider envelope.KeyProvider) *envelope.Keyring {
			return deployment.GuardedKeyring("d1", provider, w.db)
		}
		if _, err := guarded(other).Generate(ctx, uuid.NewString()); !errors.Is(err, deployment.ErrWrongKey) {
			t.Errorf("a new owner key under another master key: %v", err)
		}
		if _, err := guarded(w.provider).Generate(ctx, uuid.NewString()); err != nil {
			t.Errorf("a new owner key under the right master key: %v", err)
		}
		to := w.rotate(t)
		if err := w.provider.Retire(to); err != nil {
			t.Fatal(err)
		}
		if err := deployment.Check(ctx, w.db, w.keys, config.Deployment{ID: "d1"}); !errors.Is(err, deployment.ErrWrongKey) {
			t.Errorf("a database from before the retired version: %v", err)
		}
	})
}

// TestDamageHoldsUpNobodyElse checks that a note that does not open keeps its key, that everything
// else moves, and that the Job's error names what is damaged.
func TestDamageHoldsUpNobodyElse(t *testing.T) {
	storetest.Each(t, func(t *testing.T, open storetest.Open) {
		w := newWorld(t, open, 5, 3)
		to := w.rotate(t)
		if err := w.job(reencrypt.Reencrypt, to).Run(ctx); err != nil {
			t.Fatal(err)
		}
		owner := slices.MinFunc(w.users, func(a, b *user) int { return strings.Compare(a.id.Owner, b.id.Owner) }).id.Owner
		table, key := w.damage(t, to, owner)
		to = w.rotate(t)
		if err := w.job(reencrypt.Reencrypt, to).Run(ctx); !errors.Is(err, envelope.ErrNotAuthentic) || !strings.Contains(err.Error(), owner) {
			t.Errorf("error %v, want ErrNotAuthentic of owner %s", err, owner)
		}
		if stale, err := w.db.CountStaleKeys(ctx, store.StaleByCreation, to); stale != 1 || err != nil {
			t.Errorf("%d stale keys, %v; want the damaged note's alone", stale, err)
		}
		left, _, err := w.db.SealedRows(ctx, table, owner, key, "", 10)
		if err != nil || len(left) != 1 {
			t.Errorf("%d notes left behind, %v; want 1", len(left), err)
		}
	})
}
