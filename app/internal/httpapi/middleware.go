package httpapi

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"runtime/debug"
	"strconv"
	"strings"
	"time"

	"github.com/gin-gonic/gin"
	"github.com/google/uuid"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/securenotes/securenotes/app/internal/ratelimit"
	"github.com/securenotes/securenotes/app/internal/sessions"
)

// Keys of values in gin's context.
const (
	requestIDKey   = "request-id"
	identityKey    = "identity"
	sessionLiveKey = "session-live"
	serviceDownKey = "service-down"
)

// requestID gives every request a new id. A client's own id could forge lines in a log.
func requestID(c *gin.Context) {
	id := uuid.NewString()
	c.Set(requestIDKey, id)
	c.Header("X-Request-Id", id)
}

// contentSecurityPolicy has directives that default-src does not cover: who may frame a page, where
// its forms may be sent, and its base URL.
const contentSecurityPolicy = "default-src 'self'; script-src 'self'; object-src 'none'; base-uri 'none'; frame-ancestors 'none'; form-action 'none'"

// securityHeaders sets the headers that every answer has, errors included.
func securityHeaders(c *gin.Context) { SetSecurityHeaders(c.Writer.Header()) }

// SetSecurityHeaders sets the headers that every answer has. Package server uses it for requests
// that it refuses before the API sees them.
func SetSecurityHeaders(h http.Header) {
	h.Set("Strict-Transport-Security", "max-age=31536000; includeSubDomains; preload")
	h.Set("X-Frame-Options", "DENY")
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("X-XSS-Protection", "1; mode=block")
	h.Set("Content-Security-Policy", contentSecurityPolicy)
	h.Set("Referrer-Policy", "no-referrer")
	h.Set("Cache-Control", "no-store")
}

// measure records the duration of requests by route, never by path: paths contain ids.
func measure(registry prometheus.Registerer) (gin.HandlerFunc, error) {
	duration := prometheus.NewHistogramVec(prometheus.HistogramOpts{
		Name: "securenotes_http_request_duration_seconds", Help: "Time to answer requests, by route and status.",
		Buckets: []float64{.001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10},
	}, []string{"route", "method", "code"})
	if err := registry.Register(duration); err != nil {
		return nil, fmt.Errorf("metrics: %w", err)
	}
	return func(c *gin.Context) {
		start := time.Now()
		c.Next()
		duration.WithLabelValues(route(c), knownMethod(c.Request.Method), strconv.Itoa(c.Writer.Status())).
			Observe(time.Since(start).Seconds())
	}, nil
}

func route(c *gin.Context) string {
	if path := c.FullPath(); path != "" {
		return path
	}
	return "none"
}

// knownMethod keeps clients from inventing label values.
func knownMethod(method string) string {
	switch method {
	case http.MethodGet, http.MethodHead, http.MethodPost, http.MethodPut, http.MethodDelete, http.MethodOptions:
		return method
	}
	return "other"
}

// logRequest logs each request, at level debug if it has an audit line or was refused.
func logRequest(log *slog.Logger) gin.HandlerFunc {
	return func(c *gin.Context) {
		start := time.Now()
		c.Next()
		level := slog.LevelInfo
		// Browsers send preflight requests (OPTIONS) as often as they like, and refusals must cost
		// little.
		if _, audited := auditedAs(c); audited || c.GetBool(refusedKey) || c.Request.Method == http.MethodOptions {
			level = slog.LevelDebug
		}
		if !log.Enabled(c.Request.Context(), level) {
			return
		}
		log.Log(c.Request.Context(), level, "request", "route", route(c), "method", knownMethod(c.Request.Method), "status", c.Writer.Status(),
			"duration", time.Since(start).Round(time.Microsecond).String(), "client", c.ClientIP(), "request_id", c.GetString(requestIDKey))
	}
}

// recoverPanic answers 500 and logs the stack of a panic, but not its value, which can contain a
// note.
func (h *handlers) recoverPanic(c *gin.Context) {
	answer := c.Writer.(*heldAnswer)
	defer func() {
		if value := recover(); value != nil {
			h.failures.logWith(c, "panic", "type", fmt.Sprintf("%T", value), "stack", string(debug.Stack()))
			c.Abort()
			if answer.reset() {
				h.fail(c, &apiError{status: http.StatusInternalServerError, message: internalMessage})
			}
		}
	}()
	c.Next()
}

// authenticate reads the session's token. Each statement of the store checks that the session is
// live. A request without a valid token counts for its address, because its user is unknown.
func (h *handlers) authenticate(c *gin.Context) error {
	id, err := h.readToken(c)
	if err != nil {
		if limited := h.limitAddress(c); limited != nil {
			return limited
		}
		return err
	}
	c.Set(identityKey, id)
	return nil
}

// readToken returns the identity in the request's token. Errors: also sessions.ErrInvalid.
func (h *handlers) readToken(c *gin.Context) (sessions.Identity, error) {
	scheme, token, _ := strings.Cut(c.GetHeader("Authorization"), " ")
	if token == "" || !strings.EqualFold(scheme, "Bearer") {
		return sessions.Identity{}, &apiError{status: http.StatusUnauthorized, message: "Missing token"}
	}
	return h.Tokens.Decode(token)
}

func identity(c *gin.Context) sessions.Identity { return c.MustGet(identityKey).(sessions.Identity) }

// limitTime bounds the work for a request while a part of the service is slow. The client gets an
// answer, and the memory of the request is released.
func (h *handlers) limitTime(c *gin.Context) {
	ctx, cancel := context.WithTimeout(c.Request.Context(), h.RequestTimeout)
	defer cancel()
	c.Request = c.Request.WithContext(ctx)
	c.Next()
}

// limitAddress limits the requests of clients that are not signed in, by address.
func (h *handlers) limitAddress(c *gin.Context) error {
	end, err := h.Requests.Count(c.Request.Context(), c.ClientIP())
	if err != nil {
		return err
	}
	whenSent(c, end) // the client may read slowly
	return nil
}

// limitUser limits the requests of a user and of a session. A request that gives no evidence of a
// live session counts for its address.
func (h *handlers) limitUser(c *gin.Context) error { return h.limitRequest(c, false) }

// limitSecurity is limitUser for the calls by which users defend their account. They have a
// separate budget, which other requests with a stolen token cannot use up.
func (h *handlers) limitSecurity(c *gin.Context) error { return h.limitRequest(c, true) }

func (h *handlers) limitRequest(c *gin.Context, security bool) error {
	id := identity(c)
	request, err := h.Requests.Begin(c.Request.Context(), ratelimit.Request{
		User: id.Owner, Session: id.Session, Address: c.ClientIP(), Security: security,
	})
	if err != nil {
		return err
	}
	outcome := ratelimit.Unproved // if the handler panics
	// The request is in flight until its answer has been sent: the client may read slowly.
	whenSent(c, func() {
		if err := request.End(outcome); err != nil {
			h.failures.log(c, "a request was not counted", err)
		}
	})
	c.Next()
	outcome = sessionOutcome(c)
	return nil
}

// sessionOutcome returns what an answered request has shown of its session. An error counts against
// the client, unless a part of the service was unavailable.
func sessionOutcome(c *gin.Context) ratelimit.Outcome {
	switch {
	case c.GetBool(sessionLiveKey), c.Writer.Status() < http.StatusBadRequest:
		return ratelimit.Proved
	case c.GetBool(serviceDownKey) && !errors.Is(c.Request.Context().Err(), context.Canceled):
		return ratelimit.Unknown
	}
	return ratelimit.Unproved
}
