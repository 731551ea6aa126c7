package store_test

import (
	"errors"
	"log/slog"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/uuid"

	"github.com/securenotes/securenotes/app/config"
	"github.com/securenotes/securenotes/app/internal/accounts"
	"github.com/securenotes/securenotes/app/internal/deployment"
	"github.com/securenotes/securenotes/app/internal/envelope"
	"github.com/securenotes/securenotes/app/internal/envelope/envelopetest"
	"github.com/securenotes/securenotes/app/internal/reencrypt"
	"github.com/securenotes/securenotes/app/internal/sessions"
	"github.com/securenotes/securenotes/app/internal/store"
	"github.com/securenotes/securenotes/app/internal/storetest"
)

// TestLaterColumnsAreRotated simulates a future migration that adds a sealed column, a table of
// sealed values without a foreign key, and a column of wrapped keys. A rotation must handle all of
// them without knowing them.
func TestLaterColumnsAreRotated(t *testing.T) {
	storetest.Each(t, func(t *testing.T, open storetest.Open) {
		db := open(t)
		execute := func(statement string, args ...any) {
			t.Helper()
			if err := store.Internals(db).Execute(ctx, statement, args...); err != nil {
				t.Fatal(err)
			}
		}
		provider, err := envelopetest.OpenLocal(filepath.Join(t.TempDir(), "master.key"))
		if err != nil {
			t.Fatal(err)
		}
		if err := deployment.Claim(ctx, db, envelope.NewKeyring("d1", provider), config.Deployment{ID: "d1", Namespace: "ns", Name: "n"}); err != nil {
			t.Fatal(err)
		}
		keys := deployment.GuardedKeyring("d1", provider, db)
		id := sessions.Identity{Owner: uuid.NewString(), Session: uuid.NewString()}
		old, err := keys.Generate(ctx, id.Owner)
		if err != nil {
			t.Fatal(err)
		}
		user := accounts.User{ID: id.Owner, Username: "alice", PasswordHash: "hash", PepperID: "pepper", CreatedAt: now}
		if err := db.CreateUser(ctx, user, old); err != nil {
			t.Fatal(err)
		}
		key, err := keys.Unwrap(ctx, old)
		if err != nil {
			t.Fatal(err)
		}

		execute("ALTER TABLE notes ADD COLUMN summary sealed_blob")
		execute("CREATE TABLE drawings (owner uuid, id uuid, key_id text, revision bigint, picture sealed_blob, PRIMARY KEY (owner, id))")
		execute("ALTER TABLE users ADD COLUMN device_key wrapped_text")
		note, drawing := uuid.NewString(), uuid.NewString()
		place := func(kind, row, field string) envelope.Place {
			return envelope.Place{Kind: kind, Row: row, Field: field, Revision: 1}
		}
		execute("INSERT INTO notes (owner, id, key_id, revision, content, summary, created_at, updated_at) VALUES ($1, $2, $3, 1, $4, $5, 0, 0)",
			id.Owner, note, old.ID, key.Seal(place("notes", note, "content"), []byte("content")), key.Seal(place("notes", note, "summary"), []byte("summary")))
		execute("INSERT INTO drawings VALUES ($1, $2, $3, 1, $4)", id.Owner, drawing, old.ID, key.Seal(place("drawings", drawing, "picture"), []byte("picture")))

		to, err := provider.Rotate()
		if err != nil {
			t.Fatal(err)
		}
		whole, err := reencrypt.Shard(0, 1)
		if err != nil {
			t.Fatal(err)
		}
		job := reencrypt.Job{
			Store: db, Keys: keys, Strategy: reencrypt.Reencrypt, To: to, Range: whole, Urgent: true,
			Progress: func(int64, int64) {}, Log: slog.New(slog.DiscardHandler),
		}
		if err := job.Run(ctx); err != nil {
			t.Fatal(err)
		}
		if err := provider.Retire(to); err != nil {
			t.Fatal(err)
		}
		verify := func() (reencrypt.Report, error) {
			v := reencrypt.Verification{Store: db, Keys: keys, Strategy: reencrypt.Reencrypt, To: to, All: true, Urgent: true, Progress: func(int64, int64) {}}
			return v.Run(ctx)
		}
		if report, err := verify(); err != nil || report != (reencrypt.Report{Keys: 1, Values: 3}) {
			t.Fatalf("%+v, %v; want one key, and content, summary and picture under it", report, err)
		}

		execute("UPDATE users SET device_key = $1", string(old.Wrapped))
		if _, err := verify(); !errors.Is(err, reencrypt.ErrStaleRows) || !strings.Contains(err.Error(), "users.device_key") {
			t.Errorf("an old wrapped key: %v", err)
		}
		execute("UPDATE users SET device_key = NULL")
		execute("INSERT INTO drawings VALUES ($1, $2, $3, 1, $4)", id.Owner, uuid.NewString(), old.ID, sealedBytes(1))
		if _, err := verify(); !errors.Is(err, reencrypt.ErrStaleRows) || !strings.Contains(err.Error(), "drawings") {
			t.Errorf("a drawing whose key does not exist: %v", err)
		}
	})
}

// TestSealedTableSaysWithWhichKey checks that a table with sealed values but without the columns
// that name their key is an error instead of being ignored.
func TestSealedTableSaysWithWhichKey(t *testing.T) {
	storetest.Each(t, func(t *testing.T, open storetest.Open) {
		db := open(t)
		if err := store.Internals(db).Execute(ctx, "CREATE TABLE drawings (owner uuid, id uuid, picture sealed_blob, PRIMARY KEY (owner, id))"); err != nil {
			t.Fatal(err)
		}
		if _, _, err := db.SealedColumns(ctx); err == nil || !strings.Contains(err.Error(), "table drawings has sealed values but no column key_id") {
			t.Errorf("error %v", err)
		}
	})
}
