package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/getkin/kin-openapi/openapi3"
	"golang.org/x/text/language"
	"golang.org/x/text/message"
)

// field is a member of an object, a parameter or a header. The name of a member is its path:
// sessions[].id is the id of each session.
type field struct {
	Name, Type, Limits, Description string
	// In is the location of a parameter.
	In       string
	Required bool
}

const schemaPrefix = "#/components/schemas/"

// schemaName returns the name of the object that ref points to, or "".
func schemaName(ref *openapi3.SchemaRef) string {
	if name, ok := strings.CutPrefix(ref.Ref, schemaPrefix); ok && ref.Value.Type.Is(openapi3.TypeObject) {
		return name
	}
	return ""
}

// fields lists the members of an object. The members of an inner object follow that object.
func fields(ref *openapi3.SchemaRef) ([]field, error) {
	return appendFields(nil, "", ref, 0)
}

// maxDepth limits schemas that contain themselves.
const maxDepth = 8

func appendFields(rows []field, prefix string, ref *openapi3.SchemaRef, depth int) ([]field, error) {
	if depth > maxDepth {
		return nil, fmt.Errorf("field %s is nested more than %d levels deep: the page cannot show a schema that contains itself", prefix, maxDepth)
	}
	if ref.Value.Type.Includes(openapi3.TypeArray) && ref.Value.Items != nil {
		return appendFields(rows, prefix+"[]", ref.Value.Items, depth+1)
	}
	properties := ref.Value.Properties
	for _, name := range inOrder(properties, func(p *openapi3.SchemaRef) *openapi3.Origin { return p.Origin }) {
		path := strings.TrimPrefix(prefix+"."+name, ".")
		kind, limits, err := describe(properties[name])
		if err != nil {
			return nil, fmt.Errorf("field %s: %w", path, err)
		}
		rows = append(rows, field{
			Name: path, Type: kind, Limits: limits, Description: properties[name].Value.Description,
			Required: slices.Contains(ref.Value.Required, name),
		})
		if rows, err = appendFields(rows, path, properties[name], depth+1); err != nil {
			return nil, err
		}
	}
	return rows, nil
}

// describe describes in words which values a schema allows.
func describe(ref *openapi3.SchemaRef) (kind, limits string, err error) {
	if ref == nil {
		return "", "", errors.New("the schema is missing: add at least its type")
	}
	s := ref.Value
	if len(s.OneOf)+len(s.AnyOf)+len(s.AllOf) > 0 || s.Not != nil {
		return "", "", errors.New("hack/apidocs does not support oneOf, anyOf, allOf and not: write the schema without them, or extend fields.go")
	}
	var parts []string
	kinds := slices.DeleteFunc(slices.Clone(s.Type.Slice()), func(k string) bool { return k == openapi3.TypeNull })
	kind = strings.Join(kinds, " or ")
	switch {
	case kind == openapi3.TypeArray && s.Items != nil:
		of, each, err := describe(s.Items)
		if err != nil {
			return "", "", err
		}
		kind = "array of " + of
		parts = append(parts, bounds(s.MinItems, s.MaxItems, "items"))
		if each != "" {
			parts = append(parts, "each "+each)
		}
	case s.Format != "":
		kind += " (" + s.Format + ")"
	}
	if s.Type.IncludesNull() {
		kind += ", or null"
	}
	parts = append(parts, bounds(s.MinLength, s.MaxLength, "characters"), numberBounds(s))
	if s.Pattern != "" {
		parts = append(parts, "matches `"+s.Pattern+"`")
	}
	if len(s.Enum) > 0 {
		values, err := literals(s.Enum)
		if err != nil {
			return "", "", err
		}
		parts = append(parts, "one of "+values)
	}
	if s.Default != nil {
		value, err := literals([]any{s.Default})
		if err != nil {
			return "", "", err
		}
		parts = append(parts, value+" when left out")
	}
	parts = slices.DeleteFunc(parts, func(part string) bool { return part == "" })
	return kind, strings.Join(parts, ", "), nil
}

func bounds(least uint64, most *uint64, of string) string {
	p := message.NewPrinter(language.English)
	switch {
	case most != nil && least > 0:
		return p.Sprintf("%d to %d %s", least, *most, of)
	case most != nil:
		return p.Sprintf("at most %d %s", *most, of)
	case least > 0:
		return p.Sprintf("at least %d %s", least, of)
	}
	return ""
}

func numberBounds(s *openapi3.Schema) string {
	p := message.NewPrinter(language.English)
	switch {
	case s.Min != nil && s.Max != nil:
		return p.Sprintf("%v to %v", *s.Min, *s.Max)
	case s.Max != nil:
		return p.Sprintf("at most %v", *s.Max)
	case s.Min != nil:
		return p.Sprintf("at least %v", *s.Min)
	}
	return ""
}

func literals(values []any) (string, error) {
	var all []string
	for _, value := range values {
		raw, err := json.Marshal(value)
		if err != nil {
			return "", err
		}
		all = append(all, "`"+string(raw)+"`")
	}
	return strings.Join(all, ", "), nil
}
