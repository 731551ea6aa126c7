package notesclient

import (
	"encoding/json"
	"errors"
	"fmt"
)

// StatusError is an error answer of the service.
type StatusError struct {
	Method, Path string
	// Status is the HTTP status code.
	Status int
	// Message is the error text of the answer.
	Message string
	// RetryAfter is the header Retry-After, or "" if there is none.
	RetryAfter string
}

func (e *StatusError) Error() string {
	return fmt.Sprintf("%s %s: status %d: %s", e.Method, e.Path, e.Status, e.Message)
}

// newStatusError returns a StatusError for an answer of the service. For an answer in another
// format, such as that of a proxy, it returns an ordinary error: such an answer does not say what
// the service did.
func newStatusError(r Request, a *Answer) error {
	e := &StatusError{Method: r.Method, Path: r.Path, Status: a.Status, RetryAfter: a.Header.Get("Retry-After")}
	var body map[string]any
	if err := json.Unmarshal(a.Body, &body); err != nil {
		return fmt.Errorf("%s %s: status %d with a body that is not the service's: %w", r.Method, r.Path, a.Status, err)
	}
	e.Message, _ = body["error"].(string)
	return e
}

// Status returns the status code of the StatusError in err's chain, and 0 if there is none.
func Status(err error) int {
	if e, ok := errors.AsType[*StatusError](err); ok {
		return e.Status
	}
	return 0
}
