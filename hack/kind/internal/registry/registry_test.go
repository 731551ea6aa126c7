package registry

import (
	"context"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
)

// TestAnswers checks that only a registry's answer counts, also one that requires a login, like
// Docker Hub's.
func TestAnswers(t *testing.T) {
	serve := func(status int, header string) string {
		server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			if header != "" {
				w.Header().Set(header, "registry/2.0")
			}
			w.WriteHeader(status)
		}))
		t.Cleanup(server.Close)
		return server.URL + "/v2/"
	}
	gone := httptest.NewServer(http.NotFoundHandler())
	gone.Close()
	for name, tc := range map[string]struct {
		url string
		yes bool
		why string
	}{
		"open registry":       {url: serve(http.StatusOK, "Docker-Distribution-Api-Version"), yes: true, why: "answers"},
		"registry with login": {url: serve(http.StatusUnauthorized, "Docker-Distribution-Api-Version"), yes: true, why: "answers"},
		"proxy that refuses":  {url: serve(http.StatusForbidden, ""), why: "no registry"},
		"captive portal":      {url: serve(http.StatusOK, ""), why: "no registry"},
		"nobody":              {url: gone.URL + "/v2/", why: "does not answer"},
	} {
		if yes, why := answers(context.Background(), tc.url); yes != tc.yes || !strings.Contains(why, tc.why) {
			t.Errorf("%s: %v, %q; want %v, %q", name, yes, why, tc.yes, tc.why)
		}
	}
}
