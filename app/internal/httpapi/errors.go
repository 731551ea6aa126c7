package httpapi

import (
	"context"
	"errors"
	"net/http"
	"strconv"
	"time"

	"github.com/gin-gonic/gin"

	"github.com/securenotes/securenotes/app/internal/accounts"
	"github.com/securenotes/securenotes/app/internal/audit"
	"github.com/securenotes/securenotes/app/internal/envelope"
	"github.com/securenotes/securenotes/app/internal/notes"
	"github.com/securenotes/securenotes/app/internal/ratelimit"
	"github.com/securenotes/securenotes/app/internal/sessions"
	"github.com/securenotes/securenotes/app/internal/store"
)

// apiError is an error with its answer. The message is for the client, and the cause for the log.
type apiError struct {
	status  int
	message string
	// cause is nil if there is nothing to log.
	cause error
	// retryAfter is how long the client is asked to wait; zero means the default of the status.
	retryAfter time.Duration
	// closeConnection makes the client use another connection for its next request.
	closeConnection bool
	// refused means that a limit, or the check of the web origin, has refused the request. Such
	// requests may come by the thousand, so that they are counted in the audit log, and not logged
	// one by one.
	refused bool
	// evidence is what the error shows of the request's session.
	evidence evidence
}

// Error implements error.
func (e *apiError) Error() string {
	if e.cause != nil {
		return e.cause.Error()
	}
	return e.message
}

// Unwrap returns the cause.
func (e *apiError) Unwrap() error { return e.cause }

// evidence is what an error shows of the request's session.
type evidence int

const (
	// noEvidence means that the session was not checked, or is not live.
	noEvidence evidence = iota
	// sessionLive means that the error occurs only after the session was found live.
	sessionLive
	// serviceDown means that a part of the service is unavailable, which no client can cause.
	serviceDown
)

// Messages for clients that several errors share.
const (
	internalMessage   = "Internal server error"
	keysMessage       = "The key service is unavailable, try again later"
	databaseMessage   = "The database is unavailable, try again later"
	loginsMessage     = "Logins are unavailable, try again later"
	userMemoryMessage = "You have too many large requests in progress, try again later"
	memoryMessage     = "Too many large requests in progress, try again later"
)

// defaultRetryAfter is how long a 503, or a 429 for requests in progress, asks a client to wait.
const defaultRetryAfter = 5 * time.Second

// answers are the answers to the errors of the domain. The first one that matches is taken.
var answers = []struct {
	err      error
	status   int
	message  string
	evidence evidence
}{
	{sessions.ErrInvalid, http.StatusUnauthorized, "Invalid token", noEvidence},
	{sessions.ErrNotFound, http.StatusNotFound, "Session not found", sessionLive},
	{accounts.ErrInvalidCredentials, http.StatusUnauthorized, "Invalid credentials", sessionLive},
	{accounts.ErrCodeRequired, http.StatusUnauthorized, "Second factor code required", sessionLive},
	{accounts.ErrInvalidCode, http.StatusUnauthorized, "Invalid code", sessionLive},
	{accounts.ErrSecondFactorExists, http.StatusConflict, "A second factor is set up already", sessionLive},
	{accounts.ErrNoSecondFactor, http.StatusConflict, "No second factor is set up", sessionLive},
	{accounts.ErrUsernameTaken, http.StatusConflict, "Username already exists", sessionLive},
	{accounts.ErrRegistrationClosed, http.StatusForbidden, "Registration is closed", sessionLive},
	{accounts.ErrTooManyAccounts, http.StatusForbidden, "The maximum number of accounts is reached", sessionLive},
	{accounts.ErrBusy, http.StatusServiceUnavailable, "Too many logins in progress, try again later", sessionLive},
	{accounts.ErrPepperLost, http.StatusServiceUnavailable, loginsMessage, sessionLive},
	{notes.ErrNotFound, http.StatusNotFound, "Note not found", sessionLive},
	{notes.ErrIdempotencyKeyReused, http.StatusUnprocessableEntity, "The Idempotency-Key was used for another note", sessionLive},
	{notes.ErrStale, http.StatusPreconditionFailed, "The note was changed by another request", sessionLive},
	// The limits of a note are checked before its session.
	{notes.ErrInvalidContent, http.StatusBadRequest, "Invalid note content", noEvidence},
	{notes.ErrInvalidTitle, http.StatusBadRequest, "Invalid note title", noEvidence},
	{notes.ErrInvalidTags, http.StatusBadRequest, "Invalid note tags", noEvidence},
	{envelope.ErrNotAuthentic, http.StatusInternalServerError, "Failed to decrypt note", sessionLive},
	{envelope.ErrUnavailable, http.StatusServiceUnavailable, keysMessage, serviceDown},
	{envelope.ErrDenied, http.StatusServiceUnavailable, keysMessage, serviceDown},
	{store.ErrUnavailable, http.StatusServiceUnavailable, databaseMessage, serviceDown},
	{store.ErrAuthentication, http.StatusServiceUnavailable, databaseMessage, serviceDown},
	{store.ErrPermission, http.StatusServiceUnavailable, databaseMessage, serviceDown},
	{store.ErrRestored, http.StatusServiceUnavailable, databaseMessage, serviceDown},
	{ratelimit.ErrUnavailable, http.StatusServiceUnavailable, loginsMessage, serviceDown},
	{errBusy, http.StatusServiceUnavailable, memoryMessage, sessionLive},
	{audit.ErrUnavailable, http.StatusServiceUnavailable, "The audit log cannot be written, try again later", serviceDown},
	{accounts.ErrFenced, http.StatusServiceUnavailable, "A key rotation has started, try again later", serviceDown},
	{context.DeadlineExceeded, http.StatusServiceUnavailable, "The request took too long, try again later", serviceDown},
}

