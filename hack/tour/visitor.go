package main

import (
	"context"
	"crypto/rand"
	"fmt"
	"net/http"
	"time"

	"github.com/securenotes/securenotes/hack/notesclient"
	"github.com/securenotes/securenotes/hack/poll"
)

// visitor is a user of the notes API.
type visitor struct {
	client *notesclient.Client
	// id and content belong to the note that the visitor wrote.
	id, content string
}

// reachTimeout bounds the wait for a service whose pods have just become ready: the rules of its
// Service may not be on every node yet.
const reachTimeout = 30 * time.Second

// firstDay registers a user, logs in, and writes, lists and reads a note.
func (v *visitor) firstDay(ctx context.Context) (string, error) {
	if err := poll.Within(ctx, reachTimeout, func(ctx context.Context) error {
		if _, err := v.client.ListNotes(ctx, 0, ""); notesclient.Status(err) != http.StatusUnauthorized {
			return fmt.Errorf("listing notes without a session did not return status 401: %w", err)
		}
		return nil
	}); err != nil {
		return "", err
	}
	name, password := "visitor-"+rand.Text()[:10], rand.Text()
	if err := v.client.Register(ctx, name, password); err != nil {
		return "", err
	}
	say("POST /api/auth/register -> 201  user %s", name)
	login, err := v.client.Login(ctx, name, password)
	if err != nil {
		return "", err
	}
	v.client = v.client.WithToken(login.Token)
	say("POST /api/auth/login    -> 200  token until %s", login.ExpiresAt.Local().Format(time.TimeOnly))
	v.content = "Meet at the old bridge at nine. " + rand.Text()
	note, err := v.client.CreateNote(ctx, notesclient.Content{Content: v.content})
	if err != nil {
		return "", err
	}
	v.id = note.ID
	say("POST /api/notes         -> 201  note %s", v.id)
	page, err := v.client.ListNotes(ctx, 0, "")
	if err != nil {
		return "", err
	}
	if len(page.Notes) != 1 || page.Notes[0].ID != v.id {
		return "", fmt.Errorf("the list has %d notes instead of only the one that was created", len(page.Notes))
	}
	say("GET  /api/notes         -> 200  1 note")
	_, err = v.read(ctx)
	return "certificate verified", err
}

// read reads the note and compares it with what was written.
func (v *visitor) read(ctx context.Context) (string, error) {
	note, err := v.client.GetNote(ctx, v.id)
	if err != nil {
		return "", err
	}
	if note.Content.Content != v.content {
		return "", fmt.Errorf("note %s has other content than what was written", v.id)
	}
	say("GET  /api/notes/{id}    -> 200  %q", v.content)
	return "", nil
}
