package httpapi_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"strings"

	"github.com/getkin/kin-openapi/openapi3"
)

// request is a request before it is sent. The path is escaped.
type request struct {
	method, path, query, token, body string
	header                           http.Header
}

func (r request) String() string {
	return fmt.Sprintf("%s %s?%s\n%v\n%.2000q", r.method, r.path, r.query, r.header, r.body)
}

// The part of a request that has a fault. A request has one fault at a time, because one could hide
// that another is accepted.
const (
	nowhere = iota
	inParameter
	inBody
	around
)

// newRequest returns a request of the operation that follows the choices.
func (w *world) newRequest(g *generator, o operation, user *tenant) request {
	r := request{method: o.method, header: http.Header{}, token: user.token}
	schema := o.body()
	places := []int{nowhere, nowhere, around}
	if len(o.parameters) > 0 {
		places = append(places, inParameter, inParameter)
	}
	if schema != nil {
		places = append(places, inBody, inBody, inBody)
	}
	fault := choose(g.choices, places)
	faulty := -1
	if fault == inParameter {
		faulty = g.below(len(o.parameters))
	}
	inPath, query := map[string]string{}, url.Values{}
	for i, ref := range o.parameters {
		p := ref.Value
		if !p.Required && i != faulty && g.oneIn(2) {
			continue
		}
		text := unquoted(g.value(p.Schema, p.Name))
		if i == faulty {
			text = choose(g.choices, []string{unquoted(g.outside(p.Schema, p.Name)), choose(g.choices, oddTexts)})
		}
		switch p.In {
		case openapi3.ParameterInPath:
			inPath[p.Name] = text
		case openapi3.ParameterInQuery:
			query.Add(p.Name, text)
			if i == faulty && g.oneIn(4) {
				query.Add(p.Name, choose(g.choices, oddTexts))
			}
		case openapi3.ParameterInHeader:
			r.header.Add(p.Name, text)
		}
	}
	r.path, r.query = escaped(o.path, inPath), query.Encode()
	if schema != nil {
		members := g.members(schema)
		r.body = object(members)
		if fault == inBody {
			r.body = g.mutate(schema, members)
		}
	}
	if fault == around {
		w.disturb(g, &r)
	}
	return r
}

// unquoted returns a JSON value in the form of a parameter.
func unquoted(value string) string {
	var text string
	if json.Unmarshal([]byte(value), &text) == nil {
		return text
	}
	return value
}

// disturb changes parts of the request other than the parameters and the body.
func (w *world) disturb(g *generator, r *request) {
	switch g.below(5) {
	case 0:
		token := r.token
		r.token = ""
		r.header.Set("Authorization", choose(g.choices, []string{
			"", "Bearer", "Bearer ", "Bearer " + w.ended, "bearer " + token, "Bearer  " + token, "Basic " + token, token, "Bearer a.b.c.d.e",
			"Bearer " + token + "x", "Bearer " + token[:len(token)/2], "Bearer " + strings.Repeat("x", 10_000), "Bearer \xff",
		}))
	case 1:
		header := choose(g.choices, [][2]string{
			{"Content-Type", ""}, {"Content-Type", "text/plain"}, {"Content-Type", "application/xml"}, {"Content-Type", "multipart/form-data; boundary=x"},
			{"Content-Type", "application/json; charset=utf-16"}, {"Content-Encoding", "gzip"}, {"Accept", "application/xml"}, {"Range", "bytes=0-1"},
			{"If-Match", choose(g.choices, oddTexts)}, {"If-None-Match", "*"}, {"X-Http-Method-Override", "DELETE"}, {"X-Request-Id", canary},
			{"X-Forwarded-For", canary}, {"X-Forwarded-For", "::1%" + canary}, {"Origin", "https://app.example.com"}, {"Cookie", "token=" + r.token},
		})
		r.header.Set(header[0], header[1])
	case 2:
		r.query += choose(g.choices, []string{"&" + canary + "=1", "&%zz", ";", "&&&=", "&limit[]=1", "&" + strings.Repeat("a&", 1_000)})
	case 3:
		r.method = choose(g.choices, []string{http.MethodHead, http.MethodPatch, http.MethodOptions, http.MethodTrace, "PROPFIND"})
	case 4: // an unexpected body, or a missing one
		if r.body != "" {
			r.body = ""
		} else {
			r.body = choose(g.choices, oddValues)
		}
	}
}

// headerValue returns the part of a text that a client can send in a header. net/http refuses
// requests with other bytes before the handler sees them.
func headerValue(text string) string {
	return strings.TrimSpace(strings.Map(func(r rune) rune {
		if r < ' ' || r == 0x7f {
			return -1
		}
		return r
	}, text))
}
