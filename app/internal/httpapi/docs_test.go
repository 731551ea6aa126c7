package httpapi_test

import (
	"bytes"
	"io"
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/getkin/kin-openapi/openapi3"
	"golang.org/x/net/html"

	"github.com/securenotes/securenotes/app/internal/httpapi"
	"github.com/securenotes/securenotes/app/internal/ratelimit"
	"github.com/securenotes/securenotes/app/internal/storetest"
)

// page fetches an answer that is not JSON.
func (s *service) page(t *testing.T, path string) (status int, kind string, body []byte) {
	t.Helper()
	response, err := s.Client().Get(s.URL + path)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	if body, err = io.ReadAll(response.Body); err != nil {
		t.Fatal(err)
	}
	return response.StatusCode, response.Header.Get("Content-Type"), body
}

func TestDocsAreServed(t *testing.T) {
	storetest.Each(t, func(t *testing.T, open storetest.Open) {
		s := newService(t, open, true)
		for path, want := range map[string]string{"/docs": "text/html; charset=utf-8", "/docs/style.css": "text/css; charset=utf-8"} {
			if status, kind, raw := s.page(t, path); status != http.StatusOK || kind != want || len(raw) == 0 {
				t.Errorf("%s: status %d, content type %q, %d bytes", path, status, kind, len(raw))
			}
		}
	})
}

func TestDocsAreLimitedByAddress(t *testing.T) {
	storetest.Each(t, func(t *testing.T, open storetest.Open) {
		s := newService(t, open, true, func(s *httpapi.Service) { s.Requests = ratelimit.NewRequests(1) })
		s.page(t, "/docs")
		if status, _, _ := s.page(t, "/docs"); status != http.StatusTooManyRequests {
			t.Errorf("the second request of one allowed: status %d", status)
		}
		s.call(t, "GET", "/api/openapi.yaml", "", "").want(t, "the document, of the same address", 429, "Too many requests, try again later")
	})
}

// TestDocsNeedNoMoreThanTheirOrigin: a browser that enforces the Content-Security-Policy shows the
// whole page, and the page sends no request to another site.
func TestDocsNeedNoMoreThanTheirOrigin(t *testing.T) {
	storetest.Each(t, func(t *testing.T, open storetest.Open) {
		s := newService(t, open, true)
		_, _, raw := s.page(t, "/docs")
		root, err := html.Parse(bytes.NewReader(raw))
		if err != nil {
			t.Fatal(err)
		}
		ids, references := map[string]bool{}, []string{}
		for node := range root.Descendants() {
			if node.Type != html.ElementNode {
				continue
			}
			if slices.Contains([]string{"script", "style", "iframe", "object", "embed", "img", "form", "base"}, node.Data) {
				t.Errorf("the page has a <%s>", node.Data)
			}
			for _, attribute := range node.Attr {
				switch name := attribute.Key; {
				case name == "id" && ids[attribute.Val]:
					t.Errorf("two elements have the id %s", attribute.Val)
				case name == "id":
					ids[attribute.Val] = true
				case name == "href", name == "src":
					references = append(references, attribute.Val)
				case name == "style", strings.HasPrefix(name, "on"):
					t.Errorf("a <%s> has the attribute %s", node.Data, name)
				}
			}
		}
		for _, reference := range references {
			if fragment, ok := strings.CutPrefix(reference, "#"); ok {
				if !ids[fragment] {
					t.Errorf("the link %s leads nowhere", reference)
				}
				continue
			}
			if !strings.HasPrefix(reference, "/") || strings.HasPrefix(reference, "//") {
				t.Errorf("%s is of another origin", reference)
				continue
			}
			if status, _, _ := s.page(t, reference); status != http.StatusOK {
				t.Errorf("%s: status %d", reference, status)
			}
		}
		_, _, style := s.page(t, "/docs/style.css")
		for _, loads := range []string{"url(", "@import"} {
			if bytes.Contains(style, []byte(loads)) {
				t.Errorf("the stylesheet has %s", loads)
			}
		}
	})
}

func TestDocsShowEveryOperation(t *testing.T) {
	storetest.Each(t, func(t *testing.T, open storetest.Open) {
		s := newService(t, open, true)
		_, _, raw := s.page(t, "/docs")
		doc, err := openapi3.NewLoader().LoadFromData(httpapi.OpenAPI)
		if err != nil {
			t.Fatal(err)
		}
		for path, item := range doc.Paths.Map() {
			for method, operation := range item.Operations() {
				for _, text := range []string{operation.OperationID, path, operation.Summary} {
					if !bytes.Contains(raw, []byte(">"+html.EscapeString(text))) {
						t.Errorf("%s %s: the page does not have %q: run `make generate`", method, path, text)
					}
				}
			}
		}
	})
}