// asAPIError returns the answer to an error. The client's own errors have no cause to log.
func asAPIError(err error) *apiError {
	if e, ok := errors.AsType[*apiError](err); ok {
		return e
	}
	e := answerTo(err)
	// The audit log reports by itself that it cannot be written.
	if e.status >= http.StatusInternalServerError && !errors.Is(err, context.Canceled) && !errors.Is(err, audit.ErrUnavailable) {
		e.cause = err
	}
	return &e
}

func answerTo(err error) apiError {
	for _, a := range answers {
		if errors.Is(err, a.err) {
			return apiError{status: a.status, message: a.message, evidence: a.evidence}
		}
	}
	if invalid, ok := errors.AsType[*accounts.InvalidError](err); ok {
		return apiError{status: http.StatusBadRequest, message: invalid.Message, evidence: sessionLive}
	}
	if exceeded, ok := errors.AsType[*notes.QuotaError](err); ok {
		return apiError{status: http.StatusForbidden, message: exceeded.Message, evidence: sessionLive}
	}
	if limited, ok := errors.AsType[*ratelimit.LimitedError](err); ok {
		return apiError{
			status: http.StatusTooManyRequests, message: "Too many requests, try again later", retryAfter: limited.RetryAfter,
			closeConnection: true, refused: true, evidence: sessionLive,
		}
	}
	switch {
	case errors.Is(err, errUserBusy):
		return apiError{status: http.StatusTooManyRequests, message: userMemoryMessage, retryAfter: defaultRetryAfter, evidence: sessionLive}
	case errors.Is(err, ratelimit.ErrTooManyInFlight):
		return apiError{
			status: http.StatusTooManyRequests, message: "You have too many requests in progress, try again later", retryAfter: defaultRetryAfter,
			closeConnection: true, refused: true, evidence: sessionLive,
		}
	}
	return apiError{status: http.StatusInternalServerError, message: internalMessage}
}

// reauthenticationError returns the error of a call that asks a signed-in user for the password or
// a code. A wrong one is 403, because 401 would tell the client that its token is invalid.
func reauthenticationError(err error) error {
	for _, wrong := range []error{accounts.ErrInvalidCredentials, accounts.ErrCodeRequired, accounts.ErrInvalidCode} {
		if errors.Is(err, wrong) {
			e := answerTo(err)
			e.status = http.StatusForbidden
			return &e
		}
	}
	return err
}

func badRequest(message string) error {
	return &apiError{status: http.StatusBadRequest, message: message}
}

func notFound(message string) error {
	return &apiError{status: http.StatusNotFound, message: message}
}

// handle returns the gin handler that answers with the error of f, if it returns one.
func (h *handlers) handle(f func(*gin.Context) error) gin.HandlerFunc {
	return func(c *gin.Context) {
		if err := f(c); err != nil {
			h.fail(c, err)
		}
	}
}

// fail ends the request with the answer to an error. Every error has the same form of body.
func (h *handlers) fail(c *gin.Context, err error) {
	e := asAPIError(err)
	switch e.evidence {
	case sessionLive:
		c.Set(sessionLiveKey, true)
	case serviceDown:
		c.Set(serviceDownKey, true)
	case noEvidence:
	}
	if e.refused {
		c.Set(refusedKey, true)
	}
	if e.cause != nil {
		h.failures.log(c, "request failed", e.cause)
	}
	retryAfter := e.retryAfter
	if e.status == http.StatusServiceUnavailable && retryAfter == 0 {
		retryAfter = defaultRetryAfter
	}
	if retryAfter > 0 {
		c.Header("Retry-After", strconv.Itoa(int(retryAfter.Seconds())))
	}
	if e.closeConnection {
		c.Header("Connection", "close")
	}
	if e.status == http.StatusUnauthorized {
		c.Header("WWW-Authenticate", "Bearer")
	}
	c.AbortWithStatusJSON(e.status, gin.H{"error": e.message, "request_id": c.GetString(requestIDKey)})
}
