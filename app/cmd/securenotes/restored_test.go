package main

import (
	"context"
	"database/sql"
	"errors"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/securenotes/securenotes/app/config"
	"github.com/securenotes/securenotes/hack/notesclient"
	"github.com/securenotes/securenotes/hack/testenv"
)

// TestRestoredSQLite is [endsWhenRestored] on SQLite.
func TestRestoredSQLite(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "notes.db")
	endsWhenRestored(t, dir, config.Database{SQLite: &config.SQLite{Path: file}}, func(statements ...string) {
		t.Helper()
		db, err := sql.Open("sqlite", "file:"+file+"?_pragma=busy_timeout(10000)")
		if err != nil {
			t.Fatal(err)
		}
		for _, statement := range statements {
			if _, err := db.ExecContext(t.Context(), statement); err != nil {
				t.Fatal(err)
			}
		}
		if err := db.Close(); err != nil {
			t.Fatal(err)
		}
	})
}

// TestReplacedSQLiteFile checks that the service ends when a backup replaces its open file.
func TestReplacedSQLiteFile(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "notes.db")
	c, _ := servedConfig(t, dir, config.Database{SQLite: &config.SQLite{Path: file}})
	backup, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	stop, ended := serveUntilReady(t, c)
	if err := errors.Join(os.WriteFile(file+".new", backup, 0o600), os.Rename(file+".new", file)); err != nil {
		t.Fatal(err)
	}
	endsBecause(t, stop, ended, config.ReasonDatabaseRestored)
}

// servedConfig returns the configuration of a service whose database is prepared, and its
// certificate.
func servedConfig(t *testing.T, dir string, database config.Database) (*config.Config, *testenv.Certificate) {
	t.Helper()
	certificate := testenv.NewCertificate(t, dir)
	c := localConfig(t, dir, database)
	c.Listen, c.MetricsListen = testenv.FreeAddress(t), testenv.FreeAddress(t)
	c.TLS = &config.TLS{CertFile: certificate.CertFile, KeyFile: certificate.KeyFile}
	if _, err := prepare(t, c, false); err != nil {
		t.Fatal(err)
	}
	c.Claimed = true
	return c, certificate
}

// endsWhenRestored changes a database as a restore does, while the service runs on it. The running
// service must end with the reason. A restarted one waits until the restore has finished. It must
// then accept no earlier token and no earlier entity tag.
func endsWhenRestored(t *testing.T, dir string, database config.Database, execute func(statements ...string)) {
	ctx := t.Context()
	c, certificate := servedConfig(t, dir, database)
	client := notesclient.New("https://"+c.Listen, notesclient.Options{RootCAs: certificate.Pool, Timeout: 10 * time.Second, ConnectionPerRequest: true})
	const username, password = "alice", "correct horse battery"
	login := func() *notesclient.Client {
		t.Helper()
		l, err := client.Login(ctx, username, password)
		if err != nil {
			t.Fatal(err)
		}
		return client.WithToken(l.Token)
	}
	content := notesclient.Content{Content: "x"}

	stop, ended := serveUntilReady(t, c)
	if err := client.Register(ctx, username, password); err != nil {
		t.Fatal(err)
	}
	before := login()
	note, err := before.CreateNote(ctx, content)
	if err != nil || note.ETag != `"1"` {
		t.Fatalf("%+v, %v; want the tag of a database that was never restored", note, err)
	}
	execute("DELETE FROM sessions", "UPDATE meta SET deployment_id = 'restoring:abcdefghijklmnop'")
	endsBecause(t, stop, ended, config.ReasonDatabaseRestoring)

	stop, ended = serveUntil(t, c, func(_ int, text string) bool {
		return strings.HasPrefix(text, config.ReasonDatabaseRestoring+": ")
	})
	execute("UPDATE meta SET deployment_id = 'test', epoch = 'abcdefghijklmnop'")
	awaitReadyz(t, c, ended, isReady)
	if _, err := before.GetNote(ctx, note.ID); notesclient.Status(err) != http.StatusUnauthorized {
		t.Errorf("the token from before: %v, want 401", err)
	}
	after := login()
	if _, err := after.UpdateNote(ctx, note.ID, content, note.ETag); notesclient.Status(err) != http.StatusPreconditionFailed {
		t.Errorf("the tag from before: %v, want 412", err)
	}
	read, err := after.GetNote(ctx, note.ID)
	if err != nil || read.ETag != `"1-abcdefghijklmnop"` {
		t.Fatalf("%+v, %v", read, err)
	}
	if _, err := after.UpdateNote(ctx, note.ID, content, read.ETag); err != nil {
		t.Errorf("the new tag: %v", err)
	}

	// This restore is so fast that the service never sees it unfinished. A row of a session is no
	// session: the service refuses the token of another epoch.
	execute("UPDATE meta SET epoch = 'qrstuvwxyz234567'")
	endsBecause(t, stop, ended, config.ReasonDatabaseRestored)
	stop, ended = serveUntilReady(t, c)
	if _, err := after.GetNote(ctx, note.ID); notesclient.Status(err) != http.StatusUnauthorized {
		t.Errorf("a token from before, whose session has a row: %v, want 401", err)
	}
	stop()
	if err := <-ended; err != nil {
		t.Error(err)
	}
}

// endsBecause waits until the service ends with the reason.
func endsBecause(t *testing.T, stop func(), ended <-chan error, reason string) {
	t.Helper()
	select {
	case err := <-ended:
		if termination, _ := outcome(err); termination.Reason != reason {
			t.Errorf("the service ended with %+v, want %s", termination, reason)
		}
	case <-time.After(30 * time.Second):
		t.Errorf("the service continues, want its end because of %s", reason)
		stop()
		<-ended
	}
}

// serveUntilReady starts the service and waits until it is ready. stop ends it, and ended delivers
// its error.
func serveUntilReady(t *testing.T, c *config.Config) (stop func(), ended <-chan error) {
	t.Helper()
	return serveUntil(t, c, isReady)
}

// isReady reports whether an answer of /readyz is that of a ready service.
func isReady(status int, _ string) bool { return status == http.StatusOK }

// serveUntil is serveUntilReady with another condition on the answer of /readyz.
func serveUntil(t *testing.T, c *config.Config, met func(status int, text string) bool) (stop func(), ended <-chan error) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	t.Cleanup(cancel)
	done := make(chan error, 1)
	go func() { done <- serve(ctx, c, 0, newLog(c.Log, os.Stderr)) }()
	awaitReadyz(t, c, done, met)
	return cancel, done
}

// awaitReadyz waits for an answer of /readyz that meets the condition.
func awaitReadyz(t *testing.T, c *config.Config, ended <-chan error, met func(status int, text string) bool) {
	t.Helper()
	deadline, tick := time.After(30*time.Second), time.NewTicker(20*time.Millisecond)
	defer tick.Stop()
	text := ""
	for {
		if response, err := http.Get("http://" + c.MetricsListen + "/readyz"); err == nil {
			raw, err := io.ReadAll(response.Body)
			if err := errors.Join(err, response.Body.Close()); err != nil {
				t.Fatal(err)
			}
			if text = string(raw); met(response.StatusCode, text) {
				return
			}
		}
		select {
		case err := <-ended:
			t.Fatalf("the service ended: %v", err)
		case <-deadline:
			t.Fatalf("/readyz answers %q", text)
		case <-tick.C:
		}
	}
}
