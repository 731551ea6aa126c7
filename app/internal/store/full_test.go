package store

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/securenotes/securenotes/app/config"
	"github.com/securenotes/securenotes/app/internal/accounts"
	"github.com/securenotes/securenotes/app/internal/envelope"
	"github.com/securenotes/securenotes/app/internal/notes"
	"github.com/securenotes/securenotes/app/internal/sessions"
)

// TestFullDisk checks that SQLite's error for a full disk is an outage and not a loss: acknowledged
// notes exist, rejected ones do not, and writes succeed without a restart once there is space.
func TestFullDisk(t *testing.T) {
	ctx := context.Background()
	opened, err := Open(ctx, config.Database{SQLite: &config.SQLite{Path: filepath.Join(t.TempDir(), "notes.db")}}, nil, RoleAPI)
	if err != nil {
		t.Fatal(err)
	}
	s := opened.(*sqliteStore)
	defer s.Close()
	s.db.SetMaxOpenConns(1) // the limit below applies to one connection
	if _, err := s.Migrate(ctx); err != nil {
		t.Fatal(err)
	}
	now := time.Now()
	id := sessions.Identity{Owner: uuid.NewString(), Session: uuid.NewString()}
	key := envelope.StoredKey{Owner: id.Owner, ID: envelope.NewID(), Wrapped: "vault:v1:QUJD"}
	user := accounts.User{ID: id.Owner, Username: "alice", PasswordHash: "h", PepperID: "p", CreatedAt: now}
	if err := s.CreateUser(ctx, user, key); err != nil {
		t.Fatal(err)
	}
	if err := s.CreateSession(ctx, sessions.Session{Identity: id, CreatedAt: now, ExpiresAt: now.Add(time.Hour)}, user, accounts.Proof{}); err != nil {
		t.Fatal(err)
	}
	pages := func(limit int) {
		t.Helper()
		var set int
		if err := s.row(ctx, fmt.Sprintf("PRAGMA max_page_count = %d", limit), nil, &set); err != nil {
			t.Fatal(err)
		}
	}
	note := func() notes.Sealed {
		return notes.Sealed{ID: uuid.Must(uuid.NewV7()).String(), KeyID: key.ID, Revision: 1, Content: append([]byte{1}, make([]byte, 20_000)...), CreatedAt: now, UpdatedAt: now}
	}
	var used int
	if err := s.row(ctx, "PRAGMA page_count", nil, &used); err != nil {
		t.Fatal(err)
	}
	pages(used + 30)
	var stored []string
	var refused notes.Sealed
	for range 100 {
		n := note()
		if err = s.CreateNote(ctx, id, now, n); err != nil {
			refused = n
			break
		}
		stored = append(stored, n.ID)
	}
	if !errors.Is(err, ErrUnavailable) || len(stored) == 0 {
		t.Fatalf("after %d notes: %v, want ErrUnavailable", len(stored), err)
	}
	mustRead := func(id0 string, want error) {
		t.Helper()
		if _, _, err := s.Note(ctx, id, now, id0); !errors.Is(err, want) {
			t.Errorf("note %s: %v, want %v", id0, err, want)
		}
	}
	for _, id := range stored {
		mustRead(id, nil)
	}
	mustRead(refused.ID, notes.ErrNotFound)
	pages(1 << 20)
	if err := s.CreateNote(ctx, id, now, refused); err != nil {
		t.Errorf("with space again: %v", err)
	}
	mustRead(refused.ID, nil)
}
