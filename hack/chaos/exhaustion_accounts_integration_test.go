//go:build integration

package chaos_test

import (
	"context"
	"fmt"
	"strings"

	"github.com/jackc/pgx/v5"
	"golang.org/x/sync/errgroup"

	"github.com/securenotes/securenotes/hack/chaos/exhaustion"
	"github.com/securenotes/securenotes/hack/notesclient"
)

const (
	// attackersAddress is the address that attackers register from.
	attackersAddress = "127.0.0.10"
	// writers is how many accounts of attackers have notes of the maximum size, to read and to
	// export.
	writers, largeNotes = 8, 3
	// listers is how many accounts have a full page of small notes, and listed the size of that
	// page.
	listers, listed = 4, 200
)

// largeNote is a note of the maximum length, with the maximum bytes per character: 400 KB.
var largeNote = strings.Repeat("\U0001F512", 100_000)

// prepareAccounts registers the attackers and the bystander, and writes their notes.
func (a *arena) prepareAccounts(database string) {
	a.Helper()
	a.attackers = make([]exhaustion.Account, writers+listers)
	var group errgroup.Group
	group.SetLimit(2) // the service hashes few passwords at a time
	for i := range a.attackers {
		group.Go(func() (err error) {
			content, count := largeNote, largeNotes
			if i >= writers {
				content, count = "small", 1
			}
			a.attackers[i], err = a.newAccount(attackersAddress, fmt.Sprintf("attacker-%d", i), content, count)
			return err
		})
	}
	group.Go(func() (err error) {
		a.bystander, err = a.newAccount(bystanderAddress, "bystander", "a note", 1)
		return err
	})
	group.Go(func() (err error) {
		a.visitor, err = a.newAccount(bystanderAddress, "visitor", "a note", 1)
		return err
	})
	if err := group.Wait(); err != nil {
		a.Fatal(err)
	}
	changed, err := a.loginClient.WithToken(a.bystander.Token).CreateNote(a.Context(), notesclient.Content{Content: "another note"})
	if err != nil {
		a.Fatal(err)
	}
	a.changed = changed.ID
	a.fillPages(database)
	if err := a.endSession(); err != nil {
		a.Fatal(err)
	}
}

// endSession gives the attackers the token of a session that has ended.
func (a *arena) endSession() error {
	client := a.newClient(attackersAddress, notesclient.Options{})
	defer client.Close()
	login, err := client.Login(a.Context(), a.attackers[0].Name, password)
	if err != nil {
		return err
	}
	a.ended = login.Token
	return client.WithToken(a.ended).Logout(a.Context())
}

// fillPages copies the listers' notes in the database. The copies cannot be decrypted, but a list
// decrypts nothing.
func (a *arena) fillPages(database string) {
	a.Helper()
	conn, err := pgx.Connect(a.Context(), database)
	if err != nil {
		a.Fatal(err)
	}
	defer conn.Close(context.Background())
	for _, lister := range a.attackers[writers:] {
		if _, err := conn.Exec(a.Context(), `INSERT INTO notes SELECT (jsonb_populate_record(n, jsonb_build_object('id', gen_random_uuid()))).*
			FROM notes n, generate_series(1, $2) WHERE n.id = $1`, lister.Note, listed-1); err != nil {
			a.Fatal(err)
		}
	}
}

// newAccount registers a user, who writes some notes. The account's Note is the last of them.
func (a *arena) newAccount(address, name, content string, notes int) (user exhaustion.Account, err error) {
	client := a.newClient(address, notesclient.Options{})
	defer client.Close()
	user.Name, user.Password = name, password
	if err := client.Register(a.Context(), name, password); err != nil {
		return user, err
	}
	login, err := client.Login(a.Context(), name, password)
	if err != nil {
		return user, err
	}
	user.Token = login.Token
	for range notes {
		note, err := client.WithToken(user.Token).CreateNote(a.Context(), notesclient.Content{Content: content})
		if err != nil {
			return user, err
		}
		user.Note = note.ID
	}
	return user, nil
}
