//go:build integration

package chaos_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"strings"

	"github.com/jackc/pgx/v5"
	"golang.org/x/sync/errgroup"

	"github.com/securenotes/securenotes/hack/chaos/exhaustion"
)

const (
	// attackersAddress is the one that attackers register from.
	attackersAddress = "127.0.0.10"
	// writers is how many accounts of attackers have notes of the largest size, to read and to export.
	writers, largeNotes = 8, 3
	// listers have small notes, a full page each.
	listers, listed = 4, 200
)

// largeNote has the most characters that a note may have, in the most bytes: 400 KB.
var largeNote = strings.Repeat("\U0001F512", 100_000)

// prepareAccounts registers the attackers and the bystander, and writes their notes.
func (a *arena) prepareAccounts(database string) {
	a.Helper()
	a.attackers = make([]exhaustion.Account, writers+listers)
	var group errgroup.Group
	group.SetLimit(2) // few passwords are hashed at a time
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
	answer, err := a.call(a.loginClient, http.MethodPost, "/api/notes", a.bystander.Token, map[string]any{"content": "another note"}, http.StatusCreated)
	if err != nil {
		a.Fatal(err)
	}
	a.changed, _ = answer["id"].(string)
	a.fillPages(database)
	if err := a.endSession(); err != nil {
		a.Fatal(err)
	}
}

// endSession leaves the attackers the token of a session that has been logged out.
func (a *arena) endSession() (err error) {
	client := a.newClient(attackersAddress, false)
	defer client.CloseIdleConnections()
	if a.ended, err = a.login(client, a.attackers[0].Name); err == nil {
		_, err = a.call(client, http.MethodPost, "/api/auth/logout", a.ended, nil, http.StatusOK)
	}
	return err
}

// fillPages copies the listers' notes in the database. The copies cannot be decrypted, and a list
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

func (a *arena) newAccount(address, name, content string, notes int) (user exhaustion.Account, err error) {
	client := a.newClient(address, false)
	defer client.CloseIdleConnections()
	user.Name, user.Password = name, credentials(name)["password"].(string)
	if _, err = a.call(client, http.MethodPost, "/api/auth/register", "", credentials(name), http.StatusCreated); err != nil {
		return user, err
	}
	if user.Token, err = a.login(client, name); err != nil {
		return user, err
	}
	for range notes {
		answer, err := a.call(client, http.MethodPost, "/api/notes", user.Token, map[string]any{"content": content}, http.StatusCreated)
		if err != nil {
			return user, err
		}
		user.Note, _ = answer["id"].(string)
	}
	return user, nil
}

func (a *arena) login(client *http.Client, name string) (token string, err error) {
	answer, err := a.call(client, http.MethodPost, "/api/auth/login", "", credentials(name), http.StatusOK)
	token, _ = answer["token"].(string)
	return token, err
}

// call is send, and an error unless the status is the one that is wanted.
func (a *arena) call(client *http.Client, method, path, token string, body map[string]any, want int) (map[string]any, error) {
	status, answer, err := a.send(a.Context(), client, method, path, token, body)
	if err == nil && status != want {
		err = fmt.Errorf("%s %s: status %d, want %d: %v", method, path, status, want, answer)
	}
	return answer, err
}

func (a *arena) send(ctx context.Context, client *http.Client, method, path, token string, body map[string]any) (int, map[string]any, error) {
	raw, err := json.Marshal(body)
	if err != nil {
		return 0, nil, err
	}
	if body == nil {
		raw = nil
	}
	request, err := http.NewRequestWithContext(ctx, method, a.service.URL+path, bytes.NewReader(raw))
	if err != nil {
		return 0, nil, err
	}
	request.Header.Set("Content-Type", "application/json")
	if token != "" {
		request.Header.Set("Authorization", "Bearer "+token)
	}
	response, err := client.Do(request)
	if err != nil {
		return 0, nil, err
	}
	defer response.Body.Close()
	var answer bytes.Buffer
	if _, err := answer.ReadFrom(response.Body); err != nil {
		return 0, nil, err
	}
	fields := map[string]any{}
	_ = json.Unmarshal(answer.Bytes(), &fields) // some answers have no body
	return response.StatusCode, fields, nil
}
