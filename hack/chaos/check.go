package chaos

import (
	"context"
	"fmt"
	"net/http"

	"github.com/securenotes/securenotes/hack/notesclient"
)

// pageLimit is the maximum number of notes on a page of the list.
const pageLimit = 200

// check reads all notes of the user from every replica, and compares them with their histories. It
// returns an error if it got no conclusive answer.
func (u *user) check(ctx context.Context) error {
	for u.pending != nil {
		if err := ctx.Err(); err != nil {
			return fmt.Errorf("a creation of user %s: no conclusive answer: %w", u.name, err)
		}
		u.create(ctx, u.random)
	}
	listed, err := u.list(ctx)
	if err != nil {
		return err
	}
	for _, n := range u.notes {
		there := false
		for _, replica := range u.load.options.Replicas {
			least := n.history.BeginRead()
			var got *notesclient.Note
			err := u.ask(ctx, replica, func(ctx context.Context, c *notesclient.Client) (err error) {
				got, err = c.GetNote(ctx, n.id)
				return err
			})
			if !conclusive(err) {
				return err
			}
			if !u.given(n, least, got, err) {
				u.load.violation("note %s of %s cannot be read: %v", n.id, u.name, err)
			}
			there = err == nil
		}
		if listed[n.id] != there {
			u.load.violation("note %s of %s: listed: %t, there: %t", n.id, u.name, listed[n.id], there)
		}
		delete(listed, n.id)
	}
	for id := range listed {
		u.load.violation("note %s of %s is there, and nobody made it", id, u.name)
	}
	return nil
}

// list returns the ids of the user's notes.
func (u *user) list(ctx context.Context) (map[string]bool, error) {
	ids, page := map[string]bool{}, &notesclient.Page{}
	for first := true; first || page.NextCursor != ""; first = false {
		cursor := page.NextCursor
		if err := u.ask(ctx, u.load.replica(u.random), func(ctx context.Context, c *notesclient.Client) (err error) {
			page, err = c.ListNotes(ctx, pageLimit, cursor)
			return err
		}); err != nil {
			return nil, fmt.Errorf("list the notes of user %s: %w", u.name, err)
		}
		for _, n := range page.Notes {
			ids[n.ID] = true
		}
	}
	return ids, nil
}

// ask repeats a call to one replica in the user's session until the answer is conclusive. It signs
// in again if necessary.
func (u *user) ask(ctx context.Context, replica *notesclient.Client, do call) error {
	for signedIn := false; ; signedIn = true {
		err := u.load.until(ctx, func() *notesclient.Client { return replica.WithToken(u.session()) }, do)
		if signedIn || notesclient.Status(err) != http.StatusUnauthorized {
			return err
		}
		u.again(ctx)
	}
}
