package chaos

import (
	"context"
	"fmt"
	"net/http"

	"github.com/securenotes/securenotes/hack/notesclient"
)

// Moment is a time between two instants, such as that of a backup: what is restored from it must be
// the state of every note at one instant in between.
type Moment struct {
	load *Load
	// registered are the users that had an account when the moment began.
	registered map[*user]bool
	// least and most are, for each note, the oldest and the newest write that may have been in
	// place. A note without least may not have existed, and one without most has been created since
	// the moment ended, or just before.
	least, most map[*note]int
}

// BeginMoment begins a moment. Call [Moment.End] when it is over.
func (l *Load) BeginMoment() *Moment {
	m := &Moment{load: l, registered: map[*user]bool{}, least: map[*note]int{}, most: map[*note]int{}}
	for _, u := range l.everyone() {
		m.registered[u] = true
		for _, n := range u.allNotes() {
			m.least[n] = n.history.BeginRead()
		}
	}
	return m
}

// End ends the moment.
func (m *Moment) End() {
	for _, u := range m.load.everyone() {
		for _, n := range u.allNotes() {
			m.most[n] = n.history.last()
		}
	}
}

// Check reads every note from a replica whose database was restored, and adds what is impossible to
// the load's Violations. The load must have been checked before, because only then every note is
// known. It returns an error if a request was not answered.
func (m *Moment) Check(ctx context.Context, replica *notesclient.Client) error {
	for _, u := range m.load.everyone() {
		if err := m.checkUser(ctx, u, replica); err != nil {
			return err
		}
	}
	return nil
}

func (m *Moment) checkUser(ctx context.Context, u *user, replica *notesclient.Client) error {
	if _, err := replica.WithToken(u.session()).ListNotes(ctx, 1, ""); notesclient.Status(err) != http.StatusUnauthorized {
		m.load.violation("a session of %s from before the restore: %v, want 401", u.name, err)
	}
	login, err := replica.Login(ctx, u.name, u.password)
	if notesclient.Status(err) == http.StatusUnauthorized {
		if m.registered[u] {
			m.load.violation("user %s is lost", u.name)
		}
		return nil
	}
	if err != nil {
		return fmt.Errorf("user %s: %w", u.name, err)
	}
	signedIn := replica.WithToken(login.Token)
	listed := map[string]bool{}
	page := &notesclient.Page{}
	for first := true; first || page.NextCursor != ""; first = false {
		if page, err = signedIn.ListNotes(ctx, pageLimit, page.NextCursor); err != nil {
			return fmt.Errorf("list the notes of user %s: %w", u.name, err)
		}
		for _, n := range page.Notes {
			listed[n.ID] = true
		}
	}
	for _, n := range u.allNotes() {
		v := Value{Gone: true}
		switch got, err := signedIn.GetNote(ctx, n.id); {
		case err == nil:
			v = Value{Title: got.Title, Content: got.Content.Content}
		case notesclient.Status(err) != http.StatusNotFound:
			m.load.violation("note %s of %s: %v", n.id, u.name, err)
			continue
		}
		if err := m.possible(n, v); err != nil {
			m.load.violation("note %s of %s, restored: %v", n.id, u.name, err)
		}
		if listed[n.id] == v.Gone {
			m.load.violation("note %s of %s, restored: listed %t, there %t", n.id, u.name, listed[n.id], !v.Gone)
		}
		delete(listed, n.id)
	}
	for id := range listed {
		m.load.violation("note %s of %s was restored, and nobody made it", id, u.name)
	}
	return nil
}

// possible returns an error unless the value was in place at some instant of the moment.
func (m *Moment) possible(n *note, v Value) error {
	least, existed := m.least[n]
	if !existed && v.Gone {
		return nil
	}
	return n.history.between(least, m.most[n], v)
}

// everyone returns the users so far.
func (l *Load) everyone() []*user {
	l.mu.Lock()
	defer l.mu.Unlock()
	return append(append([]*user(nil), l.users...), l.newcomers...)
}

// allNotes returns the notes that the user has ever had.
func (u *user) allNotes() []*note {
	u.mu.Lock()
	defer u.mu.Unlock()
	return append([]*note(nil), u.notes...)
}
