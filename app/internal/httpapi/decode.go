package httpapi

import (
	"context"
	"errors"
	"net/http"
	"os"
	"strconv"
	"strings"

	"github.com/gin-gonic/gin"
	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"

	"github.com/securenotes/securenotes/app/internal/notes"
)

// decode reads the request's body into a struct: one JSON object (RFC 8259, as restricted by I-JSON,
// RFC 7493) with known fields only, each once and of its type, in valid UTF-8, and nothing after it.
// On failure it has answered, and named the field.
func decode(c *gin.Context, into any) bool {
	err := json.UnmarshalRead(c.Request.Body, into, json.RejectUnknownMembers(true))
	if err == nil {
		// What is left of the request's time after a slow body is not enough to work.
		err = c.Request.Context().Err()
	}
	if err == nil {
		return true
	}
	var (
		tooLarge *http.MaxBytesError
		semantic *json.SemanticError
		syntax   *jsontext.SyntacticError
	)
	switch {
	case errors.Is(err, os.ErrDeadlineExceeded), errors.Is(err, context.DeadlineExceeded):
		failUnread(c, http.StatusRequestTimeout, "The request body arrives too slowly")
	case errors.Is(err, errOwnShare):
		c.Header("Retry-After", strconv.Itoa(retryAfter))
		failUnread(c, http.StatusTooManyRequests, ownShare)
	case errors.Is(err, errBusy):
		failUnread(c, http.StatusServiceUnavailable, busy)
	case errors.Is(err, notes.ErrInvalidTags):
		fail(c, http.StatusBadRequest, notes.ErrInvalidTags.Error())
	case errors.As(err, &tooLarge):
		fail(c, http.StatusRequestEntityTooLarge, "The request body is too large")
	case errors.Is(err, json.ErrUnknownName) && errors.As(err, &semantic):
		fail(c, http.StatusBadRequest, "Field "+field(semantic.JSONPointer)+" is not known here")
	case errors.Is(err, jsontext.ErrDuplicateName) && errors.As(err, &syntax):
		fail(c, http.StatusBadRequest, "Field "+field(syntax.JSONPointer)+" is given twice")
	case errors.As(err, &semantic) && semantic.JSONPointer != "":
		fail(c, http.StatusBadRequest, "Field "+field(semantic.JSONPointer)+" has the wrong type")
	case errors.As(err, &syntax) && syntax.Err.Error() == tooDeep:
		fail(c, http.StatusBadRequest, "Field "+topField(syntax.JSONPointer)+" is nested too deeply")
	case errors.As(err, &syntax) && strings.HasSuffix(syntax.Err.Error(), afterTheValue):
		fail(c, http.StatusBadRequest, "There is data after the JSON object")
	case errors.As(err, &syntax) && syntax.JSONPointer != "":
		fail(c, http.StatusBadRequest, "Field "+field(syntax.JSONPointer)+" is not valid JSON")
	default:
		fail(c, http.StatusBadRequest, "The request body is not the JSON object that is expected here")
	}
	return false
}

// failUnread is fail for a request whose body is not read to its end. Without closing the
// connection, net/http would read on, and answer when the client is done.
func failUnread(c *gin.Context, status int, message string) {
	c.Header("Connection", "close")
	fail(c, status, message)
}

// What the JSON library says of errors that it has no name for.
const (
	tooDeep       = "exceeded max depth"
	afterTheValue = " after top-level value"
)

// topField is the field of the body's own object that a pointer leads into.
func topField(pointer jsontext.Pointer) string {
	for name := range pointer.Tokens() {
		return field(jsontext.Pointer("").AppendToken(name))
	}
	return ""
}

// maxFieldName bounds how much of a client's own text an error repeats, in bytes.
const maxFieldName = 64

// field is a pointer's path as clients write it, cut to a bound.
func field(pointer jsontext.Pointer) string {
	name := strings.ReplaceAll(strings.TrimPrefix(string(pointer), "/"), "/", ".")
	if len(name) > maxFieldName {
		name = strings.ToValidUTF8(name[:maxFieldName], "") + "..."
	}
	return name
}
