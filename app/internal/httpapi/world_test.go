package httpapi_test

import (
	"net/http"
	"slices"
	"testing"

	"github.com/getkin/kin-openapi/openapi3"
	"github.com/google/uuid"

	"github.com/securenotes/securenotes/app/internal/httpapi"
	"github.com/securenotes/securenotes/app/internal/storetest"
)

// world is a service and its users.
type world struct {
	service    *service
	handler    http.Handler
	operations []operation
	users      [2]*tenant
	// since is the step at which each user was created.
	since [2]int
	// steps counts the generated requests. sent also counts those that revive users.
	tenants, steps, sent int
	// ended is a token of an ended session.
	ended string
}

func newWorld(t testing.TB, open storetest.Open) *world {
	t.Helper()
	doc, err := openapi3.NewLoader().LoadFromData(httpapi.OpenAPI)
	if err != nil {
		t.Fatal(err)
	}
	s := newService(t, open, true)
	w := &world{service: s, handler: s.Config.Handler}
	paths := doc.Paths.Map()
	for _, path := range sortedNames(paths) {
		operations := paths[path].Operations()
		for _, method := range sortedNames(operations) {
			o := operations[method]
			w.operations = append(w.operations, operation{o, method, path, slices.Concat(paths[path].Parameters, o.Parameters)})
		}
	}
	for i := range w.users {
		w.users[i] = w.newTenant(t)
	}
	return w
}

// step sends one request of an operation, and restores the users for the next one.
func (w *world) step(t testing.TB, o operation, c *choices) answered {
	t.Helper()
	w.steps++
	at := 0
	if c.oneIn(4) {
		at = 1
	}
	user, other := w.users[at], w.users[1-at]
	g := &generator{choices: c}
	g.known = func(name string) []string {
		if c.oneIn(8) {
			return other.values(o.path, name)
		}
		return user.values(o.path, name)
	}
	r := w.newRequest(g, o, user)
	a := w.send(t, r)
	if a.StatusCode < http.StatusBadRequest {
		texts(a.body, func(name, text string) {
			if _, err := uuid.Parse(text); err == nil && other.hasHeard(text) {
				t.Errorf("the answer's %s is another user's: %s\n%v\n%s", name, text, r, a.body)
			}
		})
		user.hearAll(o.path, a)
		for _, p := range o.parameters {
			if value := r.header.Get(p.Value.Name); value != "" {
				user.hear(o.path, p.Value.Name, value) // so that it is sent again
			}
		}
	}
	w.revive(t, at, o, a)
	return a
}
