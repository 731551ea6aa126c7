package chaos

import (
	"context"
	"fmt"
	"net/http"
)

// check reads everything of the user's from every replica: each note is what its history says, and there is
// none besides. Error: no telling answer.
func (u *user) check(ctx context.Context) error {
	for u.pending != nil {
		if err := ctx.Err(); err != nil {
			return fmt.Errorf("a creation of user %s: no telling answer: %w", u.name, err)
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
			a, err := u.get(ctx, replica, "/api/notes/"+n.id)
			if err != nil {
				return err
			}
			if !u.given(n, least, a, nil) {
				u.load.violation("note %s of %s cannot be read: status %d: %s", n.id, u.name, a.status, a.body.Error)
			}
			there = a.status == http.StatusOK
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

// list gives the ids of the user's notes.
func (u *user) list(ctx context.Context) (map[string]bool, error) {
	ids, cursor := map[string]bool{}, ""
	for page := 0; page == 0 || cursor != ""; page++ {
		a, err := u.get(ctx, u.load.replica(u.random), "/api/notes?limit=200&cursor="+cursor)
		if err == nil && a.status != http.StatusOK {
			err = fmt.Errorf("list the notes of user %s: status %d: %s", u.name, a.status, a.body.Error)
		}
		if err != nil {
			return nil, err
		}
		for _, n := range a.body.Notes {
			ids[n.ID] = true
		}
		cursor = a.body.NextCursor
	}
	return ids, nil
}

// get reads from one replica until its answer tells, and signs in again if it has to.
func (u *user) get(ctx context.Context, replica Replica, path string) (*answer, error) {
	for signedIn := false; ; signedIn = true {
		a, err := u.load.until(ctx, func() Replica { return replica }, request{method: http.MethodGet, path: path, token: u.session()})
		if err != nil || a.status != http.StatusUnauthorized || signedIn {
			return a, err
		}
		u.again(ctx)
	}
}
