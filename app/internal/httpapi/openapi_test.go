package httpapi_test

import (
	"bytes"
	"context"
	"io"
	"net/http"
	"strings"
	"sync"
	"testing"

	"github.com/getkin/kin-openapi/openapi3"
	"github.com/getkin/kin-openapi/openapi3filter"
	"github.com/getkin/kin-openapi/routers"
	"github.com/getkin/kin-openapi/routers/gorillamux"

	"github.com/securenotes/securenotes/app/internal/httpapi"
	"github.com/securenotes/securenotes/app/internal/storetest"
)

var document = sync.OnceValues(func() (routers.Router, error) {
	doc, err := openapi3.NewLoader().LoadFromData(httpapi.OpenAPI)
	if err != nil {
		return nil, err
	}
	if err := doc.Validate(context.Background()); err != nil {
		return nil, err
	}
	// In the document an export is text. Its lines are only described in words.
	openapi3filter.RegisterBodyDecoder("application/x-ndjson", openapi3filter.PlainBodyDecoder)
	return gorillamux.NewRouter(doc)
})

// conforms checks an exchange against the document. It is an error if the document does not
// describe the answer, or forbids a request that succeeds or that is meant to be valid.
func conforms(t testing.TB, request *http.Request, body string, response *http.Response, answered []byte, valid bool) {
	t.Helper()
	router, err := document()
	if err != nil {
		t.Fatalf("openapi.yaml: %v", err)
	}
	what := request.Method + " " + request.URL.Path
	described := request.Clone(context.Background())
	described.URL.Scheme, described.URL.Host, described.Host = "", "", ""
	if described.Method == http.MethodHead {
		if len(answered) == 0 { // there is no body to check
			return
		}
		described.Method = http.MethodGet
	}
	route, parameters, err := router.FindRoute(described)
	if err != nil {
		if response.StatusCode != http.StatusNotFound && response.StatusCode != http.StatusMethodNotAllowed {
			t.Errorf("%s: status %d, but the document has no such operation: %v", what, response.StatusCode, err)
		}
		return
	}
	described.Body = io.NopCloser(strings.NewReader(body))
	described.Header.Set("Content-Type", "application/json")
	input := &openapi3filter.RequestValidationInput{
		Request: described, PathParams: parameters, Route: route,
		Options: &openapi3filter.Options{AuthenticationFunc: openapi3filter.NoopAuthenticationFunc, IncludeResponseStatus: true},
	}
	if response.StatusCode < http.StatusMultipleChoices || valid {
		if err := openapi3filter.ValidateRequest(context.Background(), input); err != nil {
			t.Errorf("%s: answered %d, but the document forbids the request: %v", what, response.StatusCode, err)
		}
	}
	output := &openapi3filter.ResponseValidationInput{
		RequestValidationInput: input, Status: response.StatusCode, Header: response.Header, Options: input.Options,
		Body: io.NopCloser(bytes.NewReader(answered)),
	}
	if err := openapi3filter.ValidateResponse(context.Background(), output); err != nil {
		t.Errorf("%s: the document does not describe the answer: %v", what, err)
	}
}

func TestDocumentIsServed(t *testing.T) {
	storetest.Each(t, func(t *testing.T, open storetest.Open) {
		s := newService(t, open, true)
		response, err := s.Client().Get(s.URL + "/api/openapi.yaml")
		if err != nil {
			t.Fatal(err)
		}
		defer response.Body.Close()
		raw, err := io.ReadAll(response.Body)
		if err != nil || response.StatusCode != http.StatusOK || !bytes.Equal(raw, httpapi.OpenAPI) {
			t.Errorf("status %d, %d bytes, %v", response.StatusCode, len(raw), err)
		}
	})
}
