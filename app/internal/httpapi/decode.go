package httpapi

import (
	"context"
	"errors"
	"net/http"
	"os"
	"strings"

	"github.com/gin-gonic/gin"
	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"

	"github.com/securenotes/securenotes/app/config/truncate"
	"github.com/securenotes/securenotes/app/internal/notes"
)

// decode reads the request's body into a struct: one JSON object (RFC 8259, as restricted by
// I-JSON, RFC 7493) with known fields only, each once and of its type, in valid UTF-8, and nothing
// after it. An error names the field.
//
// It uses the experimental json/v2, because encoding/json accepts duplicate names and invalid
// UTF-8, and does not say where an unknown field is. Answers need none of that, and are encoded by
// encoding/json, which gin uses.
func decode(c *gin.Context, into any) error {
	err := json.UnmarshalRead(c.Request.Body, into, json.RejectUnknownMembers(true))
	if err == nil {
		// A slow body may have used up the time of the request.
		err = c.Request.Context().Err()
	}
	if err != nil {
		return decodeError(err)
	}
	return nil
}

// decodeError returns the answer to a body that could not be read or decoded.
func decodeError(err error) error {
	switch {
	case errors.Is(err, os.ErrDeadlineExceeded), errors.Is(err, context.DeadlineExceeded):
		return unreadBody(http.StatusRequestTimeout, "The request body arrives too slowly")
	case errors.Is(err, errUserBusy):
		e := unreadBody(http.StatusTooManyRequests, userMemoryMessage)
		e.retryAfter = defaultRetryAfter
		return e
	case errors.Is(err, errBusy):
		return unreadBody(http.StatusServiceUnavailable, memoryMessage)
	case errors.Is(err, notes.ErrInvalidTags):
		return notes.ErrInvalidTags
	}
	if _, ok := errors.AsType[*http.MaxBytesError](err); ok {
		return &apiError{status: http.StatusRequestEntityTooLarge, message: "The request body is too large"}
	}
	return badRequest(jsonMessage(err))
}

// unreadBody is the error of a request whose body is not read to its end. net/http would read the
// rest before it sends the answer, unless the connection is closed.
func unreadBody(status int, message string) *apiError {
	return &apiError{status: status, message: message, closeConnection: true}
}

// Texts of the JSON library for errors that it exports no value for.
const (
	maxDepthText      = "exceeded max depth"
	trailingTextEnds  = " after top-level value"
	notAnObjectAnswer = "The request body is not a valid JSON object"
)

// jsonMessage describes what is wrong with a body, for the client.
func jsonMessage(err error) string {
	semantic, isSemantic := errors.AsType[*json.SemanticError](err)
	syntax, isSyntax := errors.AsType[*jsontext.SyntacticError](err)
	switch {
	case isSemantic && errors.Is(err, json.ErrUnknownName):
		return "Field " + field(semantic.JSONPointer) + " is unknown"
	case isSyntax && errors.Is(err, jsontext.ErrDuplicateName):
		return "Field " + field(syntax.JSONPointer) + " is given twice"
	case isSemantic && semantic.JSONPointer != "":
		return "Field " + field(semantic.JSONPointer) + " has the wrong type"
	case isSyntax && syntax.Err.Error() == maxDepthText:
		return "Field " + topField(syntax.JSONPointer) + " is nested too deeply"
	case isSyntax && strings.HasSuffix(syntax.Err.Error(), trailingTextEnds):
		return "There is data after the JSON object"
	case isSyntax && syntax.JSONPointer != "":
		return "Field " + field(syntax.JSONPointer) + " is not valid JSON"
	}
	return notAnObjectAnswer
}

// topField returns the name of the top-level field that a pointer leads into.
func topField(pointer jsontext.Pointer) string {
	for name := range pointer.Tokens() {
		return field(jsontext.Pointer("").AppendToken(name))
	}
	return ""
}

// maxFieldName bounds how much of a client's own text an error repeats, in bytes.
const maxFieldName = 64

// field returns the name of the field that a pointer leads to, shortened if it is long.
func field(pointer jsontext.Pointer) string {
	name := strings.ReplaceAll(strings.TrimPrefix(string(pointer), "/"), "/", ".")
	if len(name) > maxFieldName {
		name = truncate.Bytes(name, maxFieldName) + "..."
	}
	return name
}
