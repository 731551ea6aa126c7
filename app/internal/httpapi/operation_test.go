package httpapi_test

import (
	"slices"

	"github.com/getkin/kin-openapi/openapi3"
)

// operation is one of the document's.
type operation struct {
	*openapi3.Operation
	method, path string
	parameters   openapi3.Parameters
}

// needsCode says whether the request needs a text that only the service and the user's device can make: one
// with a pattern.
func (o operation) needsCode() bool {
	schema := o.body()
	return schema != nil && slices.ContainsFunc(schema.Required, func(name string) bool {
		return schema.Properties[name] != nil && schema.Properties[name].Value.Pattern != ""
	})
}

// canFail says whether the document has an answer to a faulty request.
func (o operation) canFail() bool {
	return slices.ContainsFunc(sortedNames(o.Responses.Map()), func(status string) bool { return status[0] == '4' && status != "429" })
}

// body is the schema of the JSON that the operation takes, or nil.
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
