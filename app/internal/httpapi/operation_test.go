package httpapi_test

import (
	"slices"

	"github.com/getkin/kin-openapi/openapi3"
)

// operation is an operation of the document.
type operation struct {
	*openapi3.Operation
	method, path string
	parameters   openapi3.Parameters
}

// canFail reports whether the document has an answer to an invalid request.
func (o operation) canFail() bool {
	return slices.ContainsFunc(sortedNames(o.Responses.Map()), func(status string) bool { return status[0] == '4' && status != "429" })
}

// body returns the schema of the operation's JSON body, or nil.
func (o operation) body() *openapi3.Schema {
	if o.RequestBody == nil {
		return nil
	}
	content := o.RequestBody.Value.Content["application/json"]
	if content == nil {
		return nil
	}
	return content.Schema.Value
}
