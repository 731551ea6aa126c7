//go:build e2e

package e2e

import (
	"crypto/rand"
	"net/http"
	"testing"
)

// TestReplicasAgree asks two replicas by turns: a logout, a revoked session, a changed password and
// the limit of failed logins, and an account's deletion hold on the other one with the very next request.
func TestReplicasAgree(t *testing.T) {
	c := open(t)
	c.ready(t, c.sample())
	pods := c.apiPods(t, c.namespace, c.name)
	if len(pods) < 2 {
		t.Fatalf("%d pods, the sample must have 2", len(pods))
	}
	var replicas []*notesClient
	for _, pod := range pods[:2] {
		address, _ := forward(t, c.namespace, "pod/"+pod.Name, "8443")
		replicas = append(replicas, c.clientAt(t, "https://localhost:"+port(address)))
	}
	a, b := replicas[0], replicas[1]
	var credentials map[string]string
	register := func() {
		credentials = map[string]string{"username": "replica-" + rand.Text()[:10], "password": rand.Text()}
		a.must(t, http.StatusCreated, http.MethodPost, "/api/auth/register", credentials)
	}
	login := func(n *notesClient) string {
		return n.must(t, http.StatusOK, http.MethodPost, "/api/auth/login", credentials)["token"].(string)
	}

	register()
	a.token = login(a)
	b.token = a.token
	b.must(t, http.StatusOK, http.MethodGet, "/api/notes", nil)
	a.must(t, http.StatusOK, http.MethodDelete, "/api/account", map[string]string{"password": credentials["password"]})
	b.mustNow(t, http.StatusUnauthorized, http.MethodGet, "/api/notes", nil)
	register()

	a.token = login(a)
	b.token = a.token
	b.must(t, http.StatusOK, http.MethodGet, "/api/notes", nil)
	a.must(t, http.StatusOK, http.MethodPost, "/api/auth/logout", nil)
	b.mustNow(t, http.StatusUnauthorized, http.MethodGet, "/api/notes", nil)

	a.token, b.token = login(a), login(b)
	for _, session := range a.must(t, http.StatusOK, http.MethodGet, "/api/auth/sessions", nil)["sessions"].([]any) {
		if s := session.(map[string]any); s["current"] != true {
			a.must(t, http.StatusOK, http.MethodDelete, "/api/auth/sessions/"+s["id"].(string), map[string]string{"password": credentials["password"]})
		}
	}
	b.mustNow(t, http.StatusUnauthorized, http.MethodGet, "/api/notes", nil)

	b.token = login(b)
	replacement := rand.Text()
	a.must(t, http.StatusOK, http.MethodPost, "/api/auth/password",
		map[string]string{"current_password": credentials["password"], "new_password": replacement})
	b.mustNow(t, http.StatusUnauthorized, http.MethodGet, "/api/notes", nil)
	credentials["password"] = replacement
	b.token = login(b)

	wrong := map[string]string{"username": credentials["username"], "password": "wrong horse battery"}
	for _, n := range []*notesClient{a, b, a, b, a} {
		n.must(t, http.StatusUnauthorized, http.MethodPost, "/api/auth/login", wrong)
	}
	for _, n := range []*notesClient{b, a} {
		n.must(t, http.StatusTooManyRequests, http.MethodPost, "/api/auth/login", credentials)
	}
}
