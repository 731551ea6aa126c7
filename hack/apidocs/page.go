package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/getkin/kin-openapi/openapi3"
)

// page is the content of the template, in the order of the document.
type page struct {
	Title, Version, Description string
	Security                    []security
	Groups                      []group
	Schemas                     []schema
}

type security struct{ Name, Kind, Description string }

// group is a tag with its operations.
type group struct {
	Name, Anchor, Description string
	Operations                []operation
}

// schema is a named object that operations point to.
type schema struct {
	Name, Anchor, Description string
	Fields                    []field
}

func newPage(raw []byte) (*page, error) {
	loader := openapi3.NewLoader()
	// Maps have no order, so use the positions in the file.
	loader.IncludeOrigin = true
	doc, err := loader.LoadFromData(raw)
	if err != nil {
		return nil, err
	}
	if err := doc.Validate(context.Background()); err != nil {
		return nil, err
	}
	p := &page{Title: doc.Info.Title, Version: doc.Info.Version, Description: doc.Info.Description}
	if doc.Components == nil {
		return nil, errors.New("the document has no components: the page needs at least a security scheme")
	}
	for _, name := range sortedKeys(doc.Components.SecuritySchemes) {
		s := doc.Components.SecuritySchemes[name].Value
		p.Security = append(p.Security, security{Name: name, Kind: strings.TrimSpace(s.Type + " " + s.Scheme), Description: s.Description})
	}
	if p.Groups, err = groups(doc); err != nil {
		return nil, err
	}
	p.Schemas, err = schemas(doc.Components.Schemas)
	return p, err
}

func groups(doc *openapi3.T) ([]group, error) {
	var all []group
	for _, tag := range doc.Tags {
		all = append(all, group{Name: tag.Name, Anchor: anchor("tag", tag.Name), Description: tag.Description})
	}
	paths := doc.Paths.Map()
	for _, path := range inOrder(paths, func(item *openapi3.PathItem) *openapi3.Origin { return item.Origin }) {
		operations := paths[path].Operations()
		for _, method := range inOrder(operations, func(o *openapi3.Operation) *openapi3.Origin { return o.Origin }) {
			o, err := newOperation(doc, paths[path], path, method, operations[method])
			if err != nil {
				return nil, fmt.Errorf("%s %s: %w", method, path, err)
			}
			of := slices.IndexFunc(all, func(g group) bool { return slices.Contains(operations[method].Tags, g.Name) })
			if of < 0 {
				return nil, fmt.Errorf("%s %s: none of its tags is in the document's list of tags: add one that is", method, path)
			}
			all[of].Operations = append(all[of].Operations, o)
		}
	}
	return all, nil
}

// schemas returns the named objects. The page shows other named schemas where they are used.
func schemas(named openapi3.Schemas) ([]schema, error) {
	var all []schema
	for _, name := range sortedKeys(named) {
		if !named[name].Value.Type.Is(openapi3.TypeObject) {
			continue
		}
		rows, err := fields(named[name])
		if err != nil {
			return nil, fmt.Errorf("schema %s: %w", name, err)
		}
		all = append(all, schema{Name: name, Anchor: anchor("schema", name), Description: named[name].Value.Description, Fields: rows})
	}
	return all, nil
}

// anchor returns an id for a name that is unique among the kinds of elements on the page.
func anchor(kind, name string) string {
	return kind + "-" + strings.ReplaceAll(strings.ToLower(name), " ", "-")
}
