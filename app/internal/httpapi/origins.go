package httpapi

import (
	"fmt"
	"net/http"
	"strings"
	"time"

	"github.com/gin-contrib/cors"
	"github.com/gin-gonic/gin"
)

// errForeignOrigin refuses requests from pages of web origins that are not listed.
var errForeignOrigin = &apiError{
	status: http.StatusForbidden, message: "Web pages of this origin may not call the API: cors.allowedOrigins does not list it", refused: true,
}

// allowOrigins answers browsers for the listed origins (Fetch standard, CORS protocol). Tokens are
// sent in a header, so no credentials are allowed.
func (h *handlers) allowOrigins(origins []string) gin.HandlerFunc {
	answer := cors.New(cors.Config{
		AllowOrigins: origins,
		// It is called for an origin that is not listed. cors itself would answer without a body.
		AllowOriginWithContextFunc: func(c *gin.Context, _ string) bool {
			h.fail(c, errForeignOrigin)
			return false
		},
		AllowMethods:  []string{http.MethodGet, http.MethodPost, http.MethodPut, http.MethodDelete},
		AllowHeaders:  []string{"Authorization", "Content-Type", "If-Match", "Idempotency-Key"},
		ExposeHeaders: []string{"ETag", "Idempotent-Replayed", "Location", "Retry-After", "X-Request-Id"},
		MaxAge:        time.Hour,
	})
	return func(c *gin.Context) {
		// The service's own pages need no permission. cors would compare their origin with the Host
		// header, which a proxy may have changed. Pages cannot set Sec-Fetch-Site.
		if c.GetHeader("Sec-Fetch-Site") != "same-origin" {
			answer(c)
		}
	}
}

// withoutDefaultPort returns the origins in the form that browsers send: without the port of HTTPS.
func withoutDefaultPort(origins []string) []string {
	sent := make([]string, len(origins))
	for i, origin := range origins {
		sent[i] = strings.TrimSuffix(origin, ":443")
	}
	return sent
}

// refuseForeignOrigins refuses requests that browsers send for pages of origins that are not
// listed. CORS does not prevent simple requests: they would fail, and use up the failed logins of
// the visitor's address. Clients other than browsers send no origin and are let through.
func refuseForeignOrigins(allowed []string) (func(*gin.Context) error, error) {
	protection := http.NewCrossOriginProtection()
	for _, origin := range allowed {
		if err := protection.AddTrustedOrigin(origin); err != nil {
			return nil, fmt.Errorf("allowed origins: %w", err)
		}
	}
	return func(c *gin.Context) error {
		if protection.Check(c.Request) != nil {
			return errForeignOrigin
		}
		return nil
	}, nil
}
