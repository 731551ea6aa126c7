package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/securenotes/securenotes/app/internal/accounts"
	"github.com/securenotes/securenotes/app/internal/notes"
	"github.com/securenotes/securenotes/app/internal/sessions"
)

// errKnown is an error that tells the outcome of a write: nothing was stored.
var errKnown = errors.New("nothing was stored")

// TestUntilKnown checks when a write is repeated, and when the check decides instead.
func TestUntilKnown(t *testing.T) {
	t.Parallel()
	var (
		unknown  = fmt.Errorf("%w: connection reset", ErrUnavailable)
		deadlock = fmt.Errorf("%w: deadlock", errRetry)
	)
	for name, tc := range map[string]struct {
		// writes and checks are the results of the calls; the last one is repeated.
		writes, checks []any
		want           error
		wantWrites     int
		wantChecks     int
	}{
		"a write succeeds":                           {writes: []any{nil}, wantWrites: 1},
		"an error tells the outcome":                 {writes: []any{errKnown}, want: errKnown, wantWrites: 1},
		"deadlocks are retried without a check":      {writes: []any{deadlock, deadlock, nil}, wantWrites: 3},
		"deadlocks only end":                         {writes: []any{deadlock}, want: ErrUnavailable, wantWrites: maxTransactionAttempts},
		"committed":                                  {writes: []any{unknown}, checks: []any{true}, wantWrites: 1, wantChecks: 1},
		"committed after the first check":            {writes: []any{unknown, errKnown}, checks: []any{false, true}, wantWrites: 2, wantChecks: 2},
		"committed after a repetition met its locks": {writes: []any{unknown, deadlock}, checks: []any{false, true}, wantWrites: 2, wantChecks: 2},
		"not committed, and the repetition succeeds": {writes: []any{unknown, nil}, checks: []any{false}, wantWrites: 2, wantChecks: 1},
		"not committed, and the repetition fails":    {writes: []any{unknown, errKnown}, checks: []any{false}, want: errKnown, wantWrites: 2, wantChecks: 2},
		"unknown after a deadlock":                   {writes: []any{deadlock, unknown, nil}, checks: []any{false}, wantWrites: 3, wantChecks: 1},
		"unknown forever":                            {writes: []any{unknown}, checks: []any{false}, want: ErrUnavailable, wantWrites: 4, wantChecks: 3},
		"unknown, then deadlocks only":               {writes: []any{unknown, deadlock}, checks: []any{false}, want: ErrUnavailable, wantWrites: 4, wantChecks: 3},
		"the check fails once":                       {writes: []any{unknown}, checks: []any{unknown, true}, wantWrites: 1, wantChecks: 2},
		"the check fails forever":                    {writes: []any{unknown}, checks: []any{unknown}, want: ErrUnavailable, wantWrites: 1, wantChecks: 3},
		"the check fails for another reason":         {writes: []any{unknown}, checks: []any{errKnown}, want: errKnown, wantWrites: 1, wantChecks: 1},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				writes, checks := 0, 0
				committed := func() (bool, error) {
					checks++
					result := tc.checks[min(checks, len(tc.checks))-1]
					err, _ := result.(error)
					return result == true, err
				}
				err := new(core).untilKnown(t.Context(), committed, func() error {
					writes++
					err, _ := tc.writes[min(writes, len(tc.writes))-1].(error)
					return err
				})
				if !errors.Is(err, tc.want) || writes != tc.wantWrites || checks != tc.wantChecks {
					t.Errorf("%v after %d writes and %d checks, want %v after %d and %d", err, writes, checks, tc.want, tc.wantWrites, tc.wantChecks)
				}
			})
		})
	}
}

// stubborn is a dialect for which every error calls for a retry.
type stubborn struct {
	dialect
	attempts int
}

func (s *stubborn) classify(err error) error {
	s.attempts++
	return fmt.Errorf("%w: %w", errRetry, err)
}

// TestRetriesDoNotMultiply checks that no operation retries what it calls if that retries, too.
func TestRetriesDoNotMultiply(t *testing.T) {
	t.Parallel()
	id := sessions.Identity{Owner: "o", Session: "s"}
	for name, do := range map[string]func(context.Context, *core, time.Time) error{
		"CreateNoteIdempotent": func(ctx context.Context, c *core, now time.Time) error {
			_, err := c.CreateNoteIdempotent(ctx, id, now, notes.Sealed{ID: "n"}, notes.IdempotencyKey{})
			return err
		},
		"UpdateNote": func(ctx context.Context, c *core, now time.Time) error {
			_, err := c.UpdateNote(ctx, id, now, notes.Sealed{ID: "n"})
			return err
		},
		"DeleteNote": func(ctx context.Context, c *core, now time.Time) error {
			_, err := c.DeleteNote(ctx, id, now, "n", 0)
			return err
		},
		"CreateSession": func(ctx context.Context, c *core, now time.Time) error {
			return c.CreateSession(ctx, sessions.Session{Identity: id, CreatedAt: now, ExpiresAt: now}, accounts.User{}, accounts.Proof{})
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				db, err := sql.Open("sqlite", ":memory:")
				if err != nil {
					t.Fatal(err)
				}
				if err := db.Close(); err != nil { // so that every statement fails
					t.Fatal(err)
				}
				tries := &stubborn{dialect: new(sqliteDialect)}
				if err := do(t.Context(), &core{db: db, dialect: tries}, time.Now()); !errors.Is(err, ErrUnavailable) || tries.attempts != maxTransactionAttempts {
					t.Errorf("%v after %d attempts, want ErrUnavailable after %d", err, tries.attempts, maxTransactionAttempts)
				}
			})
		})
	}
}
