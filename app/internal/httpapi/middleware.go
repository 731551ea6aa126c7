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

const (
	requestIDKey = "request-id"
	identityKey  = "identity"
	provedKey    = "session-proved"
	awayKey      = "service-away"
)

// requestID gives every request an id of our own: a client's could forge lines in a log.
func requestID(c *gin.Context) {
	id := uuid.NewString()
	c.Set(requestIDKey, id)
	c.Header("X-Request-Id", id)
}

// contentSecurityPolicy names what default-src does not cover, too: where a page may be framed, where its
// forms may go, and what its links begin with.
const contentSecurityPolicy = "default-src 'self'; script-src 'self'; object-src 'none'; base-uri 'none'; frame-ancestors 'none'; form-action 'none'"

// securityHeaders are on every answer, errors included.
func securityHeaders(c *gin.Context) { SetSecurityHeaders(c.Writer.Header()) }

// SetSecurityHeaders sets the headers that every answer has, also one that the server gives before
// the API sees the request.
func SetSecurityHeaders(h http.Header) {
	h.Set("Strict-Transport-Security", "max-age=31536000; includeSubDomains; preload")
	h.Set("X-Frame-Options", "DENY")
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("X-XSS-Protection", "1; mode=block")
	h.Set("Content-Security-Policy", contentSecurityPolicy)
	h.Set("Referrer-Policy", "no-referrer")
	h.Set("Cache-Control", "no-store")
}

// measure counts requests by route, never by path: paths hold ids.
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

// knownMethod keeps a client from making up label values.
func knownMethod(method string) string {
	switch method {
	case http.MethodGet, http.MethodHead, http.MethodPost, http.MethodPut, http.MethodDelete, http.MethodOptions:
		return method
	}
	return "other"
}

// logRequest logs each request. Those that have an audit line, or that were refused, are logged for
// debugging only.
func logRequest(log *slog.Logger) gin.HandlerFunc {
	return func(c *gin.Context) {
		start := time.Now()
		c.Next()
		level := slog.LevelInfo
		// Browsers ask before calls as often as they like, and what is refused must cost nothing.
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

// recoverPanic answers 500 and logs where it happened, but not with what: a panic's value can hold
// a note.
func (h *handlers) recoverPanic(c *gin.Context) {
	answer := c.Writer.(*heldAnswer)
	defer func() {
		if value := recover(); value != nil {
			h.failures.logWith(c, "panic", "type", fmt.Sprintf("%T", value), "stack", string(debug.Stack()))
			c.Abort()
			if answer.startOver() {
				fail(c, http.StatusInternalServerError, "Internal server error")
			}
		}
	}()
	c.Next()
}

// authenticate reads the session's token. Whether the session still lives is proved by each
// statement of the store. Who has no token is counted by address, because there is no user to count.
func (h *handlers) authenticate(c *gin.Context) {
	scheme, token, _ := strings.Cut(c.GetHeader("Authorization"), " ")
	if token == "" || !strings.EqualFold(scheme, "Bearer") {
		if h.limitAddress(c); !c.IsAborted() {
			fail(c, http.StatusUnauthorized, "Missing token")
		}
		return
	}
	identity, err := h.Tokens.Decode(token)
	if err != nil {
		if h.limitAddress(c); !c.IsAborted() {
			h.failWith(c, err)
		}
		return
	}
	c.Set(identityKey, identity)
}

func identity(c *gin.Context) sessions.Identity { return c.MustGet(identityKey).(sessions.Identity) }

// limitTime ends the work for a request that takes too long, when a part of the service is slow: the client
// learns so, and what it holds is free again.
func (h *handlers) limitTime(c *gin.Context) {
	ctx, cancel := context.WithTimeout(c.Request.Context(), h.RequestTimeout)
	defer cancel()
	c.Request = c.Request.WithContext(ctx)
	c.Next()
}

// limitAddress counts the requests of clients that are not signed in, by address.
func (h *handlers) limitAddress(c *gin.Context) {
	end, err := h.Requests.Count(c.Request.Context(), c.ClientIP())
	if err != nil {
		h.failWith(c, err)
		return
	}
	whenSent(c, end) // a client may read slowly
}

// limitUser counts a request for its user and session; one that does not prove its session alive
// counts for its address.
func (h *handlers) limitUser(c *gin.Context) { h.limitRequest(c, false) }

// limitSecurity is limitUser for the calls by which users defend their account: they have a budget
// of their own, which a stolen token's other requests cannot use up.
func (h *handlers) limitSecurity(c *gin.Context) { h.limitRequest(c, true) }

func (h *handlers) limitRequest(c *gin.Context, security bool) {
	id := identity(c)
	begun, err := h.Requests.Begin(c.Request.Context(), ratelimit.Request{
		User: id.Owner, Session: id.Session, Address: c.ClientIP(), Security: security,
	})
	if err != nil {
		h.failWith(c, err)
		return
	}
	outcome := ratelimit.Unproved // should the handler panic
	// It is under way until its answer has been sent: a client may read slowly.
	whenSent(c, func() {
		if err := begun.End(outcome); err != nil {
			h.failures.log(c, "a request was not counted", err)
		}
	})
	c.Next()
	outcome = provedBy(c)
}

// provedBy returns what a request that has been answered has shown of its session. Whatever a
// client can provoke counts; only where a part of the service was away, nobody is to blame.
func provedBy(c *gin.Context) ratelimit.Outcome {
	switch {
	case c.GetBool(provedKey), c.Writer.Status() < http.StatusBadRequest:
		return ratelimit.Proved
	case c.GetBool(awayKey) && !errors.Is(c.Request.Context().Err(), context.Canceled):
		return ratelimit.Unknown
	}
	return ratelimit.Unproved
}
