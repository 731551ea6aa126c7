package httpapi_test

import (
	"context"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/securenotes/securenotes/app/config"
	"github.com/securenotes/securenotes/app/internal/audit"
	"github.com/securenotes/securenotes/app/internal/envelope"
	"github.com/securenotes/securenotes/app/internal/httpapi"
	"github.com/securenotes/securenotes/app/internal/notes"
	"github.com/securenotes/securenotes/app/internal/pepper"
	"github.com/securenotes/securenotes/app/internal/ratelimit"
	"github.com/securenotes/securenotes/app/internal/sessions"
)

// memory is a store of one note that costs nothing.
type memory struct {
	notes.Store
	key  envelope.StoredKey
	note notes.Sealed
}

func (m *memory) ActiveKey(context.Context, sessions.Identity, time.Time) (envelope.StoredKey, error) {
	return m.key, nil
}

func (m *memory) CreateNote(_ context.Context, _ sessions.Identity, _ time.Time, n notes.Sealed) error {
	m.note = n
	return nil
}

func (m *memory) Note(context.Context, sessions.Identity, time.Time, string) (notes.Sealed, envelope.StoredKey, error) {
	return m.note, m.key, nil
}

func (m *memory) Usage(context.Context, sessions.Identity, time.Time) (notes.Usage, error) {
	return notes.Usage{}, nil
}

// CountSeals implements envelope.KeyRows.
func (m *memory) CountSeals(context.Context, envelope.StoredKey, int64) (int64, error) { return 1, nil }

// SucceedKey implements envelope.KeyRows.
func (m *memory) SucceedKey(context.Context, envelope.StoredKey, envelope.StoredKey, time.Time) error {
	return nil
}

// BenchmarkHandler measures a request without TLS and database. The audit log goes to a pipe.
func BenchmarkHandler(b *testing.B) {
	local, err := envelope.OpenLocal(filepath.Join(b.TempDir(), "master.key"))
	if err != nil {
		b.Fatal(err)
	}
	id := sessions.Identity{Owner: uuid.NewString(), Session: uuid.NewString()}
	store := &memory{}
	cache := envelope.NewCache(envelope.NewKeyring("d1", local), store)
	if store.key, err = cache.Generate(context.Background(), id.Owner); err != nil {
		b.Fatal(err)
	}
	keys, err := config.NewSessionKeys()
	if err != nil {
		b.Fatal(err)
	}
	tokens, err := sessions.NewCodec("d1", "", keys)
	if err != nil {
		b.Fatal(err)
	}
	token, err := tokens.Encode(sessions.Session{Identity: id, CreatedAt: time.Now(), ExpiresAt: time.Now().Add(time.Hour)})
	if err != nil {
		b.Fatal(err)
	}
	read, write, err := os.Pipe()
	if err != nil {
		b.Fatal(err)
	}
	defer read.Close()
	defer write.Close()
	go func() { _, _ = io.Copy(io.Discard, read) }()
	lines, err := audit.Output(write)
	if err != nil {
		b.Fatal(err)
	}
	defer lines.Close()
	trail, err := audit.New(lines, "d1", noSigner{}, slog.New(slog.DiscardHandler))
	if err != nil {
		b.Fatal(err)
	}
	requests, err := pepper.NewKey("d1", config.NewPepper(), pepper.Requests)
	if err != nil {
		b.Fatal(err)
	}
	handler, err := httpapi.NewHandler(httpapi.Service{
		Audit: trail, RequestTimeout: time.Minute, Requests: ratelimit.NewRequests(1 << 30), Tokens: tokens,
		Notes: notes.NewService(httpapi.RecordNotes(store), cache, requests, notes.Usage{Notes: 1 << 40, Bytes: 1 << 50}), Log: slog.New(slog.DiscardHandler), Metrics: prometheus.NewRegistry(),
	})
	if err != nil {
		b.Fatal(err)
	}
	for _, tc := range []struct {
		name, method, path, body string
		status                   int
	}{
		{name: "create", method: "POST", path: "/api/notes", body: `{"content":"` + strings.Repeat("x", 1024) + `"}`, status: http.StatusCreated},
		{name: "read", method: "GET", path: "/api/notes/" + uuid.NewString(), status: http.StatusOK},
	} {
		call := func() {
			request := httptest.NewRequest(tc.method, tc.path, strings.NewReader(tc.body))
			request.Header.Set("Authorization", "Bearer "+token)
			w := httptest.NewRecorder()
			if handler.ServeHTTP(w, request); w.Code != tc.status {
				b.Fatalf("status %d: %s", w.Code, w.Body)
			}
		}
		call() // the note that is read is the one that was created
		b.Run(tc.name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				call()
			}
		})
	}
}
