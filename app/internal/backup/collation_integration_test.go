//go:build integration

package backup_test

import (
	"bytes"
	"fmt"
	"strings"
	"testing"

	"filippo.io/age"

	"github.com/securenotes/securenotes/app/internal/backup"
	"github.com/securenotes/securenotes/app/internal/envelope"
	"github.com/securenotes/securenotes/hack/testenv"
)

// TestBackupOfACollation verifies and restores a backup of a database whose collation orders the
// ids of keys in another way than bytes: in Estonian, z comes before t.
func TestBackupOfACollation(t *testing.T) {
	server := testenv.SharedPostgres(t)
	server.Execute(t, "CREATE DATABASE estonian TEMPLATE template0 LOCALE_PROVIDER icu ICU_LOCALE 'et' ENCODING 'UTF8'")
	s := newSite(t, "source", postgres(t, server, server.URI("estonian")))
	s.claim(t)
	s.fill(t, 1, 1)
	for _, letter := range []string{"z", "t", "a"} {
		key := envelope.RawKey{Owner: s.users[0].session.Owner, ID: strings.Repeat(letter, 26), Raw: bytes.Repeat([]byte{7}, 32)}
		stored, err := s.keys().Import(ctx, []envelope.RawKey{key})
		if err != nil {
			t.Fatal(err)
		}
		s.database.execute(t, fmt.Sprintf(`INSERT INTO owner_keys (owner, id, kek_version, born_version, wrapped, state, created_at)
			VALUES ('%s', '%s', 1, 1, '%s', 'retiring', 0)`, key.Owner, key.ID, stored[0].Wrapped))
	}
	made := s.mustBackUp(t)
	verification := &backup.Verification{Source: s.to, ID: made.Manifest.ID, PublicKeys: s.publicKeys(), Identities: []age.Identity{s.identity, s.escrow}, Phase: quiet}
	if verified, err := verification.Run(ctx); err != nil || !verified.EscrowOpened {
		t.Errorf("verify: %v", err)
	}
	target := newSite(t, "target", newMigratedSQLite(t))
	target.mustRestore(t, target.fromEscrow(s, made.Manifest.ID))
}
