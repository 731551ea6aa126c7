package httpapi

import (
	"context"
	"errors"
	"net/http"
	"strconv"

	"github.com/gin-gonic/gin"

	"github.com/securenotes/securenotes/app/internal/accounts"
	"github.com/securenotes/securenotes/app/internal/audit"
	"github.com/securenotes/securenotes/app/internal/envelope"
	"github.com/securenotes/securenotes/app/internal/notes"
	"github.com/securenotes/securenotes/app/internal/ratelimit"
	"github.com/securenotes/securenotes/app/internal/sessions"
	"github.com/securenotes/securenotes/app/internal/store"
)

// ownShare is the message for a user whose own requests fill the user's share of the memory.
const ownShare = "Too many large requests of yours at once, try again later"

// busy is the message when the requests of all users fill it.
const busy = "Too many large requests at once, try again later"

// loginsAway is the message when no login can be decided.
const loginsAway = "Logins are unavailable, try again later"

// retryAfter is what a 503, or a 429 for what is under way, asks a client to wait, in seconds.
const retryAfter = 5

// fail ends the request with the error body that every error has.
func fail(c *gin.Context, status int, message string) {
	switch status {
	case http.StatusUnauthorized:
		c.Header("WWW-Authenticate", "Bearer")
	case http.StatusServiceUnavailable:
		c.Header("Retry-After", strconv.Itoa(retryAfter))
	}
	c.AbortWithStatusJSON(status, gin.H{"error": message, "request_id": c.GetString(requestIDKey)})
}

// answers maps errors to statuses, first match first. The public sentence is the error's own only
// where that is written for users.
var answers = []struct {
	err     error
	status  int
	message string
}{
	{sessions.ErrInvalid, http.StatusUnauthorized, "Invalid token"},
	{sessions.ErrNotFound, http.StatusNotFound, "Session not found"},
	{accounts.ErrInvalidCredentials, http.StatusUnauthorized, accounts.ErrInvalidCredentials.Error()},
	{accounts.ErrCodeRequired, http.StatusUnauthorized, accounts.ErrCodeRequired.Error()},
	{accounts.ErrInvalidCode, http.StatusUnauthorized, accounts.ErrInvalidCode.Error()},
	{accounts.ErrSecondFactorExists, http.StatusConflict, accounts.ErrSecondFactorExists.Error()},
	{accounts.ErrNoSecondFactor, http.StatusConflict, accounts.ErrNoSecondFactor.Error()},
	{accounts.ErrUsernameTaken, http.StatusConflict, accounts.ErrUsernameTaken.Error()},
	{accounts.ErrRegistrationClosed, http.StatusForbidden, accounts.ErrRegistrationClosed.Error()},
	{accounts.ErrTooManyAccounts, http.StatusForbidden, accounts.ErrTooManyAccounts.Error()},
	{accounts.ErrBusy, http.StatusServiceUnavailable, "Too many logins at once, try again later"},
	{accounts.ErrPepperLost, http.StatusServiceUnavailable, loginsAway},
	{notes.ErrNotFound, http.StatusNotFound, "Note not found"},
	{notes.ErrIdempotencyKeyReused, http.StatusUnprocessableEntity, "The Idempotency-Key was used for another note"},
	{notes.ErrStale, http.StatusPreconditionFailed, "The note was changed meanwhile"},
	{notes.ErrInvalidContent, http.StatusBadRequest, notes.ErrInvalidContent.Error()},
	{notes.ErrInvalidTitle, http.StatusBadRequest, notes.ErrInvalidTitle.Error()},
	{notes.ErrInvalidTags, http.StatusBadRequest, notes.ErrInvalidTags.Error()},
	{envelope.ErrNotAuthentic, http.StatusInternalServerError, "Failed to decrypt note"},
	{envelope.ErrUnavailable, http.StatusServiceUnavailable, "The key service is unavailable, try again later"},
	{envelope.ErrDenied, http.StatusServiceUnavailable, "The key service is unavailable, try again later"},
	{store.ErrUnavailable, http.StatusServiceUnavailable, "The database is unavailable, try again later"},
	{store.ErrAuthentication, http.StatusServiceUnavailable, "The database is unavailable, try again later"},
	{store.ErrPermission, http.StatusServiceUnavailable, "The database is unavailable, try again later"},
	{ratelimit.ErrUnavailable, http.StatusServiceUnavailable, loginsAway},
	{errBusy, http.StatusServiceUnavailable, busy},
	{audit.ErrUnavailable, http.StatusServiceUnavailable, "The audit log cannot be written, try again later"},
	{accounts.ErrFenced, http.StatusServiceUnavailable, "A key rotation is beginning, try again later"},
	{context.DeadlineExceeded, http.StatusServiceUnavailable, "The request took too long, try again later"},
}

