// Package httpapi is the notes service's HTTPS API: it decodes, validates, authenticates, calls the
// domain and renders, in that order, and turns every error into one JSON answer.
package httpapi

import (
	"fmt"
	"log/slog"
	"net/http"
	"time"

	"github.com/gin-gonic/gin"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/securenotes/securenotes/app/internal/accounts"
	"github.com/securenotes/securenotes/app/internal/audit"
	"github.com/securenotes/securenotes/app/internal/notes"
	"github.com/securenotes/securenotes/app/internal/ratelimit"
	"github.com/securenotes/securenotes/app/internal/sessions"
)

// Service is what the API serves.
type Service struct {
	Accounts *accounts.Service
	Notes    *notes.Service
	Tokens   *sessions.Codec
	Requests *ratelimit.Requests
	Audit    *audit.Log
	// RequestTimeout bounds the work for one request, but for exports.
	RequestTimeout time.Duration
	// TrustedProxies are the networks whose X-Forwarded-For is believed.
	TrustedProxies []string
	// AllowedOrigins are the web origins that may call the API.
	AllowedOrigins []string
	Log            *slog.Logger
	Metrics        prometheus.Registerer
}

// NewHandler returns the API's handler.
func NewHandler(s Service) (http.Handler, error) {
	engine, err := newEngine(s.TrustedProxies)
	if err != nil {
		return nil, err
	}
	measured, err := measure(s.Metrics)
	if err != nil {
		return nil, err
	}
	api := &handlers{
		Service: s, exports: newExports(time.Now), bodies: newPool(maxLarge, maxUserLarge), answers: newPool(maxLarge, maxUserLarge),
		failures: newFailures(s.Log),
	}
	shared, err := newSharedAddresses(s.Log, s.Metrics, time.Now)
	if err != nil {
		return nil, err
	}
	engine.Use(requestID, securityHeaders, measured, logRequest(s.Log), api.delivered, api.recoverPanic, shared.watch)
	origins := asSent(s.AllowedOrigins)
	if len(origins) > 0 {
		engine.Use(allowOrigins(origins))
	}
	ownOrigins, err := refuseForeignOrigins(origins)
	if err != nil {
		return nil, err
	}
	engine.Use(ownOrigins)
	engine.NoRoute(api.limitAddress, func(c *gin.Context) { fail(c, http.StatusNotFound, "Not found") })
	engine.NoMethod(api.limitAddress, func(c *gin.Context) { fail(c, http.StatusMethodNotAllowed, "Method not allowed") })

	anonymous := engine.Group("/api", api.limitTime, limitBody, api.limitAddress)
	anonymous.POST("/auth/register", api.register)
	anonymous.POST("/auth/login", api.login)
	get(anonymous, "/openapi.yaml", openAPI)
	page := engine.Group("/docs", api.limitTime, limitBody, api.limitAddress)
	get(page, "", docs)
	get(page, "/style.css", docsCSS)
	security := engine.Group("/api", api.limitTime, limitBody, api.authenticate, api.limitSecurity)
	security.POST("/auth/logout", api.logout)
	security.POST("/auth/password", api.changePassword)
	get(security, "/auth/sessions", api.listSessions)
	security.DELETE("/auth/sessions/:id", api.revokeSession)
	get(security, "/auth/totp", api.secondFactorStatus)
	security.POST("/auth/totp", api.proposeSecondFactor)
	security.POST("/auth/totp/confirm", api.confirmSecondFactor)
	security.DELETE("/auth/totp", api.removeSecondFactor)
	security.DELETE("/account", api.deleteAccount)
	withNote := engine.Group("/api", api.limitTime, api.authenticate, api.limitUser, api.limitNote)
	withNote.POST("/notes", api.createNote)
	withNote.PUT("/notes/:id", api.updateNote)
	signedIn := engine.Group("/api", api.limitTime, limitBody, api.authenticate, api.limitUser)
	get(signedIn, "/notes", api.listNotes)
	get(signedIn, "/notes/:id", api.getNote)
	signedIn.DELETE("/notes/:id", api.deleteNote)
	export := engine.Group("/api", limitBody, api.authenticate, api.limitUser)
	get(export, "/account/export", api.exportAccount)
	return engine, nil
}

// get adds a route for GET, and for HEAD, which has the same answer without its body (RFC 9110,
// section 9.3.2).
func get(group *gin.RouterGroup, path string, handler gin.HandlerFunc) {
	group.GET(path, handler)
	group.HEAD(path, handler)
}

// newEngine returns a router without routes, in which [gin.Context.ClientIP] is the client's
// address.
func newEngine(trustedProxies []string) (*gin.Engine, error) {
	gin.SetMode(gin.ReleaseMode)
	engine := gin.New()
	// gin trusts every proxy's X-Forwarded-For unless told otherwise, and X-Real-IP beside it.
	engine.RemoteIPHeaders = []string{forwardedFor}
	if err := engine.SetTrustedProxies(trustedProxies); err != nil {
		return nil, fmt.Errorf("trusted proxies: %w", err)
	}
	engine.HandleMethodNotAllowed = true
	engine.RedirectTrailingSlash = false
	engine.ContextWithFallback = true
	engine.Use(plainAddresses)
	return engine, nil
}

type handlers struct {
	Service
	// exports are those under way.
	exports *exports
	// bodies and answers are bytes of requests under way.
	bodies, answers *pool
	failures        *failures
}
