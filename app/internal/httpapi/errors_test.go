package httpapi

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/gin-gonic/gin"
	"github.com/google/go-cmp/cmp"

	"github.com/securenotes/securenotes/app/internal/accounts"
	"github.com/securenotes/securenotes/app/internal/audit"
	"github.com/securenotes/securenotes/app/internal/notes"
	"github.com/securenotes/securenotes/app/internal/ratelimit"
	"github.com/securenotes/securenotes/app/internal/sessions"
	"github.com/securenotes/securenotes/app/internal/store"
)

// TestErrorAnswers: the client gets the public message of an error, and only faults of the service
// have a cause for the log.
func TestErrorAnswers(t *testing.T) {
	type answer struct {
		Status     int
		Message    string
		Logged     bool
		Evidence   evidence
		RetryAfter time.Duration
	}
	for name, tc := range map[string]struct {
		err  error
		want answer
	}{
		"of the domain":            {fmt.Errorf("update note n: %w", notes.ErrStale), answer{Status: 412, Message: "The note was changed by another request", Evidence: sessionLive}},
		"before the session check": {notes.ErrInvalidTags, answer{Status: 400, Message: "Invalid note tags"}},
		"session ended":            {sessions.ErrInvalid, answer{Status: 401, Message: "Invalid token"}},
		"wrong password":           {accounts.ErrInvalidCredentials, answer{Status: 401, Message: "Invalid credentials", Evidence: sessionLive}},
		"wrong password again":     {reauthenticationError(accounts.ErrInvalidCredentials), answer{Status: 403, Message: "Invalid credentials", Evidence: sessionLive}},
		"not about the password":   {reauthenticationError(accounts.ErrBusy), answer{Status: 503, Message: "Too many logins in progress, try again later", Logged: true, Evidence: sessionLive}},
		"invalid password":         {&accounts.InvalidError{Message: "Too short"}, answer{Status: 400, Message: "Too short", Evidence: sessionLive}},
		"quota":                    {&notes.QuotaError{Message: "Full"}, answer{Status: 403, Message: "Full", Evidence: sessionLive}},
		"limit":                    {&ratelimit.LimitedError{RetryAfter: time.Minute}, answer{Status: 429, Message: "Too many requests, try again later", Evidence: sessionLive, RetryAfter: time.Minute}},
		"database":                 {fmt.Errorf("%w: 192.0.2.1 refused", store.ErrUnavailable), answer{Status: 503, Message: databaseMessage, Logged: true, Evidence: serviceDown}},
		"audit log":                {audit.ErrUnavailable, answer{Status: 503, Message: "The audit log cannot be written, try again later", Evidence: serviceDown}},
		"client is gone":           {context.Canceled, answer{Status: 500, Message: internalMessage}},
		"bug":                      {errors.New("secret"), answer{Status: 500, Message: internalMessage, Logged: true}},
	} {
		t.Run(name, func(t *testing.T) {
			e := asAPIError(tc.err)
			got := answer{e.status, e.message, e.cause != nil, e.evidence, e.retryAfter}
			if diff := cmp.Diff(tc.want, got); diff != "" {
				t.Error(diff)
			}
			if tc.want.Logged && !errors.Is(e, tc.err) {
				t.Errorf("the log gets %v, want %v", e, tc.err)
			}
		})
	}
}

// TestMalformedRequestsAreNoEvidence: a request that is refused before the store is called is not
// evidence of a live session. Otherwise a stolen token of an ended session could use the user's
// budget.
func TestMalformedRequestsAreNoEvidence(t *testing.T) {
	request := httptest.NewRequest(http.MethodPost, "/api/notes?limit=0", strings.NewReader(`{"tags":["","","","","","","","","","","","","","","","","","","","",""]}`))
	request.Header.Set("Idempotency-Key", "two words")
	c, _ := gin.CreateTestContext(httptest.NewRecorder())
	c.Request = request
	c.Params = gin.Params{{Key: "id", Value: "no-uuid"}}
	h := &handlers{}
	_, errID := noteID(c)
	_, errKey := idempotencyKey(c)
	_, _, errPage := pageParameters(c)
	_, errToken := h.readToken(c)
	for what, err := range map[string]error{
		"id": errID, "key": errKey, "page": errPage, "token": errToken,
		"body": decode(c, &noteBody{}), "session": h.revokeSession(c), "unknown field": decodeError(errors.New("x")),
		"slow body": decodeError(context.DeadlineExceeded), "busy": decodeError(errBusy), "busy user": decodeError(errUserBusy),
	} {
		if err == nil {
			t.Errorf("%s: no error", what)
			continue
		}
		if e := asAPIError(err); e.evidence != noEvidence || e.cause != nil {
			t.Errorf("%s: evidence %d, cause %v; want none", what, e.evidence, e.cause)
		}
	}
}
