//go:build integration

package reencrypt_test

import (
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/securenotes/securenotes/app/internal/reencrypt"
)

// TestUserOvertakesTheJob checks that a note that its user deletes after the Job has read it counts
// as one conflict and does no other harm.
func TestUserOvertakesTheJob(t *testing.T) {
	uri, _, open := linkedPostgres(t)
	w := newWorld(t, open, 1, 3)
	to := w.rotate(t)
	var note string
	for note = range w.users[0].notes {
		break
	}
	delete(w.users[0].notes, note)

	// The user's deletion is not committed yet: the Job still reads the note, and waits for the
	// deletion before it can write.
	user, err := pgx.Connect(ctx, uri)
	if err != nil {
		t.Fatal(err)
	}
	defer user.Close(ctx)
	deletion, err := user.Begin(ctx)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := deletion.Exec(ctx, "DELETE FROM notes WHERE id = $1", note); err != nil {
		t.Fatal(err)
	}
	var conflicts int64
	ended := make(chan error, 1)
	go func() {
		job := w.job(reencrypt.Reencrypt, to)
		job.Conflicts = func(total int64) { conflicts = total }
		ended <- job.Run(ctx)
	}()
	awaitWaiting(t, uri, "UPDATE notes t ")
	if err := deletion.Commit(ctx); err != nil {
		t.Fatal(err)
	}
	if err := <-ended; err != nil {
		t.Fatal(err)
	}
	if conflicts != 1 {
		t.Errorf("%d conflicts, want 1", conflicts)
	}
	w.mustHold(t, reencrypt.Reencrypt, to)
}

// awaitWaiting waits until one session waits for a lock with a statement that contains the text.
func awaitWaiting(t *testing.T, uri, text string) {
	t.Helper()
	watch, err := pgx.Connect(ctx, uri)
	if err != nil {
		t.Fatal(err)
	}
	defer watch.Close(ctx)
	for deadline := time.Now().Add(20 * time.Second); ; time.Sleep(5 * time.Millisecond) {
		waiting := 0
		if err := watch.QueryRow(ctx, "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND query LIKE '%' || $1 || '%'", text).Scan(&waiting); err != nil {
			t.Fatal(err)
		}
		if waiting == 1 {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("the Job does not wait for the user's transaction with %s", text)
		}
	}
}

// TestRowsTurnUpUnderARetiringKey commits a note that was sealed with the old key after the Job has
// found nothing left under that key. The Job must move the note as well, and delete the other keys
// of the same batch.
func TestRowsTurnUpUnderARetiringKey(t *testing.T) {
	uri, _, open := linkedPostgres(t)
	w := newWorld(t, open, 3, 1)
	user, err := pgx.Connect(ctx, uri)
	if err != nil {
		t.Fatal(err)
	}
	defer user.Close(ctx)
	for _, sql := range []string{
		"CREATE TEMPORARY TABLE late AS SELECT * FROM notes WHERE owner = '" + w.users[1].id.Owner + "'",
		"DELETE FROM notes USING late WHERE notes.id = late.id",
		"BEGIN", "INSERT INTO notes SELECT * FROM late",
	} {
		if _, err := user.Exec(ctx, sql); err != nil {
			t.Fatalf("%s: %v", sql, err)
		}
	}
	to := w.rotate(t)
	ended := make(chan error, 1)
	go func() { ended <- w.job(reencrypt.Reencrypt, to).Run(ctx) }()
	awaitWaiting(t, uri, "DELETE FROM owner_keys k ")
	if _, err := user.Exec(ctx, "COMMIT"); err != nil {
		t.Fatal(err)
	}
	if err := <-ended; err != nil {
		t.Fatal(err)
	}
	w.mustHold(t, reencrypt.Reencrypt, to)
}
