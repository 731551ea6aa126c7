package main

import (
	"bytes"
	_ "embed"
	"fmt"
	"html/template"
	"strings"
)

//go:embed page.html.tmpl
var layout string

// render returns the page of an OpenAPI document. The same document always gives the same bytes.
func render(raw []byte) ([]byte, error) {
	p, err := newPage(raw)
	if err != nil {
		return nil, err
	}
	parsed, err := template.New("page").Funcs(template.FuncMap{"paragraphs": paragraphs, "spans": spans}).Parse(layout)
	if err != nil {
		return nil, fmt.Errorf("page.html.tmpl: %w", err)
	}
	var out bytes.Buffer
	if err := parsed.Execute(&out, p); err != nil {
		return nil, fmt.Errorf("page.html.tmpl: %w", err)
	}
	return out.Bytes(), nil
}

// span is a part of a description. Descriptions are CommonMark, of which they use only paragraphs
// and code.
type span struct {
	Text string
	Code bool
}

func paragraphs(text string) []string {
	var all []string
	for part := range strings.SplitSeq(text, "\n\n") {
		if part = strings.TrimSpace(part); part != "" {
			all = append(all, part)
		}
	}
	return all
}

func spans(text string) []span {
	var all []span
	for i, part := range strings.Split(text, "`") {
		if part != "" {
			all = append(all, span{Text: part, Code: i%2 == 1})
		}
	}
	return all
}
