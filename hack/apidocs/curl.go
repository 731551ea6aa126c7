package main

import (
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strings"

	"github.com/getkin/kin-openapi/openapi3"
)

// curl returns a command that makes the call with only the required parameters. URL, CA and TOKEN
// come from the README; other variables are parameters of the path.
func curl(method, path string, token bool, parameters openapi3.Parameters, requestBody *openapi3.RequestBodyRef) (string, error) {
	var query, headers []string
	for _, ref := range parameters {
		p := ref.Value
		variable := "$" + shellName(p.Name)
		switch {
		case p.In == openapi3.ParameterInPath:
			path = strings.ReplaceAll(path, "{"+p.Name+"}", variable)
		case p.In == openapi3.ParameterInQuery && p.Required:
			query = append(query, p.Name+"="+variable)
		case p.In == openapi3.ParameterInHeader && p.Required:
			headers = append(headers, `-H "`+p.Name+": "+variable+`"`)
		}
	}
	if len(query) > 0 {
		path += "?" + strings.Join(query, "&")
	}
	words := []string{`curl --cacert "$CA"`}
	if method != http.MethodGet {
		words[0] += " -X " + method
	}
	words[0] += ` "$URL` + path + `"`
	if token {
		words = append(words, `-H "Authorization: Bearer $TOKEN"`)
	}
	words = append(words, headers...)
	if requestBody != nil {
		for mediaType, content := range requestBody.Value.Content {
			example, err := exampleOf(content.Schema, "")
			if err != nil {
				return "", fmt.Errorf("example of the request body: %w", err)
			}
			words = append(words, `-H "Content-Type: `+mediaType+`"`, "-d '"+strings.ReplaceAll(example, "'", `'\''`)+"'")
		}
	}
	return strings.Join(words, " \\\n  "), nil
}

func shellName(name string) string {
	return strings.ToUpper(strings.ReplaceAll(name, "-", "_"))
}

// exampleOf returns a JSON value that the schema allows: the schema's own example, or one derived
// from the field's name. An object gets only the required members.
func exampleOf(ref *openapi3.SchemaRef, name string) (string, error) {
	s := ref.Value
	for _, given := range append(slices.Clone(s.Examples), s.Example, s.Const, s.Default) {
		if given != nil {
			raw, err := json.Marshal(given)
			return string(raw), err
		}
	}
	switch {
	case len(s.Enum) > 0:
		raw, err := json.Marshal(s.Enum[0])
		return string(raw), err
	case s.Type.Is(openapi3.TypeObject):
		var members []string
		for _, member := range inOrder(s.Properties, func(p *openapi3.SchemaRef) *openapi3.Origin { return p.Origin }) {
			if !slices.Contains(s.Required, member) {
				continue
			}
			value, err := exampleOf(s.Properties[member], member)
			if err != nil {
				return "", err
			}
			members = append(members, fmt.Sprintf("%q: %s", member, value))
		}
		return "{" + strings.Join(members, ", ") + "}", nil
	case s.Type.Is(openapi3.TypeArray):
		value, err := exampleOf(s.Items, name)
		return "[" + value + "]", err
	case s.Type.Includes(openapi3.TypeString):
		return fmt.Sprintf("%q", shellName(name)), nil
	case s.Type.Includes(openapi3.TypeBoolean):
		return "false", nil
	case s.Type.Includes(openapi3.TypeInteger), s.Type.Includes(openapi3.TypeNumber):
		if s.Min != nil {
			return fmt.Sprint(*s.Min), nil
		}
		return "0", nil
	}
	return "", fmt.Errorf("the schema of %s has no type: add a type, or an example", name)
}