// failWith answers an error of the domain. What is not the client's doing is logged with its cause.
func (h *handlers) failWith(c *gin.Context, err error) {
	status, message := http.StatusInternalServerError, "Internal server error"
	var (
		invalid *accounts.InvalidError
		limited *ratelimit.LimitedError
		full    *notes.QuotaError
	)
	switch {
	case errors.As(err, &invalid):
		status, message = http.StatusBadRequest, invalid.Message
	case errors.As(err, &full):
		status, message = http.StatusForbidden, full.Message
	case errors.As(err, &limited):
		c.Header("Retry-After", strconv.Itoa(int(limited.RetryAfter.Seconds())))
		// A client that goes on needs another connection for each request.
		c.Header("Connection", "close")
		c.Set(refusedKey, true)
		status, message = http.StatusTooManyRequests, "Too many requests, try again later"
	case errors.Is(err, errOwnShare):
		c.Header("Retry-After", strconv.Itoa(retryAfter))
		status, message = http.StatusTooManyRequests, ownShare
	case errors.Is(err, ratelimit.ErrUnderWay):
		c.Header("Retry-After", strconv.Itoa(retryAfter))
		c.Header("Connection", "close")
		c.Set(refusedKey, true)
		status, message = http.StatusTooManyRequests, "Too many requests of yours at once, try again later"
	}
	for _, answer := range answers {
		if errors.Is(err, answer.err) {
			status, message = answer.status, answer.message
			break
		}
	}
	if status < http.StatusInternalServerError && !beforeProof(err) || afterProof(err) {
		c.Set(provedKey, true)
	}
	if away(err) {
		c.Set(awayKey, true)
	}
	// That the audit log is not written, it says itself: once.
	if status >= http.StatusInternalServerError && !errors.Is(err, context.Canceled) && !errors.Is(err, audit.ErrUnavailable) {
		h.failures.log(c, "request failed", err)
	}
	fail(c, status, message)
}

// away reports whether an error means that a part of the service is away, which no client can bring
// about.
func away(err error) bool {
	for _, e := range []error{
		store.ErrUnavailable, store.ErrAuthentication, store.ErrPermission, envelope.ErrUnavailable, envelope.ErrDenied,
		ratelimit.ErrUnavailable, audit.ErrUnavailable, accounts.ErrFenced, context.DeadlineExceeded,
	} {
		if errors.Is(err, e) {
			return true
		}
	}
	return false
}

// beforeProof reports whether an error of the domain tells nothing of the session, or that it has
// ended: the limits of a note are checked before anything is asked of the store.
func beforeProof(err error) bool {
	for _, e := range []error{sessions.ErrInvalid, notes.ErrInvalidContent, notes.ErrInvalidTitle, notes.ErrInvalidTags} {
		if errors.Is(err, e) {
			return true
		}
	}
	return false
}

// afterProof reports whether an error that is not the client's comes only where the session has
// proved alive.
func afterProof(err error) bool {
	return errors.Is(err, errBusy) || errors.Is(err, envelope.ErrNotAuthentic) || errors.Is(err, accounts.ErrBusy) ||
		errors.Is(err, accounts.ErrPepperLost)
}

// failReauthentication is failWith for calls that ask a user who is signed in for the password or a code: a
// wrong one is 403, because 401 would tell the client that its token is void.
func (h *handlers) failReauthentication(c *gin.Context, err error) {
	for _, wrong := range []error{accounts.ErrInvalidCredentials, accounts.ErrCodeRequired, accounts.ErrInvalidCode} {
		if errors.Is(err, wrong) {
			c.Set(provedKey, true)
			fail(c, http.StatusForbidden, wrong.Error())
			return
		}
	}
	h.failWith(c, err)
}
