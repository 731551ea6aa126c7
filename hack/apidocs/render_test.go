package main

import (
	"bytes"
	"os"
	"strings"
	"testing"
)

func checkoutFile(t *testing.T, path string) []byte {
	t.Helper()
	raw, err := os.ReadFile("../../" + path)
	if err != nil {
		t.Fatal(err)
	}
	return raw
}

func TestPageIsCurrent(t *testing.T) {
	html, err := render(checkoutFile(t, source))
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(html, checkoutFile(t, target)) {
		t.Errorf("%s differs from the page for %s: run `make generate`", target, source)
	}
}

func TestRenderIsDeterministic(t *testing.T) {
	raw := checkoutFile(t, source)
	first, err := render(raw)
	if err != nil {
		t.Fatal(err)
	}
	// The iteration order of maps changes each time.
	for range 20 {
		again, err := render(raw)
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(first, again) {
			t.Fatal("the same document gave two different pages")
		}
	}
}

// sample returns a document with one operation, whose request body has the schema.
func sample(schema string) []byte {
	return []byte(`
openapi: 3.1.0
info: {title: Sample, version: v1, description: "With <b>markup</b> and ` + "`code`" + `."}
security: [{token: []}]
tags: [{name: Things}]
paths:
  /things/{thing-id}:
    post:
      tags: [Things]
      operationId: make
      summary: Make a thing
      parameters:
        - {name: thing-id, in: path, required: true, schema: {type: string}}
        - {name: page, in: query, required: true, schema: {type: integer, minimum: 1, maximum: 200, default: 50}}
        - {name: X-Must, in: header, required: true, schema: {type: string, pattern: '^a+$'}}
      requestBody: {content: {application/json: {schema: ` + schema + `}}}
      responses:
        "200": {description: Made., headers: {ETag: {schema: {type: string}}}}
components:
  securitySchemes: {token: {type: http, scheme: bearer}}
  schemas:
    Inner: {type: object, properties: {deep: {type: [string, "null"]}}}
`)
}

func TestRender(t *testing.T) {
	html, err := render(sample(`{type: object, required: [b, a], properties: {` + strings.Join([]string{
		`z: {type: array, maxItems: 1000, items: {$ref: "#/components/schemas/Inner"}}`,
		`b: {type: string, minLength: 1, maxLength: 9, examples: ["it's"]}`,
		`a: {type: integer, enum: [7, 8]}`,
		`words: {type: array, items: {type: string, minLength: 2}}`,
	}, ", ") + `}}`))
	if err != nil {
		t.Fatal(err)
	}
	page := string(html)
	for _, want := range []string{
		"With &lt;b&gt;markup&lt;/b&gt; and <code>code</code>.",
		`<code>z[].deep</code>`, `string, or null`, `array of object</span>, at most 1,000 items`,
		`array of string</span>, each at least 2 characters`, "1 to 9 characters", "one of <code>7</code>, <code>8</code>",
		"1 to 200, <code>50</code> when left out", "matches <code>^a&#43;$</code>", `<code>ETag</code>: string.`, `id="schema-inner"`,
		`-X POST &#34;$URL/things/$THING_ID?page=$PAGE&#34;`, `-H &#34;X-Must: $X_MUST&#34;`, `Bearer $TOKEN`,
		`-d &#39;{&#34;b&#34;: &#34;it&#39;\&#39;&#39;s&#34;, &#34;a&#34;: 7}&#39;`,
	} {
		if !strings.Contains(page, want) {
			t.Errorf("the page does not contain %s", want)
		}
	}
	if strings.Index(page, "<code>z</code>") > strings.Index(page, "<code>a</code>") {
		t.Error("the fields are not in the order of the document")
	}
}

func TestRenderRefuses(t *testing.T) {
	for what, tc := range map[string]struct{ document, message string }{
		"no document":      {document: "openapi: ["},
		"choice of types":  {document: string(sample(`{oneOf: [{type: string}, {type: integer}]}`)), message: "oneOf"},
		"field of choices": {document: string(sample(`{type: object, properties: {a: {anyOf: [{type: string}]}}}`)), message: "field a"},
		"unlisted tag":     {document: strings.Replace(string(sample(`{type: object}`)), "[{name: Things}]", "[{name: Others}]", 1), message: "tags"},
		"endless schema": {document: strings.Replace(string(sample(`{$ref: "#/components/schemas/Inner"}`)),
			`deep: {type: [string, "null"]}`, `deep: {$ref: "#/components/schemas/Inner"}`, 1), message: "contains itself"},
	} {
		t.Run(what, func(t *testing.T) {
			if _, err := render([]byte(tc.document)); err == nil || !strings.Contains(err.Error(), tc.message) {
				t.Errorf("error %v, want one about %q", err, tc.message)
			}
		})
	}
}
