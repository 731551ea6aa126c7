//go:build bench

package storetest

import (
	"context"
	"crypto/rand"
	"testing"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/securenotes/securenotes/app/config"
	"github.com/securenotes/securenotes/app/internal/deployment"
	"github.com/securenotes/securenotes/app/internal/envelope"
	"github.com/securenotes/securenotes/app/internal/store"
	"github.com/securenotes/securenotes/app/internal/vault"
)

// What FillNotes stores.
const (
	// NotesPerOwner is how many notes an owner has.
	NotesPerOwner = 100
	// NoteSize is the size of the content of a note, in bytes.
	NoteSize = 1024
)

// FillNotes migrates the PostgreSQL database at the URI, which is that of the configuration, and
// stores notes as the service would, but without requests.
func FillNotes(t testing.TB, c *config.Config, uri string, count int) {
	t.Helper()
	ctx := context.Background()
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	db, err := store.Open(ctx, c.Database, nil, store.RoleJob)
	must(err)
	defer db.Close()
	_, err = db.Migrate(ctx)
	must(err)
	session, err := vault.NewSession(*c.Keys.Vault)
	must(err)
	keys := envelope.NewKeyring(c.Deployment.ID, envelope.NewVault(session, *c.Keys.Vault))
	peppers, err := session.Pepper(ctx)
	must(err)
	must(deployment.Claim(ctx, db, keys, c.Deployment))
	conn, err := pgx.Connect(ctx, uri)
	must(err)
	defer conn.Close(ctx)
	copyIn := func(table string, columns []string, rows [][]any) {
		t.Helper()
		_, err := conn.CopyFrom(ctx, pgx.Identifier{table}, columns, pgx.CopyFromRows(rows))
		must(err)
	}
	content := make([]byte, NoteSize)
	rand.Read(content)
	for owners := count / NotesPerOwner; owners > 0; owners -= 100 {
		var accounts, wrapped, rows [][]any
		for range min(owners, 100) {
			owner := uuid.New()
			stored, err := keys.Generate(ctx, owner.String())
			must(err)
			key, err := keys.Unwrap(ctx, stored)
			must(err)
			accounts = append(accounts, []any{owner, owner.String(), "hash", peppers.CurrentID, int64(0)})
			wrapped = append(wrapped, []any{owner, stored.ID, 1, 1, string(stored.Wrapped), "active", int64(0)})
			for range NotesPerOwner {
				id := uuid.Must(uuid.NewV7())
				sealed := key.Seal(envelope.Place{Kind: "notes", Row: id.String(), Field: "content", Revision: 1}, content)
				rows = append(rows, []any{owner, id, stored.ID, int64(1), sealed, int64(0), int64(0)})
			}
		}
		copyIn("users", []string{"id", "username", "password_hash", "pepper_id", "created_at"}, accounts)
		copyIn("owner_keys", []string{"owner", "id", "kek_version", "born_version", "wrapped", "state", "created_at"}, wrapped)
		copyIn("notes", []string{"owner", "id", "key_id", "revision", "content", "created_at", "updated_at"}, rows)
	}
	_, err = conn.Exec(ctx, "VACUUM (ANALYZE)")
	must(err)
}
