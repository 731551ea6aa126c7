// Package httpapi is the notes service's HTTPS API.
//
// Middleware limits and authenticates a request; the groups in handlers.addRoutes show in which
// order. A handler then decodes the body, validates what the domain does not, calls the domain and
// renders the answer, in that order. The domain authorizes: each of its statements finds only what
// belongs to the user of a live session. An error that a handler returns is answered in one place,
// handlers.fail; errors.go has the answers. deliver writes the audit line before any answer is
// sent.
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
	// Epoch is that of the database, which entity tags contain. It is empty until the first
	// restore.
	Epoch string
	// RequestTimeout bounds the work for one request other than an export.
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
	api := &handlers{
		Service: s, exports: newExports(time.Now), bodies: newPool(maxLarge, maxUserLarge), answers: newPool(maxLarge, maxUserLarge),
		failures: newFailures(s.Log),
	}
	engine, err := newEngine(s.TrustedProxies)
	if err != nil {
		return nil, err
	}
	if err := api.useEverywhere(engine); err != nil {
		return nil, err
	}
	api.addRoutes(engine)
	return engine, nil
}

// useEverywhere adds the middleware of all requests, in the order in which it runs.
func (h *handlers) useEverywhere(engine *gin.Engine) error {
	measured, err := measure(h.Metrics)
	if err != nil {
		return err
	}
	shared, err := newSharedAddresses(h.Log, h.Metrics, time.Now)
	if err != nil {
		return err
	}
	origins := withoutDefaultPort(h.AllowedOrigins)
	refuseForeign, err := refuseForeignOrigins(origins)
	if err != nil {
		return err
	}
	engine.Use(requestID, securityHeaders, measured, logRequest(h.Log), h.deliver, h.recoverPanic, shared.watch)
	if len(origins) > 0 {
		engine.Use(h.allowOrigins(origins))
	}
	engine.Use(h.handle(refuseForeign))
	return nil
}

// addRoutes adds the routes, in groups with the same limits.
func (h *handlers) addRoutes(engine *gin.Engine) {
	var (
		limitAddress  = h.handle(h.limitAddress)
		authenticate  = h.handle(h.authenticate)
		limitUser     = h.handle(h.limitUser)
		limitSecurity = h.handle(h.limitSecurity)
		limitNote     = h.handle(h.limitNote)
	)
	engine.NoRoute(limitAddress, h.handle(func(*gin.Context) error { return notFound("Not found") }))
	engine.NoMethod(limitAddress, h.handle(func(*gin.Context) error {
		return &apiError{status: http.StatusMethodNotAllowed, message: "Method not allowed"}
	}))

	public := engine.Group("/", h.limitTime, limitBody, limitAddress)
	public.POST("/api/auth/register", h.handle(h.register))
	public.POST("/api/auth/login", h.handle(h.login))
	get(public, "/api/openapi.yaml", openAPI)
	get(public, "/docs", docs)
	get(public, "/docs/style.css", docsCSS)

	security := engine.Group("/api", h.limitTime, limitBody, authenticate, limitSecurity)
	security.POST("/auth/logout", h.handle(h.logout))
	security.POST("/auth/password", h.handle(h.changePassword))
	get(security, "/auth/sessions", h.handle(h.listSessions))
	security.DELETE("/auth/sessions/:id", h.handle(h.revokeSession))
	get(security, "/auth/totp", h.handle(h.secondFactorStatus))
	security.POST("/auth/totp", h.handle(h.proposeSecondFactor))
	security.POST("/auth/totp/confirm", h.handle(h.confirmSecondFactor))
	security.DELETE("/auth/totp", h.handle(h.removeSecondFactor))
	security.DELETE("/account", h.handle(h.deleteAccount))

	noteBodies := engine.Group("/api", h.limitTime, authenticate, limitUser, limitNote)
	noteBodies.POST("/notes", h.handle(h.createNote))
	noteBodies.PUT("/notes/:id", h.handle(h.updateNote))

	user := engine.Group("/api", h.limitTime, limitBody, authenticate, limitUser)
	get(user, "/notes", h.handle(h.listNotes))
	get(user, "/notes/:id", h.handle(h.getNote))
	user.DELETE("/notes/:id", h.handle(h.deleteNote))

	export := engine.Group("/api", limitBody, authenticate, limitUser) // without limitTime
	get(export, "/account/export", h.handle(h.exportAccount))
}

// get adds a route for GET, and for HEAD, whose answer is the same without the body (RFC 9110,
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
	// By default gin trusts X-Forwarded-For and X-Real-IP of every peer.
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
	exports *exports
	// bodies and answers are the memory for large ones.
	bodies, answers *pool
	failures        *failures
}
