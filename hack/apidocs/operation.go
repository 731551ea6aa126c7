package main

import (
	"fmt"
	"net/http"
	"strconv"

	"github.com/getkin/kin-openapi/openapi3"
)

type operation struct {
	ID, Anchor, Method, Path, Summary, Description string
	// Token is true if the call needs a token.
	Token      bool
	Parameters []field
	// Body is nil if the call has no body.
	Body    *body
	Answers []answer
	Curl    string
}

// body is the content of a request or an answer: fields, or a link to a named schema.
type body struct {
	MediaType, Type, Schema, SchemaAnchor string
	Fields                                []field
}

type answer struct {
	Status, Reason, Description string
	Headers                     []field
	Body                        *body
}

func newOperation(doc *openapi3.T, item *openapi3.PathItem, path, method string, o *openapi3.Operation) (operation, error) {
	result := operation{
		ID: o.OperationID, Anchor: anchor("operation", o.OperationID), Method: method, Path: path,
		Summary: o.Summary, Description: o.Description, Token: len(doc.Security) > 0,
	}
	if o.Security != nil {
		result.Token = len(*o.Security) > 0
	}
	parameters := append(append(openapi3.Parameters{}, item.Parameters...), o.Parameters...)
	for _, ref := range parameters {
		p, err := newParameter(ref.Value, ref.Value.Name)
		if err != nil {
			return operation{}, err
		}
		result.Parameters = append(result.Parameters, p)
	}
	var err error
	if o.RequestBody != nil {
		if result.Body, err = newBody(o.RequestBody.Value.Content); err != nil {
			return operation{}, fmt.Errorf("request body: %w", err)
		}
	}
	responses := o.Responses.Map()
	for _, status := range sortedKeys(responses) {
		a, err := newAnswer(status, responses[status].Value)
		if err != nil {
			return operation{}, fmt.Errorf("answer %s: %w", status, err)
		}
		result.Answers = append(result.Answers, a)
	}
	result.Curl, err = curl(method, path, result.Token, parameters, o.RequestBody)
	return result, err
}

func newParameter(p *openapi3.Parameter, name string) (field, error) {
	kind, limits, err := describe(p.Schema)
	if err != nil {
		return field{}, fmt.Errorf("parameter %s: %w", name, err)
	}
	return field{Name: name, In: p.In, Type: kind, Limits: limits, Description: p.Description, Required: p.Required}, nil
}

func newAnswer(status string, response *openapi3.Response) (answer, error) {
	result := answer{Status: status}
	if code, err := strconv.Atoi(status); err == nil {
		result.Reason = http.StatusText(code)
	}
	if response.Description != nil {
		result.Description = *response.Description
	}
	for _, name := range sortedKeys(response.Headers) {
		header, err := newParameter(&response.Headers[name].Value.Parameter, name)
		if err != nil {
			return answer{}, err
		}
		result.Headers = append(result.Headers, header)
	}
	var err error
	result.Body, err = newBody(response.Content)
	return result, err
}

// newBody returns the first media type, because the API has only one for each body. It returns nil
// if there is no content.
func newBody(content openapi3.Content) (*body, error) {
	if len(content) == 0 {
		return nil, nil
	}
	mediaType := sortedKeys(content)[0]
	ref := content[mediaType].Schema
	kind, _, err := describe(ref)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", mediaType, err)
	}
	result := &body{MediaType: mediaType, Type: kind}
	if name := schemaName(ref); name != "" {
		result.Schema, result.SchemaAnchor = name, anchor("schema", name)
		return result, nil
	}
	result.Fields, err = fields(ref)
	return result, err
}
